"""A model's state machine: what its events mean; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import singledispatch
from typing import Any, TypeAlias

from pydantic import ConfigDict, Field

from registry.base import StoredRecord
from registry.errors import VersionNotFoundError
from registry.events import (
    Abandoned,
    Aliased,
    Annotated_,
    ApprovalAnswered,
    ApprovalAsked,
    Deleted,
    DeployedAt,
    GuardChanged,
    ModelEvent,
    Moved,
    Registered,
    Reserved,
    Restored,
    RolledBack,
    VariantAdded,
    VariantChosen,
    parse_event,
)
from registry.log.record import LogRecord
from registry.records import Approval, ApprovalRequest, Deployed
from registry.stages import ModelStage
from registry.version_state import Versions, VersionState
from registry.versions import Strategy, VersionRef, canonical

LONGEST_WAY = 100
"""Promotions that can be gone back through one by one; the log has all of them."""

_VERSIONS_FOLLOW = b',"versions":{\n'
_END = b"\n}}"


_Keyed: TypeAlias = Reserved | Moved | RolledBack | Restored | Annotated_ | Aliased | ApprovalAsked


class Asked(StoredRecord):
    """A request for approval and the answers to it."""

    request: ApprovalRequest
    answers: tuple[Approval, ...] = ()


class ModelState(StoredRecord):
    """A model as its log says.

    ``holders`` is the way that production went, newest last, as far back as ``LONGEST_WAY``; ``guard`` the record of
    the registry's own log that set what this model is held to, as far as the model's log was told.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    strategy: Strategy | None = None
    production: str | None = None
    holders: tuple[str, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict)
    asked: dict[str, Asked] = Field(default_factory=dict)
    keys: dict[str, str] = Field(default_factory=dict)
    guard: int = 0
    versions: Versions = Field(default_factory=Versions, exclude=True)

    def newest_first(self) -> Iterator[tuple[str, VersionState]]:
        """Yield the versions that readers may see with their canonical labels, the last registered first."""
        for key in reversed(self.versions):
            version = self.versions[key]
            if version.status == "registered":
                yield key, version

    def registered(self) -> dict[str, VersionState]:
        """Return the versions that readers may see by canonical label, in order of registration."""
        self.versions.parse_all()
        return {key: version for key, version in self.versions.items() if version.status == "registered"}

    def latest(self) -> str | None:
        """Return the canonical label of the version that was registered last."""
        return next((key for key, _ in self.newest_first()), None)

    def find(self, name: str, version: VersionRef) -> str:
        """Return the canonical label of a registered version, asked for by label or alias.

        Raises:
            VersionNotFoundError: There is none.
            InvalidVersionError: It is neither an alias nor a version label.
        """
        if isinstance(version, str) and (key := self.aliases.get(version)):
            return key
        key = canonical(version)
        found = self.versions.get(key)
        if found is None or found.status != "registered":
            raise VersionNotFoundError(name, str(version), [one.label for one in self.registered().values()])
        return key

    def with_version(self, key: str, **changes: Any) -> ModelState:
        """Return this state with one version changed."""
        return self.having(key, self.versions[key].model_copy(update=changes))

    def having(self, key: str, version: VersionState, *, last: bool = False) -> ModelState:
        """Return this state with one version put in; at the end of the order if ``last``."""
        return self.model_copy(update={"versions": self.versions.with_one(key, version, last=last)})

    def recall(self, event_type: str, key: str | None) -> str | None:
        """Return what the event of this type with this idempotency key was about; None where there was none.

        Each type has its own: a run may give all its steps one key, and no step is taken for another's.
        """
        return None if key is None else self.keys.get(f"{event_type} {key}")

    def with_key(self, event: _Keyed, about: str) -> ModelState:
        """Return this state with an idempotency key remembered, if there is one."""
        if event.key is None:
            return self
        return self.model_copy(update={"keys": {**self.keys, f"{event.type} {event.key}": about}})


