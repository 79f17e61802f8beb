"""A bucket of a cloud as a store: exclusive writes are the service's own conditional writes.

An object above 5 MiB goes in pieces that nobody sees before one last conditional request; if its source fails, they
are given up. Memory stays below 100 MB whatever the size, both ways.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any, TypeVar

from typing_extensions import override

from registry import clock
from registry.errors import StoreError, StoreUnreachableError
from registry.store.azure import AzureBucket
from registry.store.bucket import Bucket, Pieces, piece_bytes
from registry.store.client import BucketClient, Work
from registry.store.contract import CHUNK_BYTES, AlreadyExistsError, ModelStore, check_key
from registry.store.gcs import GcsBucket
from registry.store.s3 import S3Bucket
from registry.store.telling import ContendedError, OutOfRangeError

BUCKETS: dict[str, type[Bucket]] = {"s3": S3Bucket, "gs": GcsBucket, "az": AzureBucket, "abfs": AzureBucket}
"""The backend of each scheme."""

DEADLINE_S = 60.0

_Found = TypeVar("_Found")

_RANGE_BYTES = 4 << 20
_RANGES_AHEAD = 2
_TRIES = 6


class RemoteModelStore(ModelStore):
    """Objects in a bucket, below a prefix; safe for any number of threads, processes and machines."""

    parallel = 8

    def __init__(
        self,
        scheme: str,
        name: str,
        prefix: str = "",
        *,
        storage_options: Mapping[str, Any] | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Take the place; nothing is asked of it yet.

        Args:
            scheme: One of ``BUCKETS``.
            name: The bucket, or Azure's container; it must exist.
            prefix: The folder in it, without a slash at either end.
            storage_options: Handed to the client: credentials, endpoint, project, region.
            deadline_s: Seconds after which a request with all its repeats, or a piece of a stream, is given up.

        Raises:
            MissingExtraError: The client's package is not installed.
            InvalidInputError: A deadline that is not positive, or a prefix that is no key.
        """
        kind = BUCKETS[scheme]
        self._below = f"{check_key(prefix)}/" if prefix else ""
        self.url = f"{kind.scheme}://{name}/{prefix}".rstrip("/")
        self._client = BucketClient(kind, self.url, name, options=storage_options or {}, deadline_s=deadline_s)

    def __repr__(self) -> str:
        return f"RemoteModelStore({self.url!r})"

    @override
    def read(self, key: str) -> bytes:
        return self._ask(key, lambda bucket, name: bucket.get(name))

    @override
    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        works = [functools.partial(_get, name=self._name(key)) for key in keys]
        found = self._client.ask_all(works)
        return [None if isinstance(data, FileNotFoundError) else data for data in found]

    @override
    def create(self, key: str, data: bytes) -> None:
        self._write(key, _slices(data), exclusive=True)

    @override
    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        self._write(key, chunks, exclusive=True)

    @override
    def replace(self, key: str, data: bytes) -> None:
        self._write(key, _slices(data), exclusive=False)

    @override
    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._ask(key, lambda bucket, name: bucket.delete(name))

    @override
    def sweep(self, *, older_than_s: float, dry_run: bool = True) -> list[str]:
        before = clock.now() - timedelta(seconds=older_than_s)
        work = functools.partial(_sweep, below=self._below, before=before, dry_run=dry_run)
        return sorted(name.removeprefix(self._below) for name in self._client.ask(work, self.url))

    @override
    def list(self, prefix: str) -> list[str]:
        folder = f"{self._name(prefix)}/" if prefix else self._below
        found: list[str] = []
        token: str | None = None
        while True:
            work = functools.partial(_page, prefix=folder, token=token)
            page, token = self._client.ask(work, f"{self.url}/{prefix}")
            # Consoles and other tools leave empty objects named "folder/", to show a folder; they are nobody's key.
            found += [name.removeprefix(self._below) for name in page if not name.endswith("/")]
            if token is None:
                return sorted(found)

    @override
    def chunks(self, key: str) -> Iterator[bytes]:
        for piece in self._ranges(key):
            yield from _slices(piece)

    @override
    def modified(self, key: str) -> datetime:
        return self._ask(key, lambda bucket, name: bucket.stat(name)).modified

    def _name(self, key: str) -> str:
        return self._below + check_key(key)

    def _ask(self, key: str, work: Callable[[Bucket, str], Awaitable[_Found]]) -> _Found:
        name = self._name(key)
        return self._client.ask(lambda bucket: work(bucket, name), self.address(key))

    def _write(self, key: str, chunks: Iterable[bytes], *, exclusive: bool) -> None:
        self._name(key)  # refused before anything is taken from the source
        pieces = _regrouped(chunks)
        first, last = next(pieces)
        if last:
            self._put(key, first, exclusive=exclusive)
            return
        if exclusive and self._exists(key):  # the last request decides; this one spares a loser all the others
            raise self._taken(key)
        on_its_way = self._ask(key, functools.partial(_begun, exclusive=exclusive))
        try:
            self._send(key, on_its_way, itertools.chain([(first, False)], pieces))
        except BaseException as error:
            with contextlib.suppress(Exception):  # what went wrong first is what is told
                self._ask(key, lambda _bucket, _name: on_its_way.abort())
            answered = isinstance(error, StoreError) and not isinstance(error, StoreUnreachableError)
            if exclusive and answered and self._exists(key):
                # The winner's write made the service forget our pieces, which each tells in words of its own.
                raise self._taken(key) from error
            raise

    def _put(self, key: str, data: bytes, *, exclusive: bool) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                self._ask(key, lambda bucket, name: bucket.put(name, data, exclusive=exclusive))
            except ContendedError:
                if attempt == _TRIES:
                    raise
                time.sleep(random.uniform(0.0, 0.05) * 2**attempt)  # noqa: S311 - spreads retries, guards nothing
            else:
                return

    def _send(self, key: str, on_its_way: Pieces, pieces: Iterator[tuple[bytes, bool]]) -> None:
        in_flight: deque[Future[None]] = deque()
        kind = self._client.kind
        try:
            for number, (piece, last) in enumerate(pieces, 1):
                if number > kind.most_pieces:
                    raise StoreError(f"{self.address(key)} is too large for one object here: split the file.")
                while in_flight and (last or len(in_flight) >= kind.pieces_at_once):
                    self._arrived(in_flight.popleft(), key)
                if last:
                    self._arrived(self._client.start(_sending(on_its_way.finish, number, piece)), key)
                else:
                    in_flight.append(self._client.start_piece(_sending(on_its_way.stage, number, piece)))
        finally:
            for future in in_flight:
                future.cancel()

    def _arrived(self, future: Future[None], key: str) -> None:
        try:
            self._wait(future, key)
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.address(key)}: the pieces of this upload were removed while it ran, by a sweep or a lifecycle "
                f"rule; nothing was written. Repeat it."
            ) from error

    def _ranges(self, key: str) -> Iterator[bytes]:
        name = self._name(key)
        began = self._client.start(functools.partial(_get, name=name, start=0, end=_RANGE_BYTES))
        try:
            first = self._wait(began, key)
        except OutOfRangeError:  # the object is empty
            return
        yield first
        if len(first) < _RANGE_BYTES:
            return
        size = self._ask(key, lambda bucket, name: bucket.stat(name)).size_bytes
        starts = iter(range(_RANGE_BYTES, size, _RANGE_BYTES))
        ahead: deque[Future[bytes]] = deque()
        try:
            while True:
                for start in itertools.islice(starts, _RANGES_AHEAD - len(ahead)):
                    work = functools.partial(_get, name=name, start=start, end=min(size, start + _RANGE_BYTES))
                    ahead.append(self._client.start(work))
                if not ahead:
                    return
                yield self._wait(ahead.popleft(), key)
        finally:
            for future in ahead:
                future.cancel()

    def _wait(self, future: Future[_Found], key: str) -> _Found:
        return self._client.wait(future, self.address(key))

    def _exists(self, key: str) -> bool:
        try:
            self._ask(key, lambda bucket, name: bucket.stat(name))
        except FileNotFoundError:
            return False
        return True

    def _taken(self, key: str) -> AlreadyExistsError:
        return AlreadyExistsError(f"{self.address(key)} exists already and is never overwritten.")


