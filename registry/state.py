"""A model's state machine: what its events mean; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import singledispatch
from typing import Any, Literal

from pydantic import Field

from registry.base import StoredRecord
from registry.errors import VersionNotFoundError
from registry.events import (
    Abandoned,
    Aliased,
    Annotated_,
    ApprovalAnswered,
    ApprovalAsked,
    DeployedAt,
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
from registry.policy import Evidence
from registry.records import Approval, ApprovalRequest, Artifact, Deployed, Description, EngineChoice
from registry.stages import ModelStage
from registry.versions import Strategy, VersionRef, canonical


class VersionState(StoredRecord):
    """What is known of one version; readers see it only once its status is ``registered``."""

    label: str
    ordinal: int
    path: str
    status: Literal["reserved", "registered", "abandoned"] = "reserved"
    key: str | None = None
    created_at: datetime
    created_by: str
    registered_as: int = 0
    stage: ModelStage = ModelStage.DEVELOPMENT
    stage_since: datetime
    metadata_digest: str = ""
    described: Description = Description()
    measured_on: dict[str, str] = Field(default_factory=dict)
    artifact: Artifact | None = None
    approvals: tuple[Approval, ...] = ()
    variants: dict[str, str] = Field(default_factory=dict)
    choice: EngineChoice | None = None
    deployments: tuple[Deployed, ...] = ()
    held_production: bool = False

    def evidence(self, full_name: str) -> Evidence:
        """Return the metrics as a policy sees them."""
        return Evidence(label=full_name, metrics=self.described.metrics.as_dict(), measured_on=self.measured_on)


class Asked(StoredRecord):
    """A request for approval and the answers to it."""

    request: ApprovalRequest
    answers: tuple[Approval, ...] = ()


class ModelState(StoredRecord):
    """A model as its log says: versions by canonical label, and the way that production went, newest last."""

    versions: dict[str, VersionState] = Field(default_factory=dict)
    strategy: Strategy | None = None
    production: str | None = None
    holders: tuple[str, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict)
    asked: dict[str, Asked] = Field(default_factory=dict)
    keys: dict[str, str] = Field(default_factory=dict)

    def registered(self) -> dict[str, VersionState]:
        """Return the versions that readers may see, in order of registration."""
        seen = ((key, version) for key, version in self.versions.items() if version.status == "registered")
        return dict(sorted(seen, key=lambda pair: pair[1].registered_as))

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
        changed = self.versions[key].model_copy(update=changes)
        return self.model_copy(update={"versions": {**self.versions, key: changed}})

    def recall(self, event_type: str, key: str | None) -> str | None:
        """Return what the event of this type with this idempotency key was about; None where there was none.

        Each type has its own: a run may give all its steps one key, and no step is taken for another's.
        """
        return None if key is None else self.keys.get(f"{event_type} {key}")

    def with_key(self, event: Reserved | Moved | RolledBack | Annotated_ | ApprovalAsked, about: str) -> ModelState:
        """Return this state with an idempotency key remembered, if there is one."""
        if event.key is None:
            return self
        return self.model_copy(update={"keys": {**self.keys, f"{event.type} {event.key}": about}})


class ModelMachine:
    """The machine that a model's log is folded with."""

    name = "model/1"

    def initial(self) -> ModelState:
        """Return a model without versions."""
        return ModelState()

    def load(self, state: bytes) -> ModelState:
        """Return the state that a checkpoint holds."""
        return ModelState.model_validate_json(state)

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
    versions = {**state.versions, event.version: reserved}
    return state.model_copy(update={"versions": versions, "strategy": event.strategy}).with_key(event, event.version)


@_fold.register
def _(event: Registered, state: ModelState, record: LogRecord) -> ModelState:
    return state.with_version(
        event.version,
        status="registered",
        registered_as=record.number,
        metadata_digest=event.metadata_digest,
        described=event.described,
        artifact=event.artifact,
    )


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
        moved = _into_production(state, event.version, record, holders=(*state.holders, event.version))
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
    versions = dict(state.versions)
    if state.production is not None and state.production != key:
        demoted = {"stage": ModelStage.ARCHIVED, "stage_since": record.time}
        versions[state.production] = versions[state.production].model_copy(update=demoted)
    promoted = {"stage": ModelStage.PRODUCTION, "stage_since": record.time, "held_production": True}
    versions[key] = versions[key].model_copy(update=promoted)
    return state.model_copy(update={"versions": versions, "production": key, "holders": holders})


@_fold.register
def _(event: Restored, state: ModelState, record: LogRecord) -> ModelState:
    return state.with_version(event.version, stage=ModelStage.DEVELOPMENT, stage_since=record.time)


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
    return state.model_copy(update={"aliases": aliases})


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
