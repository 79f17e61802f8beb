"""A store that goes wrong on purpose: it wraps any other and fails, crashes, tears, repeats or delays chosen calls.

What it may do is what real storages do, and no more:
- ``create`` and ``upload`` stay exclusive and all-or-nothing: a torn one is never seen, only its writer is gone.
- A record that was created is read back by everybody at once. Only keys that are replaced (hints, projections) may be
  read as they were before their last write, and only they may stand torn after a crash.
- A call that failed may have happened, or may happen later.
- After a crash every later call raises ``Crashed``, a BaseException, so that no clean-up code can cheat.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from registry.errors import StoreError, StoreUnreachableError
from registry.store import AlreadyExistsError, ModelStore
from registry.testing.plans import CRASHES, WRITES, Call, Fault, Kind, Operation, Plan, is_replaceable, never

Answer = TypeVar("Answer")


class Crashed(BaseException):
    """The process that made this call is dead; whatever it calls after that raises this as well."""


class FaultStore(ModelStore):
    """Another store, of which some calls go wrong as ``plan`` says.

    ``parallel`` stays 1: calls that ran at once could not be numbered.
    """

    parallel = 1

    def __init__(
        self,
        inner: ModelStore,
        plan: Plan = never,
        *,
        meanwhile: Callable[[], None] = lambda: time.sleep(0.001),
        crash: Callable[[], None] = lambda: None,
    ) -> None:
        """Wrap ``inner``.

        Args:
            inner: Where the bytes lie.
            plan: Which calls go wrong.
            meanwhile: What happens while a slow call waits, such as another client's work.
            crash: Called at a crash, before ``Crashed`` is raised; a real SIGKILL goes here.
        """
        self.inner, self.url = inner, inner.url
        self._meanwhile, self._crash_hook = meanwhile, crash
        self._before: dict[str, bytes | None] = {}
        self._late: list[tuple[int, Callable[[], object]]] = []
        self._total = 0
        self._dead = False
        self.arm(plan)

    def arm(self, plan: Plan) -> None:
        """Follow ``plan`` from now on, counting from 1 again; an outage is over, a crash is not.

        ``calls`` are those since then, and ``injected`` is the last fault that was met, None as long as there was none.
        """
        self._plan = plan
        self._silent = False
        self.calls: list[Call] = []
        self.injected: Fault | None = None

    def arrive(self) -> None:
        """Let all delayed writes arrive now."""
        late, self._late = self._late, []
        for _, write in late:
            _unheard(write)

    @property
    def writes_sent(self) -> int:
        """How many calls since ``arm`` were writes, whether they arrived or not."""
        return sum(call.operation in WRITES for call in self.calls)

    @override
    def read(self, key: str) -> bytes:
        def read() -> bytes:
            data = self.inner.read(key)
            self._found(1)
            return data

        fault = self._begin("read", key)
        if fault is not None and fault.kind is Kind.STALE and is_replaceable(key):
            if (old := self._before.get(key)) is None:
                raise FileNotFoundError(f"{self.inner.address(key)} (as it was before)")
            return old
        data = self._answer(fault, read)
        return data[: len(data) // 2] if fault is not None and fault.kind is Kind.SHORT else data

    @override
    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        fault = self._begin("read_many", *keys)
        answers = self._answer(fault, lambda: self.inner.read_many(keys))
        there = [place for place, data in enumerate(answers) if data is not None]
        self._found(len(there))
        if fault is not None and fault.kind is Kind.STALE:
            return [
                self._before.get(key) if is_replaceable(key) else data for key, data in zip(keys, answers, strict=True)
            ]
        if fault is not None and fault.kind is Kind.SHORT and there:
            place = there[::-1][fault.part % len(there)]
            data = answers[place] or b""
            answers[place] = data[: len(data) // 2]
        return answers

    @override
    def modified(self, key: str) -> datetime | None:
        return self._answer(self._begin("modified", key), lambda: self.inner.modified(key))

    @override
    def sweep(self, *, older_than_s: float, dry_run: bool = True) -> list[str]:
        fault = self._begin("sweep")
        return self._answer(fault, lambda: self.inner.sweep(older_than_s=older_than_s, dry_run=dry_run))

    @override
    def list(self, prefix: str) -> list[str]:
        return self._answer(self._begin("list", prefix), lambda: self.inner.list(prefix))

    @override
    def chunks(self, key: str) -> Iterator[bytes]:
        fault = self._begin("chunks", key)
        if fault is None or fault.kind is Kind.SLOW:
            return self._answer(fault, lambda: self.inner.chunks(key))
        if fault.kind is Kind.SHORT:
            return _half(self.inner.chunks(key))
        if fault.kind in {Kind.ERROR_AFTER, Kind.OUTAGE_AFTER, Kind.CRASH_AFTER}:
            return self._broken_off(self.inner.chunks(key), fault)
        return self._answer(fault, lambda: self.inner.chunks(key))

    @override
    def create(self, key: str, data: bytes) -> None:
        self._answer(self._begin("create", key), lambda: self.inner.create(key, data))

    @override
    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        fault = self._begin("upload", key)
        if fault is None or fault.kind in {Kind.ERROR_BEFORE, Kind.OUTAGE_BEFORE, Kind.CRASH_BEFORE}:
            self._answer(fault, lambda: self.inner.upload(key, chunks))
        elif fault.kind is Kind.TORN:
            with contextlib.suppress(AlreadyExistsError):
                self.inner.upload(key, self._broken_off(chunks, fault))
            raise self._crash()
        else:
            pieces = [*chunks]  # some faults send them twice, or later
            self._answer(fault, lambda: self.inner.upload(key, iter(pieces)))

    @override
    def replace(self, key: str, data: bytes) -> None:
        def replace_all() -> None:
            self._before[key] = self.inner.read_many([key])[0]
            self.inner.replace(key, data)

        fault = self._begin("replace", key)
        if fault is not None and fault.kind is Kind.TORN:
            self.inner.replace(key, data[: len(data) // 2])
            raise self._crash()
        self._answer(fault, replace_all)

    @override
    def delete(self, key: str) -> None:
        self._answer(self._begin("delete", key), lambda: self.inner.delete(key))

    @override
    def local_path(self, key: str) -> Path | None:
        return self.inner.local_path(key)

    @override
    def address(self, key: str) -> str:
        return self.inner.address(key)

    def _begin(self, operation: Operation, *keys: str) -> Fault | None:
        """Number a call, let in what is due by now, and return what is to go wrong."""
        if self._dead:
            raise Crashed
        self._total += 1
        due = [write for when, write in self._late if when < self._total]
        self._late = [(when, write) for when, write in self._late if when >= self._total]
        for write in due:
            _unheard(write)
        call = Call(len(self.calls) + 1, operation, keys)
        self.calls.append(call)
        if self._silent:
            raise self._no_answer()
        fault = self._plan(call)
        self.injected = fault or self.injected
        return fault

    def _found(self, number: int) -> None:
        self.calls[-1] = replace(self.calls[-1], found=number)

    def _answer(self, fault: Fault | None, act: Callable[[], Answer]) -> Answer:
        """Do what a call is for, or what goes wrong instead."""
        if fault is None:
            return act()
        if fault.kind is Kind.DELAYED:
            self._late.append((self._total + fault.later, act))
        if fault.kind in {Kind.ERROR_AFTER, Kind.OUTAGE_AFTER, Kind.CRASH_AFTER}:
            _unheard(act)
        if fault.kind is Kind.DUPLICATED:
            act()
        if fault.kind is Kind.SLOW:
            self._meanwhile()
        if fault.kind in {Kind.DUPLICATED, Kind.SLOW, Kind.SHORT, Kind.STALE}:
            return act()
        raise self._end(fault)

    def _end(self, fault: Fault) -> BaseException:
        """Return what the caller sees of a call that came to no answer."""
        if fault.kind in CRASHES:
            return self._crash()
        self._silent = fault.kind in {Kind.OUTAGE_BEFORE, Kind.OUTAGE_AFTER}
        return self._no_answer()

    def _broken_off(self, pieces: Iterator[bytes], fault: Fault) -> Iterator[bytes]:
        yield from _half(pieces)
        raise self._end(fault)

    def _crash(self) -> Crashed:
        self._dead = True
        self._crash_hook()
        return Crashed()

    def _no_answer(self) -> StoreUnreachableError:
        call = self.calls[-1]
        return StoreUnreachableError(f"{call.operation} {' '.join(call.keys)}: no answer; the fault is on purpose.")


def _half(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for first in pieces:
        yield first[: len(first) // 2]
        return


def _unheard(act: Callable[[], object]) -> None:
    # It was done or refused, and nobody hears which.
    with contextlib.suppress(StoreError, AlreadyExistsError, FileNotFoundError):
        act()
