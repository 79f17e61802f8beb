"""Bring a Prefect server to what a deployments file says, and tell what was done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import Automation
from prefect.exceptions import ObjectNotFound

from deployments.plan import Found, Step, Thing, Verb, plan, started
from deployments.settings import Wanted
from registry.base import Record

_PAGE: Final = 200
_UNDER_WAY: Final = (StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING)


class Change(Record):
    """What was done, or would be, with one thing on the server."""

    verb: Verb
    thing: Thing
    name: str
    words: str


class Report(Record):
    """What an apply did, or would do: ``changes`` are empty where the server held everything already."""

    server: str
    applied: bool
    changes: tuple[Change, ...]

    @property
    def changed(self) -> int:
        """How many things were created, changed or removed, or would be."""
        return sum(change.verb != "leave" for change in self.changes)


def apply(wanted: Wanted, client: SyncPrefectClient, *, prune: bool = False, dry_run: bool = False) -> Report:
    """Make the server hold what is wanted.

    Everything is read and compared first. The writes come one by one: where one fails, those before it stand, and the
    next apply does the rest.

    Args:
        wanted: The file.
        client: The server.
        prune: Remove what is no longer in the file.
        dry_run: Only tell.

    Raises:
        ModelwayError: A pool is there with another type.
    """
    steps = plan(wanted, look(wanted, client), prune=prune)
    if not dry_run:
        for step in steps:
            if step.verb != "leave":
                _DOERS[step.thing, step.verb](client, step)
    changes = tuple(Change(verb=step.verb, thing=step.thing, name=step.name, words=step.words) for step in steps)
    return Report(server=str(client.api_url).rstrip("/"), applied=not dry_run, changes=changes)


def look(wanted: Wanted, client: SyncPrefectClient) -> Found:
    """Read what the server holds of it now: what the file names, and what carries its tag."""
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[wanted.tag]))
    deployments = {full_name(client, one): one for one in client.read_deployments(deployment_filter=tagged)}
    for one in wanted.deployments:
        if one.full_name not in deployments and (found := _deployment(client, one.full_name)) is not None:
            deployments[one.full_name] = found
    names = {one.full_name for one in wanted.deployments}
    return Found(
        pools={pool.name: pool for pool in client.read_work_pools()},
        deployments=deployments,
        automations={one.name: one for one in automations(client) if one.name.startswith(f"{wanted.tag}: ")},
        busy={name: under_way(client, one.id) for name, one in deployments.items() if name not in names},
    )


def automations(client: SyncPrefectClient) -> Iterator[Automation]:
    """Yield every automation of the server."""
    offset = 0
    while page := client.read_automations(limit=_PAGE, offset=offset):
        yield from page
        offset += len(page)


def under_way(client: SyncPrefectClient, deployment: UUID) -> int:
    """Return how many runs of a deployment were started and have not ended, those that wait for a person among them."""
    return client.count_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_UNDER_WAY)))),
    )


def full_name(client: SyncPrefectClient, deployment: DeploymentResponse) -> str:
    """Return ``flow/deployment``."""
    return f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"


def _deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _create_pool(client: SyncPrefectClient, step: Step) -> None:
    client.create_work_pool(WorkPoolCreate(name=step.name, **step.payload))


def _change_pool(client: SyncPrefectClient, step: Step) -> None:
    client.update_work_pool(step.name, WorkPoolUpdate(**step.payload))


def _create_deployment(client: SyncPrefectClient, step: Step) -> None:
    flow, _, name = step.name.partition("/")
    client.create_deployment(client.create_flow_from_name(flow), name, **step.payload)


def _change_deployment(client: SyncPrefectClient, step: Step) -> None:
    client.update_deployment(_id(step), DeploymentUpdate(**step.payload))


def _remove_deployment(client: SyncPrefectClient, step: Step) -> None:
    client.delete_deployment(_id(step))


def _create_schedule(client: SyncPrefectClient, step: Step) -> None:
    client.create_deployment_schedules(_id_of(client, step), [DeploymentScheduleCreate(**step.payload)])


def _change_schedule(client: SyncPrefectClient, step: Step) -> None:
    client.update_deployment_schedule(_id_of(client, step), _id(step), **step.payload)


def _remove_schedule(client: SyncPrefectClient, step: Step) -> None:
    client.delete_deployment_schedule(_id_of(client, step), _id(step))


def _create_automation(client: SyncPrefectClient, step: Step) -> None:
    client.create_automation(started(step.payload, _id_of(client, step) if step.of else None))


def _change_automation(client: SyncPrefectClient, step: Step) -> None:
    client.update_automation(_id(step), started(step.payload, _id_of(client, step) if step.of else None))


def _remove_automation(client: SyncPrefectClient, step: Step) -> None:
    client.delete_automation(_id(step))


def _id(step: Step) -> UUID:
    if step.id is None:
        raise AssertionError(f"{step.verb} {step.thing} {step.name} was planned without the id of what is there")
    return step.id


def _id_of(client: SyncPrefectClient, step: Step) -> UUID:
    return client.read_deployment_by_name(step.of).id


_DOERS: Final[Mapping[tuple[str, str], Callable[[SyncPrefectClient, Step], Any]]] = {
    ("pool", "create"): _create_pool,
    ("pool", "change"): _change_pool,
    ("deployment", "create"): _create_deployment,
    ("deployment", "change"): _change_deployment,
    ("deployment", "remove"): _remove_deployment,
    ("schedule", "create"): _create_schedule,
    ("schedule", "change"): _change_schedule,
    ("schedule", "remove"): _remove_schedule,
    ("automation", "create"): _create_automation,
    ("automation", "change"): _change_automation,
    ("automation", "remove"): _remove_automation,
}
