"""The events that ask for a retraining, and who emits them."""

from __future__ import annotations

from typing import Final

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.events import Event, Resource

from deployments.showing import waiting_for
from registry.base import Record
from registry.errors import NotFoundError
from registry.names import check_name

RETRAINING_REQUESTED: Final = "modelway.retraining.requested"
"""Somebody, or something, wants a model to be trained again; ``payload.reason`` says why."""

DRIFT_DETECTED: Final = "modelway.drift.detected"
"""What a monitor emits when the data no longer are those that the model was trained on."""


class Requested(Record):
    """An event that was taken by the server, and the automations that it starts."""

    event: str
    resource: str
    reason: str
    starts: tuple[str, ...]


def resource_of(name: str) -> str:
    """Return the resource that a model is in Prefect's events."""
    return f"modelway.model.{check_name(name)}"


def request(client: SyncPrefectClient, name: str, *, reason: str, event: str = RETRAINING_REQUESTED) -> Requested:
    """Emit an event about a model, and return when the server has it.

    Args:
        client: The server.
        name: The model.
        reason: Why; the run that it starts gets it as ``{{ event.payload.reason }}``.
        event: Which event.

    Raises:
        InvalidNameError: No such name can be.
        NotFoundError: Nothing there is started by it; no event was emitted.
    """
    resource = resource_of(name)
    starts = tuple(one.name for one in waiting_for(client, event, resource))
    if not starts:
        raise NotFoundError(
            f"nothing on {client.api_url} is started by {event} of {resource}: no enabled automation waits for it. "
            "Give a deployment of the retraining flow this trigger, and apply the file: `modelway deployments apply`."
        )
    # Not emit_event: it sends in the background, and nobody hears of what was lost.
    emitted = Event(event=event, resource=Resource({"prefect.resource.id": resource}), payload={"reason": reason})
    client.request("POST", "/events", json=[emitted.model_dump(mode="json")])
    return Requested(event=event, resource=resource, reason=reason, starts=starts)