class ModelMachine:
    """The machine that a model's log is folded with."""

    name = "model/2"

    def initial(self) -> ModelState:
        """Return a model without versions."""
        return ModelState()

    def dump(self, state: ModelState) -> bytes:
        """Return a state as one JSON object with a line for each version, so that one of many can be read alone."""
        head = state.model_dump_json().encode()
        return head[:-1] + _VERSIONS_FOLLOW + b",\n".join(state.versions.dump()) + _END

    def load(self, state: bytes) -> ModelState:
        """Return the state that a checkpoint holds; versions are parsed when they are looked at.

        Raises:
            ValueError: Not of the form that ``dump`` gives.
        """
        # JSON writes a line break inside a string as two other characters: these can only stand where dump put them.
        head, separator, rest = state.partition(_VERSIONS_FOLLOW)
        if not separator or not rest.endswith(_END):
            message = "a checkpoint has no list of versions"
            raise ValueError(message)
        lines = rest.removesuffix(_END)
        versions = Versions.load(lines.split(b",\n") if lines else ())
        return ModelState.model_validate_json(head + b"}").model_copy(update={"versions": versions})

    def parse(self, event: dict[str, Any]) -> ModelEvent:
        """Return the event that a record holds."""
        return parse_event(event)

    def fold(self, state: ModelState, event: ModelEvent, record: LogRecord) -> ModelState:
        """Return the state after ``event``."""
        return _fold(event, state, record)


@singledispatch
def _fold(event: Any, state: ModelState, record: LogRecord) -> ModelState:  # noqa: ARG001 - one signature for all
    raise TypeError(f"no fold for {event!r}")  # pragma: no cover - parse_event admits only the types below


@_fold.register
def _(event: Reserved, state: ModelState, record: LogRecord) -> ModelState:
    reserved = VersionState(
        label=event.label,
        ordinal=state.versions[event.version].ordinal if event.version in state.versions else len(state.versions) + 1,
        path=event.path,
        key=event.key,
        created_at=record.time,
        created_by=record.actor,
        stage_since=record.time,
    )
    strategy = state.model_copy(update={"strategy": event.strategy})
    return strategy.having(event.version, reserved).with_key(event, event.version)


@_fold.register
def _(event: Registered, state: ModelState, record: LogRecord) -> ModelState:
    registered = {
        "status": "registered",
        "registered_as": record.number,
        "metadata_digest": event.metadata_digest,
        "described": event.described,
        "measured_on": event.measured_on,
        "artifact": event.artifact,
    }
    told = state.model_copy(update={"guard": max(event.guard, state.guard)})
    return told.having(event.version, state.versions[event.version].model_copy(update=registered), last=True)


@_fold.register
def _(event: Abandoned, state: ModelState, record: LogRecord) -> ModelState:  # noqa: ARG001 - one signature for all
    keys = {
        key: about for key, about in state.keys.items() if not (about == event.version and key.startswith("reserved "))
    }
    return state.with_version(event.version, status="abandoned").model_copy(update={"keys": keys})


@_fold.register
def _(event: Moved, state: ModelState, record: LogRecord) -> ModelState:
    approvals = (*state.versions[event.version].approvals, *event.approvals)
    if event.to_stage is ModelStage.PRODUCTION:
        way = (*state.holders, event.version)[-LONGEST_WAY:]
        moved = _into_production(state, event.version, record, holders=way)
        moved = moved.with_version(event.version, approvals=approvals)
    else:
        left = event.from_stage is ModelStage.PRODUCTION
        moved = state.with_version(event.version, stage=event.to_stage, stage_since=record.time, approvals=approvals)
        moved = moved.model_copy(update={"production": None if left else state.production})
    return moved.with_key(event, event.version)


@_fold.register
def _(event: RolledBack, state: ModelState, record: LogRecord) -> ModelState:
    # Going back twice goes back twice: the way is cut at the version returned to, or it would only swing to and fro.
    way = state.holders
    kept = way[: len(way) - way[::-1].index(event.version)] if event.version in way else (*way, event.version)
    return _into_production(state, event.version, record, holders=kept).with_key(event, event.version)


