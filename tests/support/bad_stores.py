"""A store on disk with a planted bug, for processes that must be able to import it."""

from __future__ import annotations

import time
from pathlib import Path

from typing_extensions import override

from registry import FileModelStore
from registry.store import AlreadyExistsError


class CheckThenWriteFolder(FileModelStore):
    """Looks whether a key is free, and then writes: what fsspec's local file system does."""

    @override
    def create(self, key: str, data: bytes) -> None:
        if Path(self.root, key).exists():
            raise AlreadyExistsError(f"{key} exists already and is never overwritten.")
        time.sleep(0.0005)
        self.replace(key, data)
