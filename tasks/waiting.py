"""The flow runs that wait for a person, as Prefect's API tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from tasks.labels import REQUEST

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun


def waiting_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """Return the runs that are paused or suspended at one of our questions, the oldest first."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterId,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    # By type: a filter by the name Paused misses those that are Suspended.
    paused = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
    found: dict[UUID, FlowRun] = {}
    # Without an offset: when one ends between two pages the rest move up, and an offset passes over some of them.
    while page := client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=paused, id=FlowRunFilterId(not_any_=list(found)))
    ):
        found |= {run.id: run for run in page}
    return sorted((run for run in found.values() if REQUEST in run.labels), key=lambda run: str(run.created))
