"""``ModelRegistry``: all verbs of the registry in one class."""

from __future__ import annotations

from registry.deleting import Deleting
from registry.keeping import Keeping
from registry.running import Running
from registry.store import InMemoryModelStore


class ModelRegistry(Keeping, Deleting, Running):
    """A model registry over a folder or a bucket, with no server of its own.

    Any number of registries, threads and processes may work on one location at once. Every verb checks everything first
    and then writes once; see each verb for what it gives and raises.
    """


class InMemoryRegistry(ModelRegistry):
    """A registry in this process's memory, for tests and for trying things."""

    def __init__(self) -> None:
        """Make an empty registry that is gone with this process."""
        super().__init__(store=InMemoryModelStore())
