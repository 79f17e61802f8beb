"""Stores with a bug each, to be put between a registry and a good store: what the harnesses of faults must find."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from registry.errors import StoreError
from registry.store import AlreadyExistsError, InMemoryModelStore, ModelStore
from registry.store.contract import check_key

RECORD = re.compile(r"models/.*/log/\d{12}\.json")


class Passing(ModelStore):
    """A store that passes every call on; each bug is one method that does not."""

    def __init__(self, inner: ModelStore) -> None:
        """Take the good store."""
        self.inner, self.url = inner, inner.url

    def read(self, key: str) -> bytes:
        return self.inner.read(key)

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return self.inner.read_many(keys)

    def create(self, key: str, data: bytes) -> None:
        self.inner.create(key, data)

    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        self.inner.upload(key, chunks)

    def replace(self, key: str, data: bytes) -> None:
        self.inner.replace(key, data)

    def list(self, prefix: str) -> list[str]:
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def chunks(self, key: str) -> Iterator[bytes]:
        return self.inner.chunks(key)


class OverwritingCreate(Passing):
    """Create does not look: what object stores do when the precondition is forgotten, or ignored by the server."""

    def create(self, key: str, data: bytes) -> None:
        self.inner.replace(key, data)

    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        self.inner.replace(key, b"".join(chunks))


class CheckThenWrite(Passing):
    """Create looks first and writes then: another may write in between."""

    def create(self, key: str, data: bytes) -> None:
        if self.inner.read_many([check_key(key)]) != [None]:
            raise AlreadyExistsError(key)
        self.inner.replace(key, data)

    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        self.create(key, b"".join(chunks))


class SuccessAssumed(Passing):
    """A record whose answer was lost is taken for written, and not looked for."""

    def create(self, key: str, data: bytes) -> None:
        try:
            self.inner.create(key, data)
        except StoreError:
            if not RECORD.fullmatch(key):
                raise


class ReferenceBeforeBlob(Passing):
    """The files of a version are held back until the record that refers to them is written."""

    def __init__(self, inner: ModelStore) -> None:
        """Take the good store; nothing is held back yet."""
        super().__init__(inner)
        self._held: dict[str, bytes] = {}

    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        if self.inner.read_many([key]) != [None]:
            raise AlreadyExistsError(key)
        self._held[key] = b"".join(chunks)

    def create(self, key: str, data: bytes) -> None:
        self.inner.create(key, data)
        if RECORD.fullmatch(key) and b'"registered"' in data:
            for blob in list(self._held):
                self.inner.create(blob, self._held.pop(blob))

    def chunks(self, key: str) -> Iterator[bytes]:
        return iter([self._held[key]]) if key in self._held else self.inner.chunks(key)


def overwriting_memory() -> ModelStore:
    """Return an empty store in memory whose create overwrites."""
    return OverwritingCreate(InMemoryModelStore())
