"""Walking a log from record 1 on its raw bytes: is the chain whole, and do checkpoints and hint agree with it?

It trusts neither the reader nor any checkpoint, and goes on after what it finds. What may be stale is read before the
records are: a writer in between then makes it older than the log, never newer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic

from registry.encoding import digest_of, parse_json
from registry.errors import FormatError, ModelwayError
from registry.findings import REBUILD, Findings, first_bad_byte, read_each
from registry.log import LogRecord, Machine, Snapshot
from registry.log.reader import LogReader
from registry.log.record import NO_RECORD, Event, State
from registry.reports import Head

_LARGEST_BATCH = 256
_ONWARD_BATCH = 4


@dataclass(frozen=True)
class Walked(Generic[State]):
    """Where a walk ended; ``whole`` means that every record was there, followed, and could be folded."""

    snapshot: Snapshot[State]
    whole: bool

    @property
    def head(self) -> Head:
        """The last record."""
        return Head(number=self.snapshot.number, digest=self.snapshot.digest)


@dataclass(frozen=True)
class _Link:
    """What the chain knows of a record: its digest, and the one that it names; None for one that is not to be read."""

    digest: str | None = None
    previous: str | None = None


Visit = Callable[[Snapshot[State], LogRecord], None]
"""Called with the state after each record, for as long as everything before it was whole."""


class LogWalk(Generic[State, Event]):
    """One walk along the log below ``prefix``; ``listed`` are all keys there, listed before anything was read."""

    def __init__(self, findings: Findings, prefix: str, machine: Machine[State, Event], listed: Iterable[str]) -> None:
        """Take where the log lies, what its events mean, and where to note what is found."""
        self.reader = LogReader(findings.store, prefix, machine)
        self._findings, self._machine = findings, machine
        self._listed = set(listed)
        self._links = [_Link(digest=NO_RECORD)]
        self._witnessed: dict[int, str] = {}
        self._whole = True

    def walk(self, visit: Visit[State] = lambda _snapshot, _record: None, *, seen: Head | None = None) -> Walked[State]:
        """Walk from record 1 to the end.

        Args:
            visit: See ``Visit``.
            seen: Where this log ended when somebody last looked; its record must still be there, unchanged.

        Raises:
            StoreUnreachableError: The storage does not answer.
        """
        first = len(self._findings.found)
        checkpoints, hint = self._checkpoints(), self._hint()
        snapshot = Snapshot(0, NO_RECORD, self._machine.initial())
        for number, data in self._records():
            record = self._link(number, data)
            digest = self._links[number].digest or ""
            if record is None:
                snapshot = Snapshot(number, digest, snapshot.state)
                continue
            snapshot = self._fold(snapshot, record, digest)
            if self._whole:
                self._compare(checkpoints.get(number), snapshot)
                visit(snapshot, record)
        self._judge_chain()
        self._judge_rest(snapshot.number, checkpoints, hint, seen)
        records = self._findings.address(f"{self.reader.prefix}log")
        self._findings.found[first:] = sorted(
            self._findings.found[first:], key=lambda one: (not one.file.startswith(records), one.file)
        )
        return Walked(snapshot, self._whole)

    def _records(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield each record's bytes, None where one is missing or unreadable although later ones are there."""
        folder = f"{self.reader.prefix}log/"
        numbers = [self._number(key) for key in self._listed if key.startswith(folder)]
        last, number = max(numbers, default=0), 0
        while True:
            ahead = min(_LARGEST_BATCH, max(_ONWARD_BATCH, last - number))
            keys = [self.reader.record_key(number + step) for step in range(1, ahead + 1)]
            for key, data in zip(keys, read_each(self._findings.store, keys), strict=True):
                number += 1
                if data is None and number > last:
                    return
                if data is None:
                    self._findings.add("missing", key, "this record is gone, and later ones are there")
                yield number, self._findings.bytes_of(key, data)

    def _number(self, key: str) -> int:
        digits = key.rpartition("/")[2].removesuffix(".json")
        number = int(digits) if digits.isascii() and digits.isdecimal() else 0
        if number < 1 or self.reader.record_key(number) != key:
            self._findings.add("extra", key, "this is no record of the log", mend="See who put it there; remove it.")
            return 0
        return number

    def _link(self, number: int, data: bytes | None) -> LogRecord | None:
        """Note a record's place in the chain; return it where it can be read."""
        key = self.reader.record_key(number)
        record = None if data is None else self._findings.parse(LogRecord, key, data)
        before = self._links[number - 1].digest
        previous = None if record is None else before if record.previous == before else record.previous  # one string
        self._links.append(_Link(None if data is None else digest_of(data), previous))
        if record is not None and record.number != number:
            self._findings.add("changed", key, f"record {number} should stand here, and record {record.number} does")
            record = None
        self._whole = self._whole and record is not None and previous == before
        return record

    def _fold(self, known: Snapshot[State], record: LogRecord, digest: str) -> Snapshot[State]:
        state, key = known.state, self.reader.record_key(record.number)
        try:
            state = self._machine.fold(state, self._machine.parse(record.event), record)
        except (ModelwayError, LookupError, ValueError, TypeError) as error:
            if self._whole:  # after a record that is lost, later ones may make no sense, and it is not their fault
                why = str(error).partition("\n")[0]
                self._findings.add(
                    "unreadable",
                    key,
                    f"this release cannot read its event, {record.event.get('type')!r}: {why}",
                    mend="Update modelway, if a later release wrote it; else restore it from a copy.",
                )
            self._whole = False
        return Snapshot(record.number, digest, state)

    def _checkpoints(self) -> dict[int, bytes]:
        """Return the checkpoints that are there, with the digests that they bear witness to."""
        found: dict[int, bytes] = {}
        folder = f"{self.reader.prefix}checkpoints/"
        for key in sorted(key for key in self._listed if key.startswith(folder)):
            data = self._findings.read(key)
            if data is None:  # an old one, which a writer has just removed
                continue
            header = self._object(key, data)
            if header is None:
                continue
            number = header.get("number")
            if not isinstance(number, int) or number < 1 or self.reader.checkpoint_key(number) != key:
                self._findings.add("contradiction", key, f"it says that it is of record {number!r}", mend=REBUILD)
                continue
            found[number] = data
            self._witnessed[number] = str(header.get("record"))
        return found

    def _hint(self) -> int:
        key = self.reader.hint_key
        data = self._findings.read(key) if key in self._listed else None
        header = None if data is None else self._object(key, data)
        number = 0 if header is None else header.get("checkpoint")
        if not isinstance(number, int):
            self._findings.add("contradiction", key, f"it names the checkpoint {number!r}", mend=REBUILD)
            return 0
        return number

    def _object(self, key: str, data: bytes) -> dict[str, Any] | None:
        try:
            value = parse_json(data, "it")
        except FormatError as error:
            self._findings.add("unreadable", key, str(error), mend=REBUILD, offset=first_bad_byte(data))
            return None
        if not isinstance(value, dict):
            self._findings.add("unreadable", key, "it holds no JSON object", mend=REBUILD)
            return None
        return value

    def _compare(self, checkpoint: bytes | None, snapshot: Snapshot[State]) -> None:
        """Hold a checkpoint against the state that folding gives; one of another release's machine is not used."""
        if checkpoint is None or self._witnessed[snapshot.number] != snapshot.digest:
            return
        key = self.reader.checkpoint_key(snapshot.number)
        says, is_so = parse_json(checkpoint, key), parse_json(self.reader.encode_checkpoint(snapshot), key)
        if says.get("machine") != is_so["machine"]:
            self._findings.remark("extra", key, "another release wrote it; it is not used", mend=REBUILD)
        elif says != is_so:
            self._findings.add("contradiction", key, "its state is not the one that the log gives", mend=REBUILD)

    def _judge_chain(self) -> None:
        """Name the record that was changed, wherever two do not follow: the one that nobody else vouches for."""
        for number in range(1, len(self._links)):
            before, link = self._links[number - 1], self._links[number]
            if None in {before.digest, link.previous} or before.digest == link.previous:
                continue
            if before.previous is None and number > 1:
                continue  # it is noted already as one that cannot be read
            self._whole = False
            suspects = f"record {number} follows {link.previous}, and record {number - 1} is {before.digest}"
            if self._vouched(number) and number > 1:
                self._findings.add("changed", self.reader.record_key(number - 1), f"it was changed: {suspects}")
            elif self._witnessed.get(number - 1) == before.digest or number == 1:
                self._findings.add("changed", self.reader.record_key(number), f"it was changed: {suspects}")
            else:
                either = f"it was changed, or the record before it was, or both: {suspects}"
                self._findings.add("changed", self.reader.record_key(number), either)

    def _vouched(self, number: int) -> bool:
        follower = self._links[number + 1].previous if number + 1 < len(self._links) else None
        return self._links[number].digest in {follower, self._witnessed.get(number)}

    def _judge_rest(self, last: int, checkpoints: dict[int, bytes], hint: int, seen: Head | None) -> None:
        """Hold what bears witness to records against those that are there."""
        cut = f"the log ends at record {last}: its end was cut off, or this is not its own"
        for number in checkpoints:
            key = self.reader.checkpoint_key(number)
            if number > last:
                self._findings.add("contradiction", key, f"it is of record {number}, and {cut}")
            elif self._witnessed[number] != (is_so := self._links[number].digest) and is_so is not None:
                either = f"record {number} is {is_so}, and its checkpoint is of {self._witnessed[number]}"
                if number == last:
                    key, either = self.reader.record_key(number), f"it was changed, or its checkpoint was: {either}"
                self._findings.add("contradiction", key, either)
        if hint > last:
            self._findings.add("contradiction", self.reader.hint_key, f"it names record {hint}, and {cut}")
        if seen is None or seen.number == 0:
            return
        key = self.reader.record_key(seen.number)
        if seen.number > last:
            self._findings.add("missing", key, f"record {seen.number} was seen before, and now {cut}")
        elif self._links[seen.number].digest not in {seen.digest, None}:
            problem = f"it was {seen.digest} when it was last seen, and is {self._links[seen.number].digest}"
            self._findings.add("changed", key, f"this record, or one before it, was rewritten: {problem}")
