"""The contract of a store: a few calls on keys, of which one, ``create``, decides everything.

Rules that every backend keeps:
- A key is a relative path of ``/``-separated parts; none is empty, ``.`` or ``..``.
- ``create`` and ``upload`` are exclusive and atomic: of any number of writers to one key exactly one succeeds, and a
  reader sees all of its bytes or nothing. A backend that cannot do this is refused, never worked around.
- A read that the storage answered with "not there" raises FileNotFoundError or gives None; one that it did not answer
  raises a StoreError. The two are never confused.
- What one writer was told is written, every reader sees at once, in ``list`` too; nothing is cached.
- A store can be pickled, and what comes out opens the same place in another process; one that cannot says so.

``registry.testing.conformance`` holds a store to all of this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from registry.errors import ConflictError, InvalidInputError

Advance = Callable[[int], None]
"""Called with the number of bytes just moved."""

CHUNK_BYTES = 1 << 20
"""Streaming works in pieces of this size: 1 MiB is where copying and hashing together were fastest."""


class AlreadyExistsError(ConflictError):
    """An exclusive create found the key taken."""


def check_key(key: str) -> str:
    """Return ``key`` if it is a relative path without empty, ``.`` or ``..`` parts, backslashes or control characters.

    Raises:
        InvalidInputError: It is none.
    """
    parts = f"/{key}/"
    if "//" in parts or "/./" in parts or "/../" in parts or "\\" in key or not key.isprintable():
        raise InvalidInputError(
            f"{key!r} is no storage key: use a relative path without '..', empty parts or backslashes."
        )
    return key


class ModelStore(ABC):
    """A place for bytes under keys. Subclass it to bring a backend of your own; see the module's rules."""

    url: str
    """Where the store lies, as users write it (``file:///data/models``)."""

    parallel: int = 1
    """How many transfers at once pay off: 1 on a disk, several where each waits for a network."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Return the bytes under ``key``.

        Raises:
            FileNotFoundError: The storage answered that there is no such key.
            StoreError: The storage did not answer, or refused.
        """

    @abstractmethod
    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the bytes under each key, None where there is none; one round trip where the backend can."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> None:
        """Write ``data`` under a key that must not exist, durably, all or nothing.

        Raises:
            AlreadyExistsError: The key is taken.
            StoreError: The write failed, or its outcome is unknown.
        """

    @abstractmethod
    def replace(self, key: str, data: bytes) -> None:
        """Write ``data`` under ``key``, whatever was there; atomic for readers, and only for what can be rebuilt."""

    def sweep(self, *, older_than_s: float, dry_run: bool = True) -> list[str]:  # noqa: ARG002 - a seam, as above
        """Return what unfinished writes left behind that is older than ``older_than_s``; removed unless ``dry_run``.

        Temporary files and uploads that were never completed; never anything that a reader can see.
        """
        return []

    @abstractmethod
    def list(self, prefix: str) -> list[str]:
        """Return all keys below the folder ``prefix``, sorted; empty when there are none."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove one key; no error when it is not there."""

    @abstractmethod
    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        """Create ``key`` from a stream, exclusively, without holding it in memory.

        Raises:
            AlreadyExistsError: The key is taken.
            StoreError: The write failed, or its outcome is unknown.
        """

    @abstractmethod
    def chunks(self, key: str) -> Iterator[bytes]:
        """Yield the bytes under ``key`` in pieces of at most ``CHUNK_BYTES``.

        Raises:
            FileNotFoundError: There is no such key.
        """

    def modified(self, key: str) -> datetime | None:  # noqa: ARG002 - a seam for backends that know it
        """Return when ``key`` was last written by the storage's own clock, aware, UTC; None if it cannot say.

        Raises:
            FileNotFoundError: There is no such key.
        """
        return None

    def local_path(self, key: str) -> Path | None:  # noqa: ARG002 - a seam for backends that have one
        """Return the file that holds ``key`` where bytes lie on this machine, else None."""
        return None

    def address(self, key: str) -> str:
        """Return what a person or another program would use to reach ``key``: a path or a URL."""
        return str(self.local_path(key) or f"{self.url.rstrip('/')}/{key}")
