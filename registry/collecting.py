"""Collecting what nothing needs: reservations that came to nothing, their files, deleted versions, unfinished writes.

Rules that it keeps:
- Files are listed first and logs are read second: what a log names by then was named, and is kept.
- The whole plan stands before the first write; a log that cannot be believed ends the call before it.
- A label is given up in the log before its files go: a slow writer that comes back is refused when it commits, and
  never told that it registered files that are gone.
- Log records are never touched, nor anything that the registry did not put there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from registry import clock
from registry.core import RegistryCore
from registry.encoding import parse_record
from registry.engines.judgement import judgement_name
from registry.errors import FormatError, IntegrityError, InvalidInputError
from registry.events import Abandoned, Deleted, Registered, Reserved, VariantAdded, VariantChosen, parse_event
from registry.findings import Findings, by_log, by_version
from registry.log import LogRecord, Snapshot
from registry.machine import ModelMachine
from registry.progress import track
from registry.records import EngineChoice
from registry.reports import GcReport, Leftover, Reservation
from registry.state import ModelState
from registry.store import ModelStore
from registry.versions import canonical
from registry.views import Status
from registry.walking import LogWalk

GRACE = timedelta(hours=24)
"""How long a writer may be silent before its reservation counts as given up."""


class Collecting(RegistryCore):
    """The verb that removes what nothing needs."""

    def gc(self, *, dry_run: bool = True, grace: timedelta = GRACE, actor: str | None = None) -> GcReport:
        """Give up reservations that came to nothing, and remove the files that no version needs.

        Args:
            dry_run: Say what would be done, and do nothing.
            grace: What is younger stays: by the storage's own time of a file where it has one, else by the event that
                made the file useless. What has neither stays and is reported. Longer than any upload takes.
            actor: Who is recorded as giving labels up.

        Raises:
            InvalidInputError: A negative time.
            IntegrityError, FormatError: A log cannot be believed or read; nothing was written.
            StoreError: The storage refused; repeating the call goes on.
        """
        if grace < timedelta(0):
            raise InvalidInputError(f"a grace of {grace} would be in the future: give a time from 0 on.")
        plan = _Plan(self.store, clock.now() - grace)
        for prefix, keys in by_log(self.store.list("")).items():
            if prefix.startswith("models/"):
                plan.model(prefix, keys)
            elif not prefix:
                plan.probes(key for key in keys if key.startswith(".doctor/"))
        done = plan.useless if dry_run else [one for one in plan.useless if self._remove(one, actor)]
        return GcReport(
            dry_run=dry_run,
            grace_s=grace.total_seconds(),
            abandoned=tuple(one.reservation for one in done if one.reservation is not None),
            removed=tuple(Leftover(file=self.store.address(key), why=one.why) for one in done for key in one.keys),
            temporary=tuple(self.store.sweep(older_than_s=grace.total_seconds(), dry_run=dry_run)),
            kept=tuple(plan.kept),
        )

    def _remove(self, useless: _Useless, actor: str | None) -> bool:
        """Remove what was found useless, if it still is; return whether it was."""
        if useless.reservation is not None and not self._give_up(useless.reservation, actor):
            return False
        if useless.engine is not None:
            name, version, key = useless.engine
            state = self._log(name).read().state.versions[version]
            judged = None if state.choice is None else state.choice.judgement
            if key in state.variants or (judged is not None and key == judgement_name(judged)):
                return False
        with track("removing", len(useless.keys), "files") as advance:
            # The sidecar last: as long as it is there, what is left can be told from a folder of somebody else's.
            for key in sorted(useless.keys, key=lambda key: (key.endswith("/metadata.json"), key)):
                self.store.delete(key)
                advance(1)
        return True

    def _give_up(self, one: Reservation, actor: str | None) -> bool:
        """Give a label up, unless its writer has finished meanwhile; return whether it is not its writer's any more."""
        key = canonical(one.version)

        def decide(known: Snapshot[ModelState]) -> Abandoned | None:
            version = known.state.versions.get(key)  # none in a state that this registry read long ago
            held = version is not None and version.status == "reserved" and version.path == one.path
            return Abandoned(version=key, reason="nothing came of it") if held else None

        version = self._append(one.model, decide, actor=actor).state.versions[key]
        return version.path != one.path or version.status != "registered"


@dataclass
class _Folder:
    """What the log says of a folder that was set aside for a version."""

    version: str
    label: str
    since: datetime
    status: Literal["reserved", "registered", "abandoned", "deleted"] = "reserved"
    ended: datetime | None = None
    engines: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Useless:
    """Files that nothing needs, with the reservation that is given up first, or the engine that must not be there."""

    keys: tuple[str, ...]
    why: str
    reservation: Reservation | None = None
    engine: tuple[str, str, str] | None = None


