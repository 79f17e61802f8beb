"""What a Prefect server holds of modelway's deployments, as people want to see it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags, WorkerFilter, WorkerFilterStatus
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import Automation, EventTrigger
from prefect.events.schemas.events import Resource, ResourceSpecification

from deployments.applying import automations, full_name, under_way
from registry.base import Record


class Shown(Record):
    """A deployment: the workers that are online on its pool, and how many of its runs were started and did not end."""

    name: str
    pool: str
    workers: int
    schedules: tuple[str, ...]
    triggers: tuple[str, ...]
    under_way: int


def shown(client: SyncPrefectClient, tag: str) -> list[Shown]:
    """Return the deployments that carry a tag, by name."""
    found = client.read_deployments(deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[tag])))
    every = list(automations(client))
    rows = [
        Shown(
            name=full_name(client, one),
            pool=one.work_pool_name or "",
            workers=_online(client, one.work_pool_name),
            schedules=tuple(_in_words(schedule) for schedule in one.schedules),
            triggers=tuple(_event(each) for each in every if one.id in _starts(each)),
            under_way=under_way(client, one.id),
        )
        for one in found
    ]
    return sorted(rows, key=lambda row: row.name)


def waiting_for(client: SyncPrefectClient, event: str, resource: str) -> list[Automation]:
    """Return the enabled automations that an event of a resource starts."""
    return [one for one in automations(client) if one.enabled and _covers(one, event, resource)]


def _covers(automation: Automation, event: str, resource: str) -> bool:
    trigger = automation.trigger
    if not isinstance(trigger, EventTrigger) or not any(fnmatchcase(event, wanted) for wanted in trigger.expect):
        return False
    match = ResourceSpecification.model_validate(trigger.match)
    return match.includes([Resource({"prefect.resource.id": resource})])


def _online(client: SyncPrefectClient, pool: str | None) -> int:
    if pool is None:
        return 0
    online = WorkerFilter(status=WorkerFilterStatus(any_=["ONLINE"]))
    return len(client.read_workers_for_work_pool(pool, worker_filter=online))


def _in_words(schedule: DeploymentSchedule) -> str:
    when = schedule.schedule
    words = f"{when.cron} {when.timezone}" if isinstance(when, CronSchedule) else type(when).__name__
    return f"{schedule.slug or '-'}: {words}{'' if schedule.active else ' (paused)'}"


def _starts(automation: Automation) -> set[UUID | None]:
    return {action.deployment_id for action in automation.actions if isinstance(action, RunDeployment)}


def _event(automation: Automation) -> str:
    expected = getattr(automation.trigger, "expect", ())
    return f"{', '.join(sorted(expected))}{'' if automation.enabled else ' (disabled)'}"
