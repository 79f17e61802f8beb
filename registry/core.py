"""What all verbs of a registry share: its store, its logs, and the projections beside them."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from registry import clock
from registry.base import StoredRecord
from registry.config import RegistryConfig, configured_location, default_actor
from registry.encoding import FORMAT, digest_of, parse_record, readable_json
from registry.errors import IntegrityError, InvalidInputError, ModelNotFoundError, ModelwayError, StoreError
from registry.events import GuardChanged, ModelEvent
from registry.guard import Guard, GuardSet, RootEvent, RootMachine, RootState
from registry.log import EventLog, Snapshot, read_together
from registry.log.event_log import Decide
from registry.machine import ModelMachine
from registry.names import check_name, near
from registry.records import ModelVersion
from registry.state import ModelState
from registry.store import AlreadyExistsError, InMemoryModelStore, ModelStore, open_store
from registry.views import aliases_by_version, status_of, version_of

Recorded = TypeVar("Recorded", bound=StoredRecord)
ModelLog = EventLog[ModelState, ModelEvent]

_IDENTITY = "registry.json"


class RegistryIdentity(StoredRecord):
    """``registry.json``: the format's number and the registry's id; created once, never changed."""

    format: int = FORMAT
    id: str
    created_at: datetime


class _OldGuardError(ModelwayError):
    """The guard that was read is older than the one that the model's log was told of."""


def _told(state: ModelState, guard: int) -> GuardChanged | None:
    return GuardChanged(guard=guard) if state.guard < guard else None


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
        if store is None and where is not None:
            store = open_store(where, storage_options=self.config.client_options)
        self.store = store or InMemoryModelStore()
        self._identity: RegistryIdentity | None = None
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
        if self._identity is None:
            self._identity = self._read_identity() or self._make_identity()
        return self._identity

    def _read_identity(self) -> RegistryIdentity | None:
        try:
            data = self.store.read(_IDENTITY)
        except FileNotFoundError:
            return None
        return parse_record(RegistryIdentity, data, self.store.address(_IDENTITY))

    def _make_identity(self) -> RegistryIdentity:
        data = readable_json(RegistryIdentity(id=uuid.uuid4().hex, created_at=clock.now()))
        with contextlib.suppress(AlreadyExistsError):
            self.store.create(_IDENTITY, data)
            self._prove_exclusive_create(data)
        # Read back in any case: another may have been first, and what is there is what holds.
        return parse_record(RegistryIdentity, self.store.read(_IDENTITY), self.store.address(_IDENTITY))

    def _prove_exclusive_create(self, data: bytes) -> None:
        """Create again what was just created: a store that lets it pass would lose what two racing writers write.

        Raises:
            AlreadyExistsError: As it should be.
            StoreError: The second create succeeded.
        """
        self.store.create(_IDENTITY, data)
        self.store.delete(_IDENTITY)
        raise StoreError(
            f"{self.url} lets two writers create the same object, so records would be lost; nothing was kept there. "
            f"Use a store with an exclusive create; `modelway models doctor` tells what this one does."
        )

    @property
    def guard(self) -> Guard:
        """The settings that every client is held to."""
        return self._root.read().state.guard

    def set_guard(self, guard: Guard, *, only_if_unset: bool = False, actor: str | None = None) -> Guard:
        """Set what every client is held to; recorded like everything else.

        The log of every model is told, so that a client who has read before cannot decide by the old settings.

        Args:
            guard: The new settings, whole.
            only_if_unset: Leave a guard that was ever set as it is.
            actor: Who is recorded.

        Returns:
            The guard that holds now.

        Raises:
            InvalidInputError: A setting that this release does not know.
            StoreError: The storage failed; if it did so while models were told, repeating the call tells the rest.
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

        root = self._root.append(decide, actor=actor or self.actor).snapshot.state
        for name, known in self._snapshots(root.models).items():
            if known.state.guard < root.guard_number:
                self._append(name, lambda known: _told(known.state, root.guard_number), actor=actor)
        return root.guard

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

    def _snapshots(self, names: Sequence[str]) -> dict[str, Snapshot[ModelState]]:
        """Return the newest states of several models, in as many round trips as one of them takes."""
        return dict(zip(names, read_together(self.store, [self._log(name) for name in names]), strict=True))

    def _check_exists(self, name: str, known: Snapshot[ModelState]) -> None:
        if known.state.latest() is None:
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

    def _append_guarded(
        self, name: str, plan: Callable[[ModelState, RootState], ModelEvent | None], *, actor: str | None = None
    ) -> Snapshot[ModelState]:
        """Append what ``plan`` gives on a model's state and on the guard that holds for it.

        Cold, both logs are read together. Warm, the root's log is not asked: whoever changes the guard tells the
        model's log, and then this append is refused by the record that tells it.
        """
        root = self._root.known
        if root is None or self._log(name).known is None:
            root, _ = read_together(self.store, [self._root, self._log(name)])
        while True:
            held: RootState = root.state

            def decide(known: Snapshot[ModelState], held: RootState = held) -> ModelEvent | None:
                if held.guard_number < known.state.guard:
                    raise _OldGuardError
                return plan(known.state, held)

            try:
                return self._append_existing(name, decide, actor=actor)
            except _OldGuardError:
                root = self._root.read()
                if root.state is held:
                    expected = (
                        f"the guard of its record {self._log(name).read().state.guard}, as the log of {name} has it"
                    )
                    raise IntegrityError(self.store.address("log"), expected, "none so late") from None

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
            version = None if key is None else known.state.versions.get(key)
            if key is None or version is None or version.status != "registered":
                continue
            status = status_of(name, known, key)
            # The event is in the log: a projection that could not be written is late, not lost.
            with contextlib.suppress(StoreError):
                self.store.replace(f"models/{name}/{version.path}/status.json", readable_json(status))

    def _version(self, name: str, known: Snapshot[ModelState], key: str) -> ModelVersion:
        return next(self._versions(name, known, [key]))

    def _versions(self, name: str, known: Snapshot[ModelState], keys: Iterable[str]) -> Iterator[ModelVersion]:
        address, aliases = self.store.address(f"models/{name}"), aliases_by_version(known.state)
        for key in keys:
            yield version_of(name, known, key, address=address, aliases=aliases.get(key, ()))
