"""Several clients in one process, of which exactly one runs at a time; a seed decides who goes on at each store call.

The same seed gives the same interleaving, so a failure is seen again by its number.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from registry.store import ModelStore

Answer = TypeVar("Answer")

_STUCK_AFTER_S = 60.0


class Turns:
    """Whose turn it is: a baton that is handed on, or kept, whenever ``hand_on`` is called."""

    def __init__(self, chance: random.Random) -> None:
        """Take where the decisions come from."""
        self._chance = chance
        # Some histories need many changes, others one at the right place: how often the baton goes on differs by seed.
        self._restlessness = chance.choice((0.1, 0.3, 0.6, 0.9))
        self._gates: dict[int, threading.Semaphore] = {}
        self._running: int | None = None
        self._failures: list[BaseException] = []

    def run(self, programs: Sequence[Callable[[], object]]) -> None:
        """Run each program as a client of its own until all are over.

        Raises:
            BaseException: What a program raised; the others have come to their ends.
            TimeoutError: A client waits for another by something else than the store.
        """
        self._gates = {place: threading.Semaphore(0) for place in range(len(programs))}
        clients = [
            threading.Thread(target=self._client, args=(place, program), daemon=True)
            for place, program in enumerate(programs)
        ]
        for client in clients:
            client.start()
        self._pass_to_anybody()
        for client in clients:
            client.join(_STUCK_AFTER_S)
            if client.is_alive():
                raise TimeoutError(
                    "a client waits for another who does not have the baton: is a lock held over a call?"
                )
        if self._failures:
            raise self._failures[0]

    def hand_on(self) -> None:
        """Let chance decide who goes on; returns when it is this client's turn again."""
        me = self._running
        if me is None or self._chance.random() >= self._restlessness:
            return
        self._pass_to_anybody()
        if self._running != me:
            self._gates[me].acquire()

    def _client(self, place: int, program: Callable[[], object]) -> None:
        self._gates[place].acquire()
        try:
            program()
        except BaseException as failure:  # noqa: BLE001 - raised again by run
            self._failures.append(failure)
        del self._gates[place]
        self._pass_to_anybody()

    def _pass_to_anybody(self) -> None:
        before = self._running
        self._running = self._chance.choice(list(self._gates)) if self._gates else None
        if self._running is not None and self._running != before:
            self._gates[self._running].release()


class ScheduledStore(ModelStore):
    """A store that all clients share, where each call is a moment at which another may go on."""

    def __init__(self, inner: ModelStore, turns: Turns) -> None:
        """Take the store, whose own calls are atomic, and whose turns its callers take."""
        self.inner, self.url, self._turns = inner, inner.url, turns

    def _call(self, act: Callable[[], Answer]) -> Answer:
        self._turns.hand_on()
        return act()

    @override
    def read(self, key: str) -> bytes:
        return self._call(lambda: self.inner.read(key))

    @override
    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._call(lambda: self.inner.read_many(keys))

    @override
    def list(self, prefix: str) -> list[str]:
        return self._call(lambda: self.inner.list(prefix))

    @override
    def chunks(self, key: str) -> Iterator[bytes]:
        return self._call(lambda: self.inner.chunks(key))

    @override
    def create(self, key: str, data: bytes) -> None:
        self._call(lambda: self.inner.create(key, data))

    @override
    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        self._call(lambda: self.inner.upload(key, chunks))

    @override
    def replace(self, key: str, data: bytes) -> None:
        self._call(lambda: self.inner.replace(key, data))

    @override
    def delete(self, key: str) -> None:
        self._call(lambda: self.inner.delete(key))

    @override
    def modified(self, key: str) -> datetime | None:
        return self._call(lambda: self.inner.modified(key))

    @override
    def local_path(self, key: str) -> Path | None:
        return self.inner.local_path(key)

    @override
    def address(self, key: str) -> str:
        return self.inner.address(key)