@dataclass
class _Plan:
    """What is of no use, and what may be; what is younger than ``limit`` is not judged."""

    store: ModelStore
    limit: datetime
    useless: list[_Useless] = field(default_factory=list)
    kept: list[Leftover] = field(default_factory=list)

    def model(self, prefix: str, listed: list[str]) -> None:
        """Judge a model's folders; ``listed`` are its keys, listed before its log is read.

        Raises:
            IntegrityError: Its log cannot be believed: what it does not name may be needed all the same.
        """
        folders = _folders(self.store, prefix, listed)
        files = by_version(prefix, listed)
        for path, folder in folders.items():
            keys = files.pop(f"{prefix}{path}", [])
            if folder.status != "registered":
                self._check_never_registered(keys, folder)
            match folder.status:
                case "registered":
                    self._engines(prefix, path, folder, keys)
                case "reserved":
                    self._reserved(prefix, path, folder, keys)
                case _:
                    self._ended(folder, keys)
        for place, keys in files.items():
            if place.startswith(f"{prefix}versions/"):
                self._check_never_registered(keys, None)
                self._orphans(keys, known=bool(folders))

    def probes(self, listed: Iterable[str]) -> None:
        """Judge what a ``doctor`` that was killed has left."""
        for key in listed:
            self._if_old(key, "a probe of doctor's")

    def _check_never_registered(self, keys: list[str], folder: _Folder | None) -> None:
        """Refuse a log that does not know of a registration that a status was written after."""
        status = next((key for key in keys if key.endswith("/status.json")), None)
        if status is not None and (folder is None or folder.status != "deleted"):
            raise _log_is_cut(self.store.address(status), "no status of a version that was not registered")

    def _check_never_added(self, status: str, engines: Collection[str]) -> None:
        """Refuse a log that does not know of an engine that a status names."""
        try:
            known = parse_record(Status, self.store.read(status), self.store.address(status)).variants
        except (FileNotFoundError, FormatError):  # a projection, which proves nothing by being damaged
            return
        if any(name in known for name in engines):
            raise _log_is_cut(self.store.address(status), "no engine that the log does not know")

    def _reserved(self, prefix: str, path: str, folder: _Folder, keys: list[str]) -> None:
        if folder.since > self.limit:
            return
        ages = {key: self._age(key) for key in keys}
        if any(age is not None and age > self.limit for age in ages.values()):
            return  # its writer is slow, and at work
        old = tuple(key for key, age in ages.items() if age is not None)
        model = prefix.split("/")[1]
        one = Reservation(model=model, version=folder.label, path=path, since=folder.since)
        self.useless.append(_Useless(old, f"{model}:{folder.label} was never registered", reservation=one))
        for key in sorted(ages.keys() - old):
            self._keep(key, "its label is given up now, and its own age cannot be told: it goes after the next grace")

    def _ended(self, folder: _Folder, keys: list[str]) -> None:
        why = f"{folder.label} was {folder.status}"
        young = {key for key in keys if folder.status == "abandoned" and (self._age(key) or self.limit) > self.limit}
        if folder.ended is None or folder.ended > self.limit:
            young = set(keys)
        for key in sorted(young):
            self._keep(key, f"{why}; young yet")
        if old := tuple(key for key in keys if key not in young):
            self.useless.append(_Useless(old, why))

    def _engines(self, prefix: str, path: str, folder: _Folder, keys: list[str]) -> None:
        top = f"{prefix}{path}/variants/"
        unknown: dict[str, list[str]] = {}
        for key in keys:
            name = key.removeprefix(top).partition("/")[0]
            if key.startswith(top) and name not in folder.engines:
                unknown.setdefault(name, []).append(key)
        if unknown:
            self._check_never_added(f"{prefix}{path}/status.json", unknown)
        for name, parts in unknown.items():
            if all((self._age(key) or clock.now()) <= self.limit for key in parts):
                engine = (prefix.split("/")[1], folder.version, name)
                self.useless.append(_Useless(tuple(parts), "an engine that was never finished", engine=engine))
            else:
                for key in parts:
                    self._keep(key, "an engine that is not finished: young, or of an age that cannot be told")

    def _orphans(self, keys: list[str], *, known: bool) -> None:
        for key in keys:
            if not known or f"{key.rpartition('/')[0]}/metadata.json" in keys:
                self._keep(key, "the log does not know it, and it may be needed: see `modelway models verify`")
            else:
                self._if_old(key, "no version was to be here")

    def _if_old(self, key: str, why: str) -> None:
        if (self._age(key) or clock.now()) <= self.limit:
            self.useless.append(_Useless((key,), why))
        else:
            self._keep(key, f"{why}; young, or of an age that cannot be told")

    def _age(self, key: str) -> datetime | None:
        try:
            return self.store.modified(key)
        except FileNotFoundError:
            return None

    def _keep(self, key: str, why: str) -> None:
        self.kept.append(Leftover(file=self.store.address(key), why=why))


def _log_is_cut(file: str, expected: str) -> IntegrityError:
    return IntegrityError(
        file,
        expected,
        "one: the end of the log is missing",
        mend="Nothing was removed. Restore the log from a copy; `modelway models verify` says where it ends.",
    )


def _folders(store: ModelStore, prefix: str, listed: list[str]) -> dict[str, _Folder]:
    """Return what a model's log says of each folder that it ever named."""
    folders: dict[str, _Folder] = {}
    current: dict[str, str] = {}

    def visit(_snapshot: Snapshot[ModelState], record: LogRecord) -> None:
        match event := parse_event(record.event):
            case Reserved():
                current[event.version] = event.path
                folders[event.path] = _Folder(event.version, event.label, record.time)
            case Registered():
                folders[current[event.version]].status = "registered"
            case Abandoned() | Deleted():
                folder = folders[current[event.version]]
                folder.status, folder.ended = event.type, record.time
            case VariantAdded():
                folders[current[event.version]].engines.add(event.key)
            case VariantChosen(choice=EngineChoice(judgement=str() as digest)):
                folders[current[event.version]].engines.add(judgement_name(digest))
            case _:
                pass

    findings = Findings(store)
    records = [key for key in listed if key.startswith(f"{prefix}log/")]
    if not LogWalk(findings, prefix, ModelMachine(), records).walk(visit).whole:
        raise IntegrityError(
            findings.found[0].file,
            "a log that can be believed from its first record to its last",
            findings.found[0].problem,
            mend="Nothing was removed. `modelway models verify` lists everything that is wrong.",
        )
    return folders
