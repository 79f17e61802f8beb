"""Prefect flows: they compose tasks, and hold neither classes nor logic of the domain."""
