"""Bytes in this process's memory, for tests and for trying things; gone when the process ends."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NoReturn

from typing_extensions import override

from registry import clock
from registry.errors import InvalidInputError
from registry.store.contract import CHUNK_BYTES, AlreadyExistsError, ModelStore, check_key

_numbers = itertools.count(1)
_named: dict[str, InMemoryModelStore] = {}
_naming = threading.Lock()


class InMemoryModelStore(ModelStore):
    """A dict and a lock; thread-safe, and empty in every new process."""

    def __init__(self, name: str | None = None) -> None:
        """Make a store of its own; ``named`` gives the one that a ``memory://NAME`` URL stands for."""
        self.url = f"memory://{name or f'unnamed-{next(_numbers)}'}"
        self._bytes: dict[str, bytes] = {}
        self._written: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> NoReturn:
        raise InvalidInputError(
            f"{self.url} lies in the memory of this process, and no other process can open it: keep the registry in a "
            f"folder or a bucket to share it."
        )

    @classmethod
    def named(cls, name: str) -> InMemoryModelStore:
        """Return the one store of this process that has this name."""
        with _naming:
            return _named.setdefault(name, cls(name))

    @override
    def read(self, key: str) -> bytes:
        try:
            return self._bytes[check_key(key)]
        except KeyError:
            raise FileNotFoundError(f"{self.url}/{key}") from None

    @override
    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self._bytes.get(check_key(key)) for key in keys]

    @override
    def create(self, key: str, data: bytes) -> None:
        with self._lock:
            if check_key(key) in self._bytes:
                raise AlreadyExistsError(f"{self.url}/{key} exists already and is never overwritten.")
            self._set(key, data)

    @override
    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        self.create(key, b"".join(chunks))

    @override
    def replace(self, key: str, data: bytes) -> None:
        with self._lock:
            self._set(check_key(key), data)

    @override
    def list(self, prefix: str) -> list[str]:
        folder = f"{check_key(prefix)}/" if prefix else ""
        with self._lock:
            return sorted(key for key in self._bytes if key.startswith(folder))

    @override
    def delete(self, key: str) -> None:
        with self._lock:
            self._bytes.pop(check_key(key), None)

    @override
    def chunks(self, key: str) -> Iterator[bytes]:
        data = self.read(key)
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]

    @override
    def modified(self, key: str) -> datetime:
        with self._lock:
            if check_key(key) not in self._bytes:
                raise FileNotFoundError(f"{self.url}/{key}")
            return self._written[key]

    def _set(self, key: str, data: bytes) -> None:
        self._bytes[key] = bytes(data)
        self._written[key] = clock.now()