def _into_production(state: ModelState, key: str, record: LogRecord, *, holders: tuple[str, ...]) -> ModelState:
    if state.production is not None and state.production != key:
        state = state.with_version(state.production, stage=ModelStage.ARCHIVED, stage_since=record.time)
    state = state.with_version(key, stage=ModelStage.PRODUCTION, stage_since=record.time, held_production=True)
    return state.model_copy(update={"production": key, "holders": holders})


@_fold.register
def _(event: Restored, state: ModelState, record: LogRecord) -> ModelState:
    restored = state.with_version(event.version, stage=ModelStage.DEVELOPMENT, stage_since=record.time)
    return restored.with_key(event, event.version)


@_fold.register
def _(event: Annotated_, state: ModelState, record: LogRecord) -> ModelState:  # noqa: ARG001 - one signature for all
    version = state.versions[event.version]
    changes: dict[str, Any] = {}
    if event.description is not None:
        changes["description"] = event.description
    if event.tags is not None:
        changes["tags"] = {**version.described.tags, **event.tags}
    measured_on: Mapping[str, str] = version.measured_on
    if event.metrics is not None:
        changes["metrics"] = version.described.metrics.updated(event.metrics)
        # A metric said again without its data is no longer known to come from the old data.
        measured_on = {name: data for name, data in measured_on.items() if name not in event.metrics}
        if event.measured_on is not None:
            measured_on = {**measured_on, **dict.fromkeys(event.metrics.keys(), event.measured_on)}
    described = version.described.model_copy(update=changes)
    return state.with_version(event.version, described=described, measured_on=measured_on).with_key(
        event, event.version
    )


@_fold.register
def _(event: Aliased, state: ModelState, record: LogRecord) -> ModelState:  # noqa: ARG001 - one signature for all
    aliases = {alias: version for alias, version in state.aliases.items() if alias != event.alias}
    if event.version is not None:
        aliases[event.alias] = event.version
    return state.model_copy(update={"aliases": aliases}).with_key(event, event.alias)


@_fold.register
def _(event: ApprovalAsked, state: ModelState, record: LogRecord) -> ModelState:  # noqa: ARG001 - one signature for all
    asked = {**state.asked, event.request.id: Asked(request=event.request)}
    return state.model_copy(update={"asked": asked}).with_key(event, event.request.id)


@_fold.register
def _(event: ApprovalAnswered, state: ModelState, record: LogRecord) -> ModelState:  # noqa: ARG001 - one signature for all
    asked = state.asked[event.answer.request_id]
    answered = asked.model_copy(update={"answers": (*asked.answers, event.answer)})
    return state.model_copy(update={"asked": {**state.asked, event.answer.request_id: answered}})


@_fold.register
def _(event: VariantAdded, state: ModelState, record: LogRecord) -> ModelState:  # noqa: ARG001 - one signature for all
    return state.with_version(
        event.version, variants={**state.versions[event.version].variants, event.key: event.digest}
    )


@_fold.register
def _(event: VariantChosen, state: ModelState, record: LogRecord) -> ModelState:  # noqa: ARG001 - one signature for all
    return state.with_version(event.version, choice=event.choice)


@_fold.register
def _(event: DeployedAt, state: ModelState, record: LogRecord) -> ModelState:
    deployed = Deployed(endpoint=event.endpoint, generation=event.generation, at=record.time)
    return state.with_version(event.version, deployments=(*state.versions[event.version].deployments, deployed))


@_fold.register
def _(event: Deleted, state: ModelState, record: LogRecord) -> ModelState:  # noqa: ARG001 - one signature for all
    # The label, and the key that gave it, stay taken: what was once said of v3 never comes to mean another v3.
    left = {
        "aliases": {alias: target for alias, target in state.aliases.items() if target != event.version},
        "holders": tuple(holder for holder in state.holders if holder != event.version),
    }
    return state.with_version(event.version, status="deleted").model_copy(update=left)


@_fold.register
def _(event: GuardChanged, state: ModelState, record: LogRecord) -> ModelState:  # noqa: ARG001 - one signature for all
    return state.model_copy(update={"guard": max(event.guard, state.guard)})
