"""What must change on a Prefect server so that it holds what a deployments file says; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, Literal
from uuid import UUID

from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, StateType, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.utilities.callables import parameter_schema

from deployments.pools import WorkPool as WantedPool
from deployments.settings import Deployment, ScheduleSettings, TriggerSettings, Wanted
from registry.errors import ModelwayError

Verb = Literal["create", "change", "remove", "leave"]
Thing = Literal["pool", "deployment", "schedule", "automation"]

_AT_REST: Final = ("Completed", "Failed", "TimedOut", "Cancelled", "Crashed", "Suspended", "Paused")
"""The states in which a run gives no sign of life and is not dead. Prefect's documentation leaves out the last two."""

_SILENT: Final = "Silent"
"""The state by which a run that gave no sign of life is marked, before it is crashed."""


@dataclass(frozen=True)
class Step:
    """One change: ``name`` is what it is called on the server, ``payload`` what it is to be."""

    verb: Verb
    thing: Thing
    name: str
    words: str = ""
    payload: Any = None
    of: str = ""
    id: UUID | None = None


@dataclass(frozen=True)
class Found:
    """What a server holds of it now. ``busy`` counts runs that were started and have not ended, by deployment."""

    pools: Mapping[str, WorkPool] = field(default_factory=dict)
    deployments: Mapping[str, DeploymentResponse] = field(default_factory=dict)
    automations: Mapping[str, Automation] = field(default_factory=dict)
    busy: Mapping[str, int] = field(default_factory=dict)


def plan(wanted: Wanted, found: Found, *, prune: bool) -> list[Step]:
    """Return the changes, in the order in which they can be made; none where all is as it is wanted.

    What a person did on the server stays: a paused schedule, a disabled automation, a schedule made in the UI.

    Args:
        wanted: The file.
        found: What the server holds under the file's tag.
        prune: Remove what is no longer in the file; otherwise it is left and told.

    Raises:
        ModelwayError: A pool of that name is there with another type, which cannot be changed.
    """
    steps = [step for pool in wanted.pools for step in _of_pool(pool, found.pools.get(pool.name))]
    for one in wanted.deployments:
        there = found.deployments.get(one.full_name)
        steps += _of_deployment(wanted.tag, one, there)
        steps += _of_schedules(one, there, prune=prune)
    automations = wanted_automations(wanted)
    steps += (step for name in automations for step in _of_automation(name, automations[name], found))
    # Before the deployments that they start.
    steps += (
        _gone(Step("remove", "automation", name, id=there.id), prune=prune)
        for name, there in found.automations.items()
        if name not in automations
    )
    steps += (
        _gone(Step("remove", "deployment", name, id=there.id), prune=prune, busy=found.busy.get(name, 0))
        for name, there in found.deployments.items()
        if name not in {one.full_name for one in wanted.deployments}
    )
    return steps


def _of_pool(pool: WantedPool, there: WorkPool | None) -> Iterator[Step]:
    settings = pool.settings
    wanted = {
        "description": settings.description,
        "concurrency_limit": settings.concurrency,
        "base_job_template": pool.template,
    }
    if there is None:
        yield Step("create", "pool", pool.name, f"of the type {settings.type}", {"type": settings.type, **wanted})
        return
    if there.type != settings.type:
        raise ModelwayError(
            f"the work pool {pool.name} is on the server with the type {there.type}, the file wants {settings.type}: "
            "a pool keeps its type. Give the one in the file another name. Nothing was changed."
        )
    if changed := _differing(wanted, {key: getattr(there, key) for key in wanted}):
        yield Step("change", "pool", pool.name, ", ".join(changed), changed)


def deployment_fields(tag: str, one: Deployment) -> dict[str, Any]:
    """Return a deployment as Prefect's client takes it, without its flow, its name and its schedules."""
    settings = one.settings
    return {
        # With a module path no file is looked for, and the flow's module is imported once, under its own name.
        "entrypoint": settings.flow.replace(":", "."),
        "description": settings.description or one.flow.description or "",
        "work_pool_name": one.pool.name,
        "job_variables": settings.job_variables,
        "parameters": settings.parameters,
        "parameter_openapi_schema": parameter_schema(one.flow).model_dump_for_openapi(),
        "enforce_parameter_schema": True,
        "tags": sorted({tag, *settings.tags}),
        "concurrency_limit": settings.concurrency,
        # CANCEL_NEW would cancel a run that was approved, when it comes back while another one runs.
        "concurrency_options": ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
    }


def _of_deployment(tag: str, one: Deployment, there: DeploymentResponse | None) -> Iterator[Step]:
    wanted = deployment_fields(tag, one)
    if there is None:
        yield Step("create", "deployment", one.full_name, f"on the pool {one.pool.name}", wanted)
        return
    limit = there.global_concurrency_limit
    apart = {
        "concurrency_limit": None if limit is None else limit.limit,
        "tags": sorted(there.tags),
        "description": there.description or "",
    }
    # To read `concurrency_limit` itself is deprecated, and warns.
    now = apart | {key: getattr(there, key) for key in wanted.keys() - apart.keys()}
    if changed := _differing(wanted, now):
        yield Step("change", "deployment", one.full_name, ", ".join(changed), changed, id=there.id)


