"""YAML files that people write, read into records; every mistake in one is told with its file, line and key."""