async def _get(bucket: Bucket, name: str, start: int = 0, end: int | None = None) -> bytes:
    return await bucket.get(name, start, end)


async def _page(bucket: Bucket, prefix: str, token: str | None) -> tuple[list[str], str | None]:
    return await bucket.page(prefix, token)


async def _sweep(bucket: Bucket, below: str, before: datetime, *, dry_run: bool) -> list[str]:
    return await bucket.sweep(below, before, dry_run=dry_run)


async def _begun(bucket: Bucket, name: str, *, exclusive: bool) -> Pieces:
    pieces = bucket.pieces(name, exclusive=exclusive)
    await pieces.begin()
    return pieces


def _sending(send: Callable[[int, bytes], Awaitable[None]], number: int, data: bytes) -> Work[None]:
    return lambda _bucket: send(number, data)


def _slices(data: bytes, size_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    if len(data) <= size_bytes:
        return iter([data])
    return (data[start : start + size_bytes] for start in range(0, len(data), size_bytes))


def _regrouped(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield the same bytes in pieces of ``piece_bytes``, each with whether it is the last; at least one piece."""
    number, held = 1, bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) > (size_bytes := piece_bytes(number)):  # more than a piece: so this one is not the last
            with memoryview(held) as view:
                piece = bytes(view[:size_bytes])
            del held[:size_bytes]
            yield piece, False
            number += 1
    yield bytes(held), True
