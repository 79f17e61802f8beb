"""Reading a log: from a hint, onward from a known state, or by galloping when there is no hint to trust.

Every read is written as steps that name the keys they need: see ``registry.log.fetching``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic

from pydantic import ValidationError

from registry.encoding import FORMAT, canonical_json, digest_of, parse_json, parse_record
from registry.errors import FormatError, IntegrityError
from registry.log.fetching import Steps
from registry.log.record import NO_RECORD, Event, LogRecord, Machine, Snapshot, State
from registry.store import ModelStore

CHECKPOINT_EVERY = 16
"""Records between two checkpoints: what a cold reader must fold at most, in one parallel batch."""

_WARM_BATCH = 4
_LARGEST_BATCH = 256
_BEYOND_ANY_LOG = 1 << 40
_STATE_FOLLOWS = b',"state":'
_HEADER = ("format", "machine", "number", "sha256", "record")


@dataclass(frozen=True)
class LogReader(Generic[State, Event]):
    """Reads the log below ``prefix`` and folds it with ``machine``; holds no state of its own."""

    store: ModelStore
    prefix: str
    machine: Machine[State, Event]

    def record_key(self, number: int) -> str:
        """Return where record ``number`` lies; the first is 1."""
        return f"{self.prefix}log/{number:012d}.json"

    def checkpoint_key(self, number: int) -> str:
        """Return where the state after record ``number`` lies, if it is kept."""
        return f"{self.prefix}checkpoints/{number:012d}.json"

    @property
    def hint_key(self) -> str:
        """Where the number of the last known checkpoint lies; never trusted."""
        return f"{self.prefix}head.json"

    def empty(self) -> Snapshot[State]:
        """Return the state of a log without records."""
        return Snapshot(0, NO_RECORD, self.machine.initial())

    def cold(self) -> Steps[Snapshot[State]]:
        """Give the newest state, knowing nothing: two round trips with a good hint, whatever the log's length.

        Raises:
            IntegrityError: A record is not what the chain says.
            FormatError: A record that this release cannot read.
        """
        try:
            known = yield from self._from_hint()
            if known is not None:
                return known
            head = yield from self._gallop()
            known = yield from self._nearest_checkpoint(head)
            return (yield from self.onward(known or self.empty()))
        except IntegrityError:
            # Either a record is damaged or a checkpoint lies. Folding everything tells which, and needs no checkpoint.
            return (yield from self.onward(self.empty(), batch=_LARGEST_BATCH))

    def onward(self, known: Snapshot[State], *, batch: int = _WARM_BATCH) -> Steps[Snapshot[State]]:
        """Give the newest state, starting at a known one: one round trip when little has happened since.

        Raises:
            IntegrityError: A record is not what the chain says.
            FormatError: A record that this release cannot read.
        """
        while True:
            for data in (yield self._keys(range(known.number + 1, known.number + 1 + batch))):
                if data is None:
                    return known
                known = self.fold(known, data)
            batch = min(batch * 4, _LARGEST_BATCH)

    def records(self) -> Iterator[LogRecord]:
        """Yield all records, the oldest first, each parsed and held against the one before it, none folded.

        Raises:
            IntegrityError: A record is not what the chain says.
        """
        number, digest, batch = 0, NO_RECORD, CHECKPOINT_EVERY
        while True:
            for data in self.store.read_many(self._keys(range(number + 1, number + 1 + batch))):
                if data is None:
                    return
                yield self._following(number, digest, data)
                number, digest = number + 1, digest_of(data)
            batch = min(batch * 4, _LARGEST_BATCH)

    def fold(self, known: Snapshot[State], data: bytes) -> Snapshot[State]:
        """Return the state after the record in ``data``, which must follow ``known``.

        Raises:
            IntegrityError: Its number or the digest it names does not follow.
        """
        return self.after(known, self._following(known.number, known.digest, data), data)

    def after(self, known: Snapshot[State], record: LogRecord, data: bytes) -> Snapshot[State]:
        """Return the state after a record that is known to follow ``known``; ``data`` is the record as it is stored.

        Raises:
            FormatError: An event that this release cannot read.
        """
        try:
            event = self.machine.parse(record.event)
        except ValidationError as error:
            key, why = self.record_key(record.number), error.errors()[0]["msg"]
            raise FormatError(f"{key} holds an event that this release cannot read: {why}.") from error
        try:
            state = self.machine.fold(known.state, event, record)
        except LookupError as error:
            key = self.record_key(record.number)
            raise FormatError(f"{key} holds an event about something that is not there: {error}.") from error
        return Snapshot(record.number, digest_of(data), state)

    def _following(self, number: int, digest: str, data: bytes) -> LogRecord:
        key = self.record_key(number + 1)
        record = parse_record(LogRecord, data, key)
        if record.number != number + 1:
            raise IntegrityError(key, f"record {number + 1}", f"record {record.number}")
        if record.previous != digest:
            mend = f"This record or the one before it was changed. Restore {self.prefix}log/ from a copy."
            expected, found = f"a record that follows {digest}", f"one that follows {record.previous}"
            raise IntegrityError(key, expected, found, mend=mend)
        return record

    def encode_checkpoint(self, snapshot: Snapshot[State]) -> bytes:
        """Return a checkpoint: one JSON object whose ``sha256`` is over the bytes of its last value, ``state``."""
        state = self.machine.dump(snapshot.state)
        header = {
            "format": FORMAT,
            "machine": self.machine.name,
            "number": snapshot.number,
            "record": snapshot.digest,
            "sha256": digest_of(state),
        }
        return canonical_json(header)[:-1] + _STATE_FOLLOWS + state + b"}"

    def _from_hint(self) -> Steps[Snapshot[State] | None]:
        """Give the newest state by way of the hint; None where it is stale or its checkpoint is not usable.

        One batch: the checkpoint, the record that it must agree with, those that can follow until the next checkpoint,
        and the one that would show that the hint is stale. Without a hint the same is tried from the empty log.
        """
        (hint_data,) = yield [self.hint_key]
        hint = _number_in(hint_data)
        wanted = [*range(hint, hint + CHECKPOINT_EVERY + 2), hint + 2 * CHECKPOINT_EVERY]
        checkpoint, record, *following, beyond = yield [self.checkpoint_key(hint), *self._keys(wanted)]
        known = self._decode(checkpoint, record, hint) if hint else self.empty()
        if known is None or beyond is not None:
            return None
        for data in following:
            if data is None:
                return known
            known = self.fold(known, data)
        return (yield from self.onward(known))

    def _gallop(self) -> Steps[int]:
        """Give the number of the last record. The log is dense, so existence is monotone and can be searched."""
        low, high = 0, _BEYOND_ANY_LOG
        probes = [1 << exponent for exponent in range(21)]
        while True:
            found = dict(zip(probes, (yield self._keys(probes)), strict=True))
            low = max([low, *(number for number, data in found.items() if data is not None)])
            high = min([high, *(number for number, data in found.items() if data is None and number > low)])
            if high == low + 1:
                return low
            if high == _BEYOND_ANY_LOG:
                probes = [low << exponent for exponent in range(1, 8)]
            else:
                step = max(1, (high - low) // _WARM_BATCH**2)
                probes = list(range(low + step, high, step))

    def _nearest_checkpoint(self, head: int) -> Steps[Snapshot[State] | None]:
        number, batch = head - head % CHECKPOINT_EVERY, _WARM_BATCH
        while number > 0:
            numbers = [candidate for step in range(batch) if (candidate := number - step * CHECKPOINT_EVERY) > 0]
            found = yield [*map(self.checkpoint_key, numbers), *self._keys(numbers)]
            checkpoints, records = found[: len(numbers)], found[len(numbers) :]
            for candidate, checkpoint, record in zip(numbers, checkpoints, records, strict=True):
                if snapshot := self._decode(checkpoint, record, candidate):
                    return snapshot
            number, batch = number - batch * CHECKPOINT_EVERY, min(batch * 4, _LARGEST_BATCH)
        return None

    def _decode(self, checkpoint: bytes | None, record: bytes | None, number: int) -> Snapshot[State] | None:
        """Return what a checkpoint holds, or None if it is missing, damaged, of another machine or of another log."""
        if checkpoint is None or record is None:
            return None
        head, separator, rest = checkpoint.partition(_STATE_FOLLOWS)
        try:
            header = parse_json(head + b"}", self.checkpoint_key(number))
            state = rest[:-1]
            # The record's own digest, not the one that the checkpoint claims: an append would build the chain on a lie.
            wanted = (FORMAT, self.machine.name, number, digest_of(state), digest_of(record))
            if not separator or tuple(header[name] for name in _HEADER) != wanted:
                return None
            return Snapshot(number, header["record"], self.machine.load(state))
        except (FormatError, KeyError, TypeError, ValueError):
            return None

    def _keys(self, numbers: Iterable[int]) -> list[str]:
        return [self.record_key(number) for number in numbers]


def _number_in(hint: bytes | None) -> int:
    """Return the checkpoint that a hint names, 0 where it names none."""
    try:
        number = None if hint is None else json.loads(hint)["checkpoint"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return number if isinstance(number, int) and number > 0 and number % CHECKPOINT_EVERY == 0 else 0
