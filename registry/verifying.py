"""Verifying: everything against the log, and the log against itself; names every file that is not as recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.config import SERVING
from registry.contents import Contents
from registry.core import RegistryIdentity
from registry.endpoints.desired import EndpointMachine, EndpointState, Observed
from registry.errors import ModelNotFoundError
from registry.findings import RESTORE, Findings, by_log, by_version
from registry.guard import RootMachine, RootState
from registry.log import LogRecord, Machine, Snapshot
from registry.log.record import Event, State
from registry.machine import ModelMachine
from registry.names import check_name, near
from registry.projecting import Statuses
from registry.reading import Reading
from registry.reports import Head, VerifyReport
from registry.state import ModelState
from registry.store import ModelStore
from registry.versions import VersionRef
from registry.walking import LogWalk, Visit, Walked

_IDENTITY = "registry.json"
_OWN = {_IDENTITY, "head.json", "log", "checkpoints", "models", "endpoints", SERVING, ".doctor"}
_GC = "`modelway models gc` removes it once it is old enough."
_LEAVE = "It is no file of a registry; remove it if it is not wanted."


class Verifying(Reading):
    """The verb that looks whether everything is still what was recorded."""

    def verify(
        self,
        name: str | None = None,
        version: VersionRef | None = None,
        *,
        deep: bool = True,
        heads: Mapping[str, Head] | None = None,
    ) -> VerifyReport:
        """Walk every log from its first record, and hold every file against what the logs say; changes nothing.

        Others may go on writing. What is read is trusted as far as the chain reaches: who can write the storage can
        cut off the end of a log, or write all of it anew, and only somebody who remembers its head will see that. Keep
        the ``heads`` of a report elsewhere, and hand them to the next call.

        Args:
            name: One model, or ``name@alias``; everything without it.
            version: One version of it, by number, label or alias: its whole log, and the files of that version.
            deep: Read and hash every file. Without it: logs, sidecars and projections, and that files are there.
            heads: The ``heads`` of an earlier report.

        Raises:
            ModelNotFoundError, VersionNotFoundError: There is no such version.
            StoreUnreachableError: The storage does not answer; then nothing can be said.
        """
        check = _Verification(self.store, deep=deep, seen=dict(heads or {}))
        if name is None:
            check.everything(self.store.list(""))
            return check.report(remembered=heads is not None)
        model, _, alias = name.partition("@")
        listed = self.store.list(f"models/{check_name(model)}")
        if not listed:
            raise ModelNotFoundError(model, near(model, self.list_models()), root=self.url)
        check.identity(listed=True)
        check.model(model, listed, version=alias or version)
        return check.report(remembered=heads is not None)


@dataclass
class _Verification:
    """One run of ``verify``."""

    store: ModelStore
    deep: bool
    seen: dict[str, Head]
    heads: dict[str, Head] = field(default_factory=dict)
    registry: str = ""
    records: int = 0
    findings: Findings = field(init=False)
    contents: Contents = field(init=False)

    def __post_init__(self) -> None:
        """Make what notes and what counts."""
        self.findings = Findings(self.store)
        self.contents = Contents(self.findings, deep=self.deep)

    def report(self, *, remembered: bool) -> VerifyReport:
        """Return what was found."""
        return VerifyReport(
            registry=self.registry,
            deep=self.deep,
            remembered=remembered,
            records=self.records,
            versions=self.contents.versions,
            files=self.contents.files,
            size_bytes=self.contents.size_bytes,
            findings=tuple(self.findings.found),
            remarks=tuple(self.findings.remarks),
            heads=self.heads,
        )

    def everything(self, listed: list[str]) -> None:
        """Check the whole registry; ``listed`` are all keys, listed before anything was read."""
        self.identity(listed=bool(listed))
        groups = by_log(listed)
        own = groups.pop("", [])
        walked: dict[str, Walked[Any]] = {}
        for prefix, keys in groups.items():
            kind, name = prefix.split("/")[:2]
            walked[prefix] = self.model(name, keys) if kind == "models" else self._endpoint(name, keys)
        # The root's log last: a model that was named meanwhile must not seem to have no name.
        root = self._walk("", RootMachine(), own)
        if root.whole:
            self._names(root.snapshot.state, walked)
        for log, head in self.seen.items():
            if head.number:
                self.findings.add("missing", log, f"this log had {head.number} records when it was last seen")
        for top in sorted({key.partition("/")[0] for key in own} - _OWN):
            self.findings.remark("extra", top, "it is nothing of the registry's", mend=_LEAVE)

    def identity(self, *, listed: bool) -> None:
        """Check ``registry.json``, which is there wherever anything is."""
        missing = f"it is gone. {RESTORE} Without it a new id is made at the next write" if listed else ""
        data = self.findings.read(_IDENTITY, missing=missing)
        identity = None if data is None else self.findings.parse(RegistryIdentity, _IDENTITY, data)
        self.registry = "" if identity is None else identity.id

    def model(self, name: str, listed: list[str], *, version: VersionRef | None = None) -> Walked[ModelState]:
        """Check a model: its log, its projections, and the contents of its versions, or of one."""
        prefix = f"models/{name}/"
        statuses = Statuses(self.findings, name, listed)
        walked = self._walk(prefix, ModelMachine(), listed, statuses.visit)
        state = walked.snapshot.state
        if walked.whole:
            statuses.judge_rest(walked.snapshot)
        folders = by_version(prefix, listed)
        wanted = None if version is None else state.find(name, version)
        for key, one in state.registered().items():
            if wanted in {None, key}:
                folder = f"{prefix}{one.path}"
                self.contents.check(f"{name}:{one.label}", folder, one, folders.get(folder, ()))
        if version is None and walked.whole:
            self._leftovers(prefix, state, folders)
        return walked

    def _leftovers(self, prefix: str, state: ModelState, folders: Mapping[str, list[str]]) -> None:
        """Remark what belongs to no version; files of one that is being registered at this moment do."""
        held = {f"{prefix}{one.path}" for one in state.versions.values() if one.status in {"reserved", "registered"}}
        for folder, keys in folders.items():
            if folder in held or folder == prefix.removesuffix("/"):
                continue
            problem = f"{len(keys)} files of no version: given up, deleted, or never reserved"
            self.findings.remark("extra", folder, problem, mend=_GC)

    def _endpoint(self, name: str, listed: list[str]) -> Walked[EndpointState]:
        key = f"endpoints/{name}/observed.json"
        data = self.findings.read(key) if key in listed else None
        observed = None if data is None else self.findings.parse(Observed, key, data)

        def visit(snapshot: Snapshot[EndpointState], record: LogRecord) -> None:
            if observed is None or record.number != observed.generation:
                return
            if snapshot.state.desired != observed.desired:
                problem = f"it says otherwise than the log what generation {record.number} serves"
                self.findings.add("contradiction", key, problem, mend="Deploy again.")

        walked = self._walk(f"endpoints/{name}/", EndpointMachine(), listed, visit)
        if observed is not None and observed.generation > walked.snapshot.number:
            problem = f"it is of generation {observed.generation}, and the log ends at {walked.snapshot.number}"
            self.findings.add("contradiction", key, f"{problem}: its end was cut off")
        return walked

    def _walk(
        self,
        prefix: str,
        machine: Machine[State, Event],
        listed: Iterable[str],
        visit: Visit[State] = lambda _snapshot, _record: None,
    ) -> Walked[State]:
        log = f"{prefix}log"
        walked = LogWalk(self.findings, prefix, machine, listed).walk(visit, seen=self.seen.pop(log, None))
        self.heads[log] = walked.head
        self.records += walked.head.number
        return walked

    def _names(self, root: RootState, walked: Mapping[str, Walked[Any]]) -> None:
        """Hold the names that were taken against the logs that are there."""
        for prefix in (
            *(f"models/{name}/" for name in root.models),
            *(f"endpoints/{name}/" for name in root.endpoints),
        ):
            if prefix not in walked or walked[prefix].head.number == 0:
                self.findings.read(f"{prefix}log/{1:012d}.json", missing="the name was taken, and its log is gone")
        for prefix, model in walked.items():
            kind, name = prefix.split("/")[:2]
            if kind == "models" and name not in root.models and model.snapshot.state.registered():
                self.findings.add("contradiction", "log", f"the model {name} has versions, and its name is not taken")
