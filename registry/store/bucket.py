"""What a remote store needs of a cloud's client: a dozen coroutines, and what the service answered when one failed.

The clients are fsspec's (s3fs, gcsfs, adlfs): credentials, sessions and retries are theirs. Requests go through their
coroutines with bucket and key as two arguments, never as one path, because paths of fsspec have a grammar: a key may
hold ``?versionId=``, ``#``, ``*`` or ``[`` and means just that.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

PIECES_IN_FLIGHT = 4
"""Pieces that one store sends at once, for however many uploads."""

MISSING_BUCKET = "NoSuchBucket"
"""The code of an answer that says that the bucket, not the key, is not there; backends translate theirs to it."""


@dataclass(frozen=True)
class Answer:
    """What the service answered instead of doing what it was asked."""

    status: int
    code: str
    message: str


class Refused(Exception):  # noqa: N818 - it carries an answer, and is told as one of registry/errors.py
    """An answer that a backend found out by itself."""

    def __init__(self, answer: Answer) -> None:
        """Keep the answer."""
        self.answer = answer
        super().__init__(answer.message)


class Stat(NamedTuple):
    """An object's size and the storage's own time of it."""

    size_bytes: int
    modified: datetime


class Body(io.BytesIO):
    """Bytes to send: aiohttp warns of plain ones above 1 MiB, and closes a file that a client may send once more."""

    def close(self) -> None:
        """Stay open."""


class Pieces(ABC):
    """One object on its way in pieces; nothing of it can be seen before ``finish``."""

    @abstractmethod
    async def begin(self) -> None:
        """Open the upload."""

    @abstractmethod
    async def stage(self, number: int, data: bytes) -> None:
        """Send piece ``number`` (the first is 1), which is not the last; all have the sizes of ``piece_bytes``."""

    @abstractmethod
    async def finish(self, number: int, data: bytes) -> None:
        """Send the last piece, and make all of them one object: if the key is free, for an exclusive upload."""

    @abstractmethod
    async def abort(self) -> None:
        """Give up; the service may forget the pieces."""


class Bucket(ABC):
    """A bucket as one process reaches it. Errors are the client's own; ``answer`` reads them."""

    scheme: str
    package: str
    extra: str
    wording: str
    """What people call such a place: "bucket" or "container"."""
    mend: str
    """Where credentials come from, for an error that asks for them."""

    page_keys = 1000
    pieces_at_once = 3
    most_pieces = 10_000

    @abstractmethod
    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        """Make the client; may read files and ask metadata servers for credentials, so not on the event loop.

        Raises:
            ImportError: The package is not installed.
        """

    @abstractmethod
    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the object's bytes, or those from ``start`` to before ``end``."""

    @abstractmethod
    async def stat(self, key: str) -> Stat:
        """Return size and time."""

    @abstractmethod
    async def put(self, key: str, data: bytes, *, exclusive: bool) -> None:
        """Write an object in one request; one that must not exist yet if ``exclusive``."""

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove an object; silent or "not found" when there is none."""

    @abstractmethod
    async def page(self, prefix: str, token: str | None) -> tuple[list[str], str | None]:
        """Return the next keys that begin with ``prefix``, and the token of the page after them, None at the end."""

    @abstractmethod
    def pieces(self, key: str, *, exclusive: bool) -> Pieces:
        """Return an upload that has not begun."""

    async def sweep(self, prefix: str, before: datetime, *, dry_run: bool) -> list[str]:  # noqa: ARG002 - a seam
        """Return the keys of uploads below ``prefix`` begun before a time and never finished; given up unless dry."""
        return []

    @classmethod
    @abstractmethod
    def answer(cls, error: BaseException) -> Answer | None:
        """Return what the service answered, None if ``error`` says that there was no answer, or is not the client's."""

    @classmethod
    @abstractmethod
    def lacks_credentials(cls, error: BaseException) -> bool:
        """Return whether the client found no credentials to send, or could not renew them."""

    @classmethod
    @abstractmethod
    def broke_off(cls, error: BaseException) -> bool:
        """Return whether the client found no connection, or lost it."""


def piece_bytes(number: int) -> int:
    """Return how long piece ``number`` is: 5 MiB, the least that S3 takes, and 16 MiB from the 1001st.

    10,000 pieces, the most that S3 takes, are 145 GiB then. An upload fills one piece while three at most are on their
    way, and all uploads of a store together have ``PIECES_IN_FLIGHT``: so memory is bounded whatever the sizes.
    """
    return 5 << 20 if number <= 1000 else 16 << 20  # noqa: PLR2004 - told above
