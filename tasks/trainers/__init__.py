"""Trainers that come with modelway; each is a function that a pipeline file can name."""
