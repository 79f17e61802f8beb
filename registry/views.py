"""From a model's state to the records that users see; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from registry.base import StoredRecord
from registry.encoding import FORMAT
from registry.events import Moved, Restored, RolledBack, parse_event
from registry.log.record import LogRecord, Snapshot
from registry.records import Approval, Deployed, ModelVersion, StageTransition
from registry.stages import ModelStage
from registry.state import ModelState


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


def status_of(name: str, known: Snapshot[ModelState], key: str) -> Status:
    """Return what ``status.json`` of one registered version says in ``known``; ``key`` is its canonical label."""
    version = known.state.versions[key]
    return Status(
        model=name,
        version=version.label,
        stage=version.stage,
        stage_since=version.stage_since,
        aliases=aliases_by_version(known.state).get(key, ()),
        approvals=version.approvals,
        deployments=version.deployments,
        variants=tuple(version.variants),
        chosen_variant=None if version.choice is None else version.choice.key,
        as_of=known.number,
    )


def aliases_by_version(state: ModelState) -> dict[str, tuple[str, ...]]:
    """Return the aliases that point at each version that has any, sorted."""
    found: dict[str, tuple[str, ...]] = {}
    for alias, key in sorted(state.aliases.items()):
        found[key] = (*found.get(key, ()), alias)
    return found


def version_of(
    name: str, known: Snapshot[ModelState], key: str, *, address: str, aliases: tuple[str, ...]
) -> ModelVersion:
    """Return one registered version as it stands in ``known``; ``address`` is that of the model's folder."""
    state = known.state.versions[key]
    return ModelVersion(
        name=name,
        version=state.label,
        ordinal=state.ordinal,
        stage=state.stage,
        stage_since=state.stage_since,
        created_at=state.created_at,
        created_by=state.created_by,
        described=state.described,
        measured_on=state.measured_on,
        artifact=state.artifact,
        artifact_path=f"{address}/{state.path}",
        metadata_digest=state.metadata_digest,
        aliases=aliases,
        approvals=state.approvals,
        deployments=state.deployments,
        variants=tuple(state.variants),
        as_of=known.number,
    )


def transitions(records: Iterable[LogRecord], labels: Mapping[str, str]) -> Iterator[tuple[str, StageTransition]]:
    """Yield each change of stage with the canonical label it is of, the oldest first.

    One record can hold two: a promotion to production, and the demotion of the one before.

    Args:
        records: The model's log.
        labels: The label that people gave, by canonical label.
    """
    for record in records:
        event = parse_event(record.event)
        if not isinstance(event, Moved | RolledBack | Restored):
            continue
        start, end = _ends(event)
        moved = StageTransition(
            number=record.number,
            timestamp=record.time,
            version=labels[event.version],
            from_stage=start,
            to_stage=end,
            actor=record.actor,
            reason=event.reason,
        )
        if isinstance(event, Moved):
            approval = event.approvals[-1] if event.approvals else None
            moved = moved.model_copy(update={"approval": approval, "policy_digest": event.policy_digest})
        yield event.version, moved
        if not isinstance(event, Restored) and event.demoted is not None:
            how = "rolled back to" if isinstance(event, RolledBack) else "replaced by"
            yield (
                event.demoted,
                StageTransition(
                    number=record.number,
                    timestamp=record.time,
                    version=labels[event.demoted],
                    from_stage=ModelStage.PRODUCTION,
                    to_stage=ModelStage.ARCHIVED,
                    actor=record.actor,
                    reason=f"{how} {labels[event.version]}",
                ),
            )


def _ends(event: Moved | RolledBack | Restored) -> tuple[ModelStage, ModelStage]:
    match event:
        case Moved():
            return event.from_stage, event.to_stage
        case RolledBack():
            return event.from_stage, ModelStage.PRODUCTION
        case Restored():
            return ModelStage.ARCHIVED, ModelStage.DEVELOPMENT
