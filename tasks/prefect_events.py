"""What happens in a registry, as Prefect events that automations and people can see; the log is the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.events import emit_event
from prefect.settings import get_current_settings
from prefect.utilities.context import get_flow_run_id

from registry import ModelRegistry, ModelVersion
from tasks.best_effort import best_effort

EventKind = Literal[
    "version.registered",
    "version.promoted",
    "version.rolled-back",
    "approval.pending",
    "approval.decided",
    "endpoint.deployed",
    "run.ended",
]

_emitted: set[UUID] = set()
"""By this process: Prefect's sender logs an error for an id that is given to it while it still sends that id."""


def emit(
    kind: EventKind, model: str, *, labels: Mapping[str, str], key: str, payload: Mapping[str, Any] | None = None
) -> None:
    """Emit ``modelway.<kind>`` of the resource ``modelway.model.<model>``; never raises, and waits for no server.

    Prefect relates the flow run itself. A step that runs again emits again under the same id, and Prefect keeps one.

    Args:
        kind: What happened.
        model: The model.
        labels: Of the resource, by plain names: ``version``, ``stage``, ``registry``; empty ones are left out.
        key: What makes it this happening and no other: the idempotency key of the step.
        payload: More of it, as JSON can hold it.
    """
    if get_flow_run_id() is None and get_current_settings().api.url is None:
        return  # Prefect would start a server only to be told
    event = f"modelway.{kind}"
    known = {f"modelway.{name}": value for name, value in labels.items() if value}
    resource = {"prefect.resource.id": f"modelway.model.{model}", "prefect.resource.name": model, **known}
    with best_effort("events", f"{event} was not emitted"):
        same = uuid5(NAMESPACE_URL, "\n".join((labels.get("registry", ""), event, model, key)))
        if same not in _emitted:
            emit_event(event, resource, payload=dict(payload or {}), id=same)
            _emitted.add(same)


def emit_version(kind: EventKind, registry: ModelRegistry, version: ModelVersion, *, key: str) -> None:
    """Emit what happened to a version; as ``emit``."""
    labels = {"version": version.version, "stage": version.stage.value, "registry": registry.url}
    emit(kind, version.name, labels=labels, key=key)
