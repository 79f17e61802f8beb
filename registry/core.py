"""What all verbs of a registry share: its store, its logs, and the projections beside them."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from registry import clock
from registry.base import StoredRecord
from registry.config import RegistryConfig, configured_location, default_actor
from registry.encoding import FORMAT, digest_of, parse_record, readable_json
from registry.errors import IntegrityError, InvalidInputError, ModelNotFoundError, StoreError
from registry.events import ModelEvent
from registry.guard import Guard, GuardSet, RootEvent, RootMachine, RootState
from registry.log import EventLog, Snapshot
from registry.log.event_log import Decide
from registry.names import check_name, near
from registry.records import Approval, Deployed, ModelVersion
from registry.stages import ModelStage
from registry.state import ModelMachine, ModelState
from registry.store import AlreadyExistsError, InMemoryModelStore, ModelStore, open_store
from registry.views import version_of

Recorded = TypeVar("Recorded", bound=StoredRecord)
ModelLog = EventLog[ModelState, ModelEvent]


class RegistryIdentity(StoredRecord):
    """``registry.json``: the format's number and the registry's id; created once, never changed."""

    format: int = FORMAT
    id: str
    created_at: datetime


class Status(StoredRecord):
    """``status.json``: where a version stood after event ``as_of``; a projection that the log can rebuild."""

    format: int = FORMAT
    model: str
    version: str
    stage: ModelStage
    stage_since: datetime
    aliases: tuple[str, ...]
    approvals: tuple[Approval, ...]
    deployments: tuple[Deployed, ...]
    variants: tuple[str, ...]
    chosen_variant: str | None
    as_of: int


class RegistryCore:
    """A registry's store and logs; the verbs are in the classes that build on it."""

    def __init__(
        self,
        location: str | os.PathLike[str] | RegistryConfig | None = None,
        *,
        store: ModelStore | None = None,
        config: RegistryConfig | None = None,
        actor: str | None = None,
    ) -> None:
        """Open the registry at ``location``; nothing is read or written yet.

        Args:
            location: A path, a URL or a RegistryConfig. None: ``MODELWAY_URL`` or ``[tool.modelway]``, else in memory.
            store: A store of your own instead of a location.
            config: Preferences, beside a location or a store.
            actor: Who is recorded as acting; ``MODELWAY_ACTOR`` or ``user@host`` by default.

        Raises:
            InvalidInputError: Both a store and a location, or a location that cannot be opened.
        """
        if isinstance(location, RegistryConfig):
            config, location = location, None
        self.config = config or RegistryConfig()
        if store is not None and (location is not None or self.config.location is not None):
            raise InvalidInputError("give a ModelRegistry either a location or a store, not both.")
        self.actor = actor or default_actor()
        where = location if location is not None else self.config.location or configured_location()
        self.store = store or (open_store(where) if where is not None else InMemoryModelStore())
        self._root: EventLog[RootState, RootEvent] = EventLog(self.store, "", RootMachine())
        self._logs: dict[str, ModelLog] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where the registry lies."""
        return self.store.url

    @property
    def identity(self) -> RegistryIdentity:
        """The registry's id; made at first need.

        Raises:
            FormatError: A later release wrote it.
        """
        key = "registry.json"
        with contextlib.suppress(FileNotFoundError):
            return parse_record(RegistryIdentity, self.store.read(key), self.store.address(key))
        with contextlib.suppress(AlreadyExistsError):
            self.store.create(key, readable_json(RegistryIdentity(id=uuid.uuid4().hex, created_at=clock.now())))
        return parse_record(RegistryIdentity, self.store.read(key), self.store.address(key))

    @property
    def guard(self) -> Guard:
        """The settings that every client is held to."""
        return self._root.read().state.guard

    def set_guard(self, guard: Guard, *, only_if_unset: bool = False, actor: str | None = None) -> Guard:
        """Set what every client is held to; recorded like everything else.

        Args:
            guard: The new settings, whole.
            only_if_unset: Leave a guard that was ever set as it is.
            actor: Who is recorded.

        Returns:
            The guard that holds now.

        Raises:
            InvalidInputError: A setting that this release does not know.
        """
        if unknown := ", ".join(guard.model_extra or ()):
            known_words = ", ".join(type(guard).model_fields)
            raise InvalidInputError(
                f"a guard has no {unknown}, and what is misspelt guards nothing; it has: {known_words}."
            )
        _ = self.identity

        def decide(known: Snapshot[RootState]) -> GuardSet | None:
            unchanged = known.state.guard_number > 0 and (only_if_unset or known.state.guard == guard)
            return None if unchanged else GuardSet(guard=guard)

        return self._root.append(decide, actor=actor or self.actor).snapshot.state.guard

    def _log(self, name: str) -> ModelLog:
        with self._lock:
            if name not in self._logs:
                self._logs[name] = EventLog(self.store, f"models/{check_name(name)}/", ModelMachine())
            return self._logs[name]

    def _read(self, name: str) -> Snapshot[ModelState]:
        """Return a model's newest state.

        Raises:
            ModelNotFoundError: It has no registered version; names similar ones.
        """
        known = self._log(name).read()
        self._check_exists(name, known)
        return known

    def _check_exists(self, name: str, known: Snapshot[ModelState]) -> None:
        if not any(version.status == "registered" for version in known.state.versions.values()):
            raise ModelNotFoundError(name, near(name, self._root.read().state.models), root=self.url)

    def _append(
        self, name: str, decide: Decide[ModelState, ModelEvent], *, actor: str | None = None
    ) -> Snapshot[ModelState]:
        """Append to a model's log and rewrite the projections of the versions that changed."""
        appended = self._log(name).append(decide, actor=actor or self.actor)
        if appended.record is not None:
            event = appended.record.event
            self._project(
                name, appended.snapshot, {event.get("version"), event.get("demoted"), event.get("taken_from")}
            )
        return appended.snapshot

    def _append_existing(
        self, name: str, decide: Decide[ModelState, ModelEvent], *, actor: str | None = None
    ) -> Snapshot[ModelState]:
        """Append to the log of a model that has a version; one round trip when this object has read it before."""

        def decide_if_it_exists(known: Snapshot[ModelState]) -> ModelEvent | None:
            self._check_exists(name, known)
            return decide(known)

        return self._append(name, decide_if_it_exists, actor=actor)

    def _read_recorded(self, kind: type[Recorded], key: str, digest: str) -> Recorded:
        """Return the record under ``key``, whose digest the log holds.

        Raises:
            IntegrityError: It was changed or is gone.
        """
        where = self.store.address(key)
        try:
            data = self.store.read(key)
        except FileNotFoundError:
            raise IntegrityError(where, digest, "no such file") from None
        if digest_of(data) != digest:
            raise IntegrityError(where, digest, digest_of(data))
        return parse_record(kind, data, where)

    def _project(self, name: str, known: Snapshot[ModelState], versions: Iterable[str | None]) -> None:
        for key in versions:
            version = known.state.versions.get(key or "")
            if version is None or version.status != "registered":
                continue
            shown = self._version(name, known, key or "")
            status = Status(
                model=name,
                version=shown.version,
                stage=shown.stage,
                stage_since=shown.stage_since,
                aliases=shown.aliases,
                approvals=shown.approvals,
                deployments=shown.deployments,
                variants=shown.variants,
                chosen_variant=None if version.choice is None else version.choice.key,
                as_of=known.number,
            )
            # The event is in the log: a projection that could not be written is late, not lost.
            with contextlib.suppress(StoreError):
                self.store.replace(f"models/{name}/{version.path}/status.json", readable_json(status))

    def _version(self, name: str, known: Snapshot[ModelState], key: str) -> ModelVersion:
        state = known.state.versions[key]
        return version_of(name, known, key, artifact_path=self.store.address(f"models/{name}/{state.path}"))
