"""Requests to a bucket, each with one deadline above all that its client does: connecting, waiting, trying again."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from registry.errors import InvalidInputError, MissingExtraError, ModelwayError, StoreForbiddenError
from registry.store.bucket import PIECES_IN_FLIGHT, Bucket
from registry.store.telling import told

_Found = TypeVar("_Found")
Work = Callable[[Bucket], Awaitable[_Found]]

_AT_ONCE = 64
_GRACE_S = 2.0
_OF_A_PROCESS = {"_process", "_lock", "_room", "_opened"}


class BucketClient:
    """A bucket, opened at first need and again after a fork; can be pickled."""

    def __init__(
        self, kind: type[Bucket], url: str, name: str, *, options: Mapping[str, Any], deadline_s: float
    ) -> None:
        """Take what opening needs, and the URL that errors name.

        Raises:
            MissingExtraError: The client's package is not installed.
            InvalidInputError: A deadline that is not positive.
        """
        if importlib.util.find_spec(kind.package) is None:
            raise MissingExtraError(kind.package, kind.extra, f"a registry at {kind.scheme}://")
        if not (isinstance(deadline_s, (int, float)) and deadline_s > 0):
            raise InvalidInputError(f"deadline_s is {deadline_s!r}: give a number of seconds above 0.")
        self.kind, self.deadline_s = kind, float(deadline_s)
        self._url, self._name, self._options = url, name, dict(options)
        self._set_up()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _OF_A_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._set_up()

    def _set_up(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._room = threading.Semaphore(PIECES_IN_FLIGHT)
        self._opened: Bucket | None = None

    def ask(self, work: Work[_Found], what: str) -> _Found:
        """Return what the coroutine that ``work`` makes gives.

        Raises:
            FileNotFoundError: The service answered that there is no such key.
            StoreError: It did not answer in time, or refused; ``told`` has the kinds.
        """
        return self.wait(self.start(work), what)

    def ask_all(self, works: Sequence[Work[_Found]]) -> list[_Found | FileNotFoundError]:
        """Return what each gives, all at once; FileNotFoundErrors are returned, others are raised."""

        async def all_of_them(bucket: Bucket) -> list[_Found | BaseException]:
            gate = asyncio.Semaphore(_AT_ONCE)

            async def one(work: Work[_Found]) -> _Found:
                async with gate, asyncio.timeout(self.deadline_s):
                    return await work(bucket)

            return await asyncio.gather(*map(one, works), return_exceptions=True)

        batches = 1 + len(works) // _AT_ONCE
        found: list[_Found | FileNotFoundError] = []
        for answer in self.wait(self.start(all_of_them, batches), self._url, batches):
            if isinstance(answer, BaseException):
                error = self._told(answer, self._url)
                if not isinstance(error, FileNotFoundError):
                    raise error from answer
                found.append(error)
            else:
                found.append(answer)
        return found

    def start(self, work: Work[_Found], batches: int = 1) -> Future[_Found]:
        """Begin a request, to be waited for later."""
        from fsspec.asyn import get_loop

        if self._process != os.getpid():  # the parent's connections, locks and loop do not live in a forked child
            self._set_up()

        async def within_the_deadline() -> _Found:
            async with asyncio.timeout(self.deadline_s * batches):
                return await work(await self._bucket())

        return asyncio.run_coroutine_threadsafe(within_the_deadline(), get_loop())

    def start_piece(self, work: Work[None]) -> Future[None]:
        """Begin to send a piece, as soon as there is room for one more in memory."""
        room = self._room
        room.acquire()
        future = self.start(work)
        future.add_done_callback(lambda _: room.release())
        return future

    def wait(self, future: Future[_Found], what: str, batches: int = 1) -> _Found:
        """Return what a request that was begun gives; errors as ``ask``."""
        try:
            # The grace is for a loop that a client blocks, on which no time-out is ever noticed.
            return future.result(self.deadline_s * batches + _GRACE_S)
        except BaseException as error:
            future.cancel()
            if (better := self._told(error, what)) is error:
                raise
            raise better from error

    def _told(self, error: BaseException, what: str) -> BaseException:
        return told(error, self.kind, self._url, what, self.deadline_s)

    async def _bucket(self) -> Bucket:
        if self._opened is not None:
            return self._opened
        # In a thread: looking for credentials blocks, and would block the loop of all stores.
        return await asyncio.to_thread(self._open)

    def _open(self) -> Bucket:
        with self._lock:
            if self._opened is None:
                self._opened = self._made()
            return self._opened

    def _made(self) -> Bucket:
        try:
            return self.kind(self._name, self._options)
        except ModelwayError:
            raise
        except Exception as error:  # whatever goes wrong here is no answer of the storage: not "not found"
            said = str(error).strip().partition("\n")[0]
            for value in self._options.values():  # a client may show the token that it does not understand
                said = said.replace(value, "***") if isinstance(value, str) and value else said
            what = f"{self._url}: {self.kind.package} could not be set up ({type(error).__name__}: {said})"
            if self.kind.lacks_credentials(error):
                raise StoreForbiddenError(f"{what}. {self.kind.mend}") from error
            raise InvalidInputError(f"{what}. Check storage_options. {self.kind.mend}") from error
