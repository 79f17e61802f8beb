"""Where bytes lie: the ``ModelStore`` contract and its backends."""

from registry.store.contract import AlreadyExistsError, ModelStore
from registry.store.local import FileModelStore
from registry.store.memory import InMemoryModelStore
from registry.store.open import open_store

__all__ = ["AlreadyExistsError", "FileModelStore", "InMemoryModelStore", "ModelStore", "open_store"]
