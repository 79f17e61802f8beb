"""Whether a flow run that holds a run is still alive: asked of Prefect, and of this machine's processes."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import psutil

from registry import clock
from registry.endpoints.process import find_process

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

    from registry.records import Run

Fate = Literal["alive", "dead", "cancelled"]

BEGINS_WITHIN = timedelta(minutes=10)
"""How long a process may take from the moment when Prefect hands it a run until it says so in the registry."""

SILENT_FOR = timedelta(minutes=15)
"""Without a sign of life for so long a process elsewhere is dead; Prefect's heartbeat comes every 3 minutes."""


def this_process() -> str:
    """Return what names this process among all of this machine's, also after its number was given away again."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def fate_of(run: Run) -> Fate:  # noqa: PLR0911 - one way out for each state of a flow run
    """Return whether the flow run that holds ``run`` is alive; one that Prefect does not know is dead.

    A suspended run is alive without a process. A process of this machine is looked for; one of another machine is
    known by the heartbeats that Prefect got.

    Raises:
        PrefectException, httpx.HTTPError: Prefect's server cannot be asked; nothing can be said then.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            flow_run = client.read_flow_run(UUID(run.holder))
        except (ObjectNotFound, ValueError):
            return "dead"  # Prefect's database was replaced
        state = flow_run.state
        if state is None:
            return "alive"
        if state.is_cancelled() or state.is_cancelling():
            return "cancelled"
        if state.is_final():
            return "dead"
        if state.is_scheduled():
            return "alive"
        if state.is_paused() and state.state_details.pause_reschedule:
            return "alive" if _can_be_answered(client, flow_run, state) else "dead"
        return "alive" if _is_carried(client, run, flow_run, state) else "dead"


def _can_be_answered(client: SyncPrefectClient, flow_run: FlowRun, state: State) -> bool:
    """Return whether a suspended run has its form; killed in the moment between, it has none and never will."""
    from prefect.exceptions import ObjectNotFound

    keys = state.state_details.run_input_keyset
    if keys is None or clock.now() - state.timestamp < timedelta(minutes=1):
        return True
    try:
        client.read_flow_run_input(flow_run.id, keys["schema"])
    except ObjectNotFound:
        return False
    return True


def _is_carried(client: SyncPrefectClient, run: Run, flow_run: FlowRun, state: State) -> bool:
    now = clock.now()
    host, _, process = run.process.partition(":")
    if host == socket.gethostname() and _lives(process):
        return True
    if run.deployment is not None and state.timestamp > run.carried_since:
        # Handed to a process that has not come to say so, or never will.
        return now - state.timestamp < BEGINS_WITHIN
    if host == socket.gethostname():
        return False
    return now - max(_last_heard(client, flow_run), run.carried_since) < SILENT_FOR


def _lives(process: str) -> bool:
    number, _, created = process.partition(":")
    try:
        return find_process(int(number), float(created)) is not None
    except (psutil.Error, ValueError):
        return False


def _last_heard(client: SyncPrefectClient, flow_run: FlowRun) -> datetime:
    from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventOccurredFilter, EventOrder

    heard = client.read_events(
        EventFilter(
            occurred=EventOccurredFilter.model_validate({"since": clock.now() - SILENT_FOR}),
            any_resource=EventAnyResourceFilter(id=[f"prefect.flow-run.{flow_run.id}"]),
            order=EventOrder.DESC,
        ),
        limit=1,
    )
    return max((event.occurred for event in heard.events), default=flow_run.created or clock.now())
