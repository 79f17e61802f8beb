"""What is left over, found and mended: runs whose process died, approvals that expired, endpoints that do not run."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from registry import Endpoint, ModelRegistry, ModelStage
from registry.endpoints.desired import PRODUCTION
from registry.errors import ModelwayError
from registry.records import Run
from tasks.labels import MODEL, REGISTRY, REQUEST
from tasks.liveness import fate_of
from tasks.notifying import remind
from tasks.pipeline import load_pipeline
from tasks.prefect_task import registry_step
from tasks.run_steps import give_up, hopeless
from tasks.telling import tell
from tasks.waiting import waiting_runs


@registry_step
def remind_of_questions(url: str, config: str) -> None:
    """Tell those whom a pipeline file names of the questions that expire soon."""
    remind(load_pipeline(config).notify, url=url)


@registry_step
def end_expired(url: str) -> list[str]:
    """End the runs whose approval expired unanswered: first in the registry's log, then in Prefect.

    Returns:
        The ids of the flow runs that were cancelled.
    """
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled

    registry, ended = ModelRegistry(url), []
    with get_client(sync_client=True) as client:
        waiting = [run for run in waiting_runs(client) if run.labels.get(REGISTRY) == registry.url]
    for flow_run in waiting:
        model, request = str(flow_run.labels[MODEL]), str(flow_run.labels[REQUEST])
        standing = registry.get_approval(model, request)
        run = next((run for run in registry.get_runs(model) if run.holder == str(flow_run.id)), None)
        if standing.stand != "expired" or run is None:
            continue
        words = f"{standing.words} Nobody had answered."
        registry.end_run(
            model, run.id, "expired", holder=run.holder, version=standing.asked.request.version, words=words
        )
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_run.id, Cancelled(message=words), force=True)
        tell("reconcile", f"{model}: {words}")
        ended.append(str(flow_run.id))
    return ended


@registry_step
def restart_dead(url: str) -> list[str]:
    """Start the deployments of runs whose process died again; those that nobody can finish are ended.

    A run that was started by hand is left to whoever starts it again.

    Returns:
        The ids of the runs that were started again.
    """
    registry, started = ModelRegistry(url), []
    for model in registry.list_models():
        for run in registry.get_runs(model, only_open=True):
            fate = fate_of(run)
            given_up = hopeless(run, fate)
            if given_up is not None:
                give_up(registry, model, run, *given_up)
            elif fate == "dead" and run.deployment is not None and _start_again(registry, run, run.deployment):
                started.append(run.id)
    return started


def _start_again(registry: ModelRegistry, run: Run, deployment: str) -> bool:
    """Start a deployment once for each flow run that died with the run; its flow then takes the run over."""
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    parameters = {**run.parameters, "url": registry.url, **_parameters_of(run)}
    try:
        run_deployment(
            deployment,
            parameters=parameters,
            timeout=0,
            as_subflow=False,
            idempotency_key=f"modelway-{run.id}-{run.holder}",
        )
    except ObjectNotFound:
        tell("reconcile", f"run {run.id} died, and there is no deployment {deployment} to finish it")
        return False
    tell("reconcile", f"run {run.id} died; {deployment} takes it up")
    return True


def _parameters_of(run: Run) -> dict[str, Any]:
    """Return all that the dead flow run was started with, where Prefect still knows it."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            return dict(client.read_flow_run(UUID(run.holder)).parameters)
        except (ObjectNotFound, ValueError):
            return {}


@registry_step
def reconcile_endpoints(url: str) -> list[str]:
    """Bring every endpoint to what is wanted of it: what died, was left half done, or is to follow a promotion.

    One that follows production is left to a living run that has just promoted: it may have a canary in mind.

    Returns:
        The names of those that could not be brought up.
    """
    registry, failed = ModelRegistry(url), []
    for endpoint in registry.list_endpoints():
        if (run := _promoted_by(registry, endpoint)) is not None:
            tell("reconcile", f"{endpoint.name} is left to run {run.id}, which has promoted what it is to serve")
            continue
        try:
            for mended in registry.reconcile_endpoint(endpoint.name):
                tell("reconcile", f"mended: {mended}")
        except ModelwayError as error:
            tell("reconcile", f"{endpoint.name}: {error}")
            failed.append(endpoint.name)
    return failed


def _promoted_by(registry: ModelRegistry, endpoint: Endpoint) -> Run | None:
    """Return the living run that gave production to what an endpoint follows, and has not ended yet."""
    desired = endpoint.desired
    if desired is None or desired.follows != PRODUCTION:
        return None
    for run in registry.get_runs(desired.model, only_open=True):
        promoted = registry.find_done(desired.model, "moved", f"{run.id}:{ModelStage.PRODUCTION}")
        if promoted is not None and promoted.stage is ModelStage.PRODUCTION and fate_of(run) == "alive":
            return run
    return None
