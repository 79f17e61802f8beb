"""Rebuilding: every projection written anew from the logs; safe while others write, because it looks again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic

from registry.encoding import canonical_json, readable_json
from registry.endpoints.desired import EndpointMachine
from registry.errors import ModelNotFoundError
from registry.findings import Findings, by_log
from registry.guard import RootMachine
from registry.log import LogRecord, Machine, Snapshot
from registry.log.reader import CHECKPOINT_EVERY, LogReader
from registry.log.record import Event, State
from registry.machine import ModelMachine
from registry.names import check_name, near
from registry.progress import track
from registry.reading import Reading
from registry.reports import Finding, RebuildReport
from registry.state import ModelState
from registry.store import ModelStore
from registry.views import status_of
from registry.walking import LogWalk


class Rebuilding(Reading):
    """The verb that writes anew what can be rebuilt."""

    def rebuild(self, name: str | None = None) -> RebuildReport:
        """Write ``status.json``, ``head.json`` and checkpoints anew from the logs; the logs are only read.

        What it writes is never older than what a writer wrote meanwhile: after writing it reads the log again, and
        writes again until nothing was added in between. A log that cannot be believed from its first record to its
        last is left as it is, with all that is made from it, and named in the report.

        Args:
            name: One model; every log of the registry without it.

        Raises:
            ModelNotFoundError: There is no such model.
            StoreError: The storage refused a write; repeating the call is safe.
        """
        work = _Rebuild(self.store)
        prefix = "" if name is None else f"models/{check_name(name)}"
        listed = self.store.list(prefix)
        if name is not None and not listed:
            raise ModelNotFoundError(name, near(name, self.list_models()), root=self.url)
        groups = by_log(listed)
        if name is None:
            groups.setdefault("", [])
        with track("rebuilding", len(groups), "logs") as advance:
            for prefix, keys in groups.items():
                work.log(prefix, keys)
                advance(1)
        return work.report()


@dataclass
class _Rebuild:
    """One run of ``rebuild``; what was written is kept by its place, as it may be written more than once."""

    store: ModelStore
    statuses: dict[str, None] = field(default_factory=dict)
    checkpoints: dict[str, None] = field(default_factory=dict)
    hints: dict[str, None] = field(default_factory=dict)
    damaged: list[Finding] = field(default_factory=list)

    def report(self) -> RebuildReport:
        """Return what was written."""
        return RebuildReport(
            statuses=tuple(self.statuses),
            checkpoints=tuple(self.checkpoints),
            hints=tuple(self.hints),
            findings=tuple(self.damaged),
        )

    def log(self, prefix: str, listed: list[str]) -> None:
        """Rebuild what is made from one log; ``listed`` are the keys beside it."""
        if prefix.startswith("models/"):
            self._rebuild(prefix, ModelMachine(), listed)
        elif prefix:
            self._rebuild(prefix, EndpointMachine(), listed)
        else:
            self._rebuild(prefix, RootMachine(), listed)

    def _rebuild(self, prefix: str, machine: Machine[State, Event], listed: list[str]) -> None:
        reader = LogReader(self.store, prefix, machine)
        there = {key for key in listed if key.startswith(f"{prefix}checkpoints/") or key == reader.hint_key}
        # Records only: what checkpoints say is what is being mended here.
        records = [key for key in listed if key.startswith(f"{prefix}log/")]
        written = -1
        while True:
            kept, findings = _Kept(reader, there), Findings(self.store)
            walked = LogWalk(findings, prefix, machine, records).walk(kept.visit)
            if not walked.whole:
                self.damaged.extend(findings.found)
                return
            if walked.snapshot.number <= written:
                return
            written = walked.snapshot.number
            self._write_checkpoints(reader, kept.states, there)
            if isinstance(state := walked.snapshot.state, ModelState):
                self._write_statuses(prefix, Snapshot(written, walked.snapshot.digest, state))

    def _write_checkpoints(
        self, reader: LogReader[State, Event], states: Mapping[int, Snapshot[State]], there: set[str]
    ) -> None:
        for number, snapshot in states.items():
            key = reader.checkpoint_key(number)
            self.store.replace(key, reader.encode_checkpoint(snapshot))
            self.checkpoints[self.store.address(key)] = None
            there.discard(key)
        if states:
            self.store.replace(reader.hint_key, canonical_json({"checkpoint": max(states)}))
            self.hints[self.store.address(reader.hint_key)] = None
            there.discard(reader.hint_key)
        for key in sorted(there):
            self.store.delete(key)  # of a record that is not there, or of none at all
        there.clear()

    def _write_statuses(self, prefix: str, known: Snapshot[ModelState]) -> None:
        for key, version in known.state.registered().items():
            file = f"{prefix}{version.path}/status.json"
            self.store.replace(file, readable_json(status_of(prefix.split("/")[1], known, key)))
            self.statuses[self.store.address(file)] = None


@dataclass
class _Kept(Generic[State, Event]):
    """The states that checkpoints are made of: the newest one, and those whose checkpoint is there."""

    reader: LogReader[State, Event]
    there: Collection[str]
    states: dict[int, Snapshot[State]] = field(default_factory=dict)

    def visit(self, snapshot: Snapshot[State], _record: LogRecord) -> None:
        """Keep this state, and let the one before it go."""
        if snapshot.number % CHECKPOINT_EVERY:
            return
        before = max(self.states, default=0)
        if self.reader.checkpoint_key(before) not in self.there:
            self.states.pop(before, None)
        self.states[snapshot.number] = snapshot
