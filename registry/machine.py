"""The machine that a model's log is folded with: what each event does to the state; pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from registry.events import (
    Abandoned,
    Aliased,
    Annotated_,
    AnswerRefused,
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
    RunEnded,
    RunStarted,
    VariantAdded,
    VariantChosen,
    parse_event,
)
from registry.log.record import LogRecord
from registry.records import Deployed, Run
from registry.stages import ModelStage
from registry.state import LONGEST_WAY, MOST_RUNS, Asked, ModelState
from registry.version_state import Versions, VersionState

_VERSIONS_FOLLOW = b',"versions":{\n'
_END = b"\n}}"


class ModelMachine:
    """The machine that a model's log is folded with."""

    name = "model/4"

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
def _(event: AnswerRefused, state: ModelState, record: LogRecord) -> ModelState:  # noqa: ARG001 - one signature for all
    asked = state.asked[event.request_id]
    heard = asked.model_copy(update={"refused": (*asked.refused, event.refused)})
    return state.model_copy(update={"asked": {**state.asked, event.request_id: heard}})


@_fold.register
def _(event: RunStarted, state: ModelState, record: LogRecord) -> ModelState:
    begun = state.runs.get(event.run)
    run = Run(
        id=event.run,
        kind=event.kind,
        holder=event.holder,
        process=event.process,
        deployment=event.deployment,
        reason=event.reason,
        version=event.version,
        parameters=event.parameters,
        started_at=record.time if begun is None else begun.started_at,
        carried_since=record.time,
        carriers=1 if begun is None else begun.carriers + (begun.holder != event.holder),
    )
    return state.model_copy(update={"runs": {**state.runs, event.run: run}})


@_fold.register
def _(event: RunEnded, state: ModelState, record: LogRecord) -> ModelState:
    ended = {"ended_at": record.time, "ending": event.ending, "words": event.words, "version": event.version}
    # At the end of the order: what is forgotten first is what ended first.
    runs = {id_: run for id_, run in state.runs.items() if id_ != event.run}
    runs[event.run] = state.runs[event.run].model_copy(update=ended)
    for id_ in [id_ for id_, run in runs.items() if run.ending is not None][:-MOST_RUNS]:
        del runs[id_]
    return state.model_copy(update={"runs": runs})


@_fold.register
def _(event: VariantAdded, state: ModelState, record: LogRecord) -> ModelState:  # noqa: ARG001 - one signature for all
    return state.with_version(
        event.version, variants={**state.versions[event.version].variants, event.key: event.digest}
    )


@_fold.register
def _(event: VariantChosen, state: ModelState, record: LogRecord) -> ModelState:  # noqa: ARG001 - one signature for all
    return state.with_version(event.version, choice=event.choice).with_key(event, event.version)


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