def _of_schedules(one: Deployment, there: DeploymentResponse | None, *, prune: bool) -> Iterator[Step]:
    # A schedule that was made in the UI has no slug, and is its maker's own.
    slugs = {} if there is None else {found.slug: found for found in there.schedules if found.slug is not None}
    for schedule in one.settings.schedules:
        wanted = {"schedule": cron_of(schedule), "parameters": schedule.parameters}
        name, words = f"{one.full_name} {schedule.name}", f"{schedule.cron} {schedule.timezone}"
        found = slugs.pop(schedule.name, None)
        if found is None:
            yield Step("create", "schedule", name, words, {"slug": schedule.name, **wanted}, of=one.full_name)
        elif _differing(wanted, {"schedule": found.schedule, "parameters": found.parameters}):
            # All of it: a change that leaves the parameters out takes them away on the server.
            yield Step("change", "schedule", name, words, wanted, of=one.full_name, id=found.id)
    for slug, found in slugs.items():
        gone = Step("remove", "schedule", f"{one.full_name} {slug}", of=one.full_name, id=found.id)
        yield _gone(gone, prune=prune)


def cron_of(schedule: ScheduleSettings) -> CronSchedule:
    """Return a schedule as Prefect has it."""
    return CronSchedule(cron=schedule.cron, timezone=schedule.timezone)


def wanted_automations(wanted: Wanted) -> dict[str, tuple[str, AutomationCore]]:
    """Return the automations by name, each with the deployment that it starts; "" where it starts none."""
    triggers = {
        f"{wanted.tag}: {one.full_name} on {trigger.event} of {trigger.resource}": (one.full_name, trigger)
        for one in wanted.deployments
        for trigger in one.settings.triggers
    }
    automations = {name: (of, _on_event(name, trigger)) for name, (of, trigger) in triggers.items()}
    if wanted.zombies is not None:
        within = timedelta(seconds=wanted.zombies.within_s)
        both = (_mark_silent(wanted.tag, within), _crash_marked(wanted.tag, within))
        automations |= {one.name: ("", one) for one in both}
    return automations


def _on_event(name: str, trigger: TriggerSettings) -> AutomationCore:
    return AutomationCore(
        name=name,
        trigger=EventTrigger(
            expect={trigger.event},
            match={"prefect.resource.id": trigger.resource},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(seconds=trigger.at_most_every_s),
        ),
        # Which deployment is known when it is there: `started` puts it in.
        actions=[RunDeployment(source="inferred", parameters=trigger.parameters)],
    )


def started(automation: AutomationCore, deployment: UUID | None) -> AutomationCore:
    """Return an automation that starts this deployment; as it is where it starts none."""
    if deployment is None:
        return automation
    (action,) = automation.actions
    selected = RunDeployment(deployment_id=deployment, parameters=getattr(action, "parameters", None))
    return automation.model_copy(update={"actions": [selected]})


def _mark_silent(tag: str, within: timedelta) -> AutomationCore:
    """Return what sets a run that fell silent to PAUSED, a state that Prefect gives to running runs only.

    Crashing it at once, as Prefect's documentation does, was seen to crash runs that waited for a person: on a busy
    server a sign of life from just before the suspension is handled after it, and nothing answers it any more.
    """
    heartbeat = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name=f"{tag}: mark silent runs",
        description="A run whose last sign of life is too long ago.",
        trigger=EventTrigger(
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{state}" for state in _AT_REST)},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
            **_runs_of(tag),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.PAUSED, name=_SILENT, message=f"No sign of life for {within.total_seconds():g} s."
            )
        ],
    )


def _crash_marked(tag: str, within: timedelta) -> AutomationCore:
    words = f"No sign of life for {within.total_seconds():g} s: its process is gone."
    return AutomationCore(
        name=f"{tag}: crash silent runs",
        description=f"A run that was marked as {_SILENT}.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{_SILENT}"}, posture=Posture.Reactive, threshold=1, **_runs_of(tag)
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=words)],
    )


def _runs_of(tag: str) -> dict[str, Any]:
    """Return what matches the runs of this file's deployments: those of others may give signs of life less often."""
    return {
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{tag}"},
        "for_each": {"prefect.resource.id"},
    }


def _of_automation(name: str, wanted: tuple[str, AutomationCore], found: Found) -> Iterator[Step]:
    of, automation = wanted
    deployment, there = found.deployments.get(of), found.automations.get(name)
    if there is None:
        yield Step("create", "automation", name, payload=automation, of=of)
        return
    complete = started(automation, None if deployment is None else deployment.id)
    parts = ("description", "trigger", "actions")
    if changed := [part for part in parts if getattr(there, part) != getattr(complete, part)]:
        # A disabled one stays disabled.
        payload = automation.model_copy(update={"enabled": there.enabled})
        yield Step("change", "automation", name, ", ".join(changed), payload, of=of, id=there.id)


def _gone(gone: Step, *, prune: bool, busy: int = 0) -> Step:
    """Return the step of removing what is no longer in the file, or why it is left."""
    if busy:
        words = f"no longer in the file; {busy} of its runs wait or run, and would be lost with it: end them first"
    elif not prune:
        words = "no longer in the file; --prune removes it"
    else:
        return replace(gone, words="no longer in the file")
    return replace(gone, verb="leave", words=words)


def _differing(wanted: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in wanted.items() if value != now[key]}
