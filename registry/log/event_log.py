"""The event log: append by exclusive create, read by folding.

Rules that it keeps:
- One primitive decides: create record N+1 if it is absent. Whoever creates it has won; there is no lock and no lease.
- After a refused or failed create the record is read back: if its id is ours, the write had won and only the answer
  was lost.
- A decision is made on the folded state, before anything is written. A refusal, or "nothing to do", is only believed on
  a state that was read during the call: the cached one may be old.
- ``head.json`` is a hint and checkpoints are a convenience: both may be missing, stale or damaged, and nothing is lost.
- Records are never deleted. A writer with an old state would take the freed number, be told yes, and be lost.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from registry import clock
from registry.encoding import canonical_json, parse_record
from registry.errors import (
    ConflictError,
    FormatError,
    InvalidInputError,
    ModelwayError,
    StoreError,
    UnknownOutcomeError,
)
from registry.log.fetching import Steps, run, run_together
from registry.log.reader import CHECKPOINT_EVERY, LogReader
from registry.log.record import Event, LogRecord, Machine, Snapshot, State
from registry.store import AlreadyExistsError, ModelStore

GIVE_UP_AFTER_S = 60.0
"""How long an append tries again when others keep taking the next number."""

CHECKPOINTS_KEPT = 4
"""Older ones go: each holds the whole state, and 12,000 events on 4,000 versions would leave half a gigabyte."""

Decide = Callable[[Snapshot[State]], Event | None]
"""Gives the event to append on a state, None for "nothing to do", or raises; pure, called again after a lost race."""


@dataclass(frozen=True)
class Appended(Generic[State]):
    """The state after an append, and the record that it wrote: None when there was nothing to do."""

    snapshot: Snapshot[State]
    record: LogRecord | None


class EventLog(Generic[State, Event]):
    """One log below ``prefix``; any number of objects, threads and processes may use it at once."""

    def __init__(self, store: ModelStore, prefix: str, machine: Machine[State, Event]) -> None:
        """Take where the log lies (``models/digits/``) and what its events mean; nothing is read yet."""
        self.prefix = prefix
        self._store = store
        self._reader = LogReader(store, prefix, machine)
        self._known: Snapshot[State] | None = None
        self._lock = threading.RLock()

    @property
    def known(self) -> Snapshot[State] | None:
        """The newest state that this object has seen, without asking the storage; None before the first read."""
        return self._known

    def read(self) -> Snapshot[State]:
        """Return the newest state: one round trip when this object has read before, two when not.

        Raises:
            IntegrityError: A record is not what the chain says.
            StoreError: The storage did not answer.
        """
        with self._lock:
            return run(self._store, self._steps())

    def _steps(self) -> Steps[Snapshot[State]]:
        known = yield from (self._reader.onward(self._known) if self._known else self._reader.cold())
        self._known = known
        return known

    def history(self) -> Iterator[LogRecord]:
        """Yield all records, the oldest first.

        Raises:
            IntegrityError: A record is not what the chain says.
        """
        return self._reader.records()

    def append(self, decide: Decide[State, Event], *, actor: str) -> Appended[State]:
        """Append the event that ``decide`` gives, exactly once.

        Args:
            decide: Called with the state the event would follow.
            actor: Who is writing; recorded.

        Raises:
            ModelwayError: Whatever ``decide`` raises on the newest state; nothing was written.
            ConflictError: Others took the next number for ``GIVE_UP_AFTER_S`` seconds; nothing was written.
            UnknownOutcomeError: The create failed and the storage does not say whether it arrived.
        """
        with self._lock:
            known, fresh = (self._known, False) if self._known else (self.read(), True)
            give_up_at = time.monotonic() + GIVE_UP_AFTER_S
            while True:
                event = self._decide(decide, known, fresh=fresh)
                if event is not None:
                    record = _record_after(known, event, actor)
                    data = _encoded(record)
                    if self._create(record, data):
                        return Appended(self._advance(known, record, data), record)
                elif fresh:
                    return Appended(known, None)
                if time.monotonic() > give_up_at:
                    raise ConflictError(f"others kept writing to {self.prefix} for {GIVE_UP_AFTER_S:.0f} s; try again.")
                known, fresh = self.read(), True

    def _decide(self, decide: Decide[State, Event], known: Snapshot[State], *, fresh: bool) -> Event | None:
        try:
            return decide(known)
        except ModelwayError:
            if fresh:
                raise
            return None

    def _create(self, record: LogRecord, data: bytes) -> bool:
        """Return whether ``record`` is in the log; False when another stands at its number."""
        key = self._reader.record_key(record.number)
        for attempt in range(3):
            try:
                self._store.create(key, data)
            except AlreadyExistsError:
                return self._is_ours(key, record)
            except StoreError:
                # The answer may be lost, not the write. If nothing stands there, the same bytes may safely go again.
                if self._is_ours(key, record, missing_ok=True):
                    return True
                if attempt == 2:  # noqa: PLR2004 - the last of the three
                    raise
                time.sleep(random.uniform(0.0, 0.1) * (attempt + 1))  # noqa: S311 - spreads retries, guards nothing
            else:
                return True
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def _is_ours(self, key: str, record: LogRecord, *, missing_ok: bool = False) -> bool:
        try:
            return self._id_at(key) == record.id
        except FileNotFoundError:
            if missing_ok:
                return False
            raise ConflictError(
                f"{key} was refused as existing and cannot be found: the storage contradicts itself."
            ) from None
        except StoreError as error:
            if isinstance(error, FormatError):
                raise
            raise UnknownOutcomeError(
                f"a write of {key} was sent and the storage does not say whether it arrived ({error}). "
                f"Repeat the call with the same idempotency key: it finds its own write."
            ) from error

    def _id_at(self, key: str) -> str:
        try:
            return parse_record(LogRecord, self._store.read(key), key).id
        except FormatError:  # a read that was cut short looks like damage
            return parse_record(LogRecord, self._store.read(key), key).id

    def _advance(self, known: Snapshot[State], record: LogRecord, data: bytes) -> Snapshot[State]:
        self._known = self._reader.after(known, record, data)
        # A convenience for readers: the record is in the log, so failing here must not fail the append.
        with contextlib.suppress(StoreError, AlreadyExistsError):
            self._look_after_checkpoints(self._known)
        return self._known

    def _look_after_checkpoints(self, snapshot: Snapshot[State]) -> None:
        since = snapshot.number % CHECKPOINT_EVERY
        if since == 0:
            self._store.replace(self._reader.checkpoint_key(snapshot.number), self._reader.encode_checkpoint(snapshot))
            self._store.replace(self._reader.hint_key, canonical_json({"checkpoint": snapshot.number}))
        elif since == CHECKPOINT_EVERY // 2:
            # Half way to the next one, so that no single append pays for writing and for clearing away.
            old = snapshot.number - since - CHECKPOINTS_KEPT * CHECKPOINT_EVERY
            if old > 0:
                self._store.delete(self._reader.checkpoint_key(old))


def read_together(store: ModelStore, logs: Sequence[EventLog[Any, Any]]) -> list[Snapshot[Any]]:
    """Return the newest state of each log of one store; as many round trips as the slowest of them takes alone.

    Raises:
        IntegrityError: A record is not what the chain says.
        StoreError: The storage did not answer.
    """
    with contextlib.ExitStack() as stack:
        # In one order for all, so that no two callers wait for each other.
        for log in sorted(set(logs), key=lambda log: log.prefix):
            stack.enter_context(log._lock)  # noqa: SLF001 - a function of this module, about several of its objects
        return run_together(store, [log._steps() for log in logs])  # noqa: SLF001 - as above


def _encoded(record: LogRecord) -> bytes:
    try:
        return record.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{error.object[error.start : error.end]!r} is half of a character and cannot be stored; nothing was "
            f"written. Decode what you were given with the encoding that it has."
        ) from None


def _record_after(known: Snapshot[State], event: Event, actor: str) -> LogRecord:
    return LogRecord(
        number=known.number + 1,
        id=uuid.uuid4().hex,
        previous=known.digest,
        time=clock.now(),
        actor=actor,
        # All fields, defaults too: a default that a later release changes must not change what was recorded.
        event=event.model_dump(mode="json"),
    )
