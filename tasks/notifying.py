"""Send notices: to every channel at once, within seconds, and best effort: what fails is told in the run's log."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import quote, urlsplit
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.utilities.context import get_flow_run_id
from prefect.utilities.urls import url_for

from registry import ModelRegistry, clock
from registry.errors import InvalidInputError
from tasks import channels
from tasks.best_effort import best_effort
from tasks.labels import EXPIRES_AT, REGISTRY, REQUEST
from tasks.notices import Notice, NoticeSettings, check_scheme, of_expiry, of_failure
from tasks.pipeline import load_pipeline
from tasks.telling import tell
from tasks.waiting import waiting_runs

SEND_WITHIN_S = 10.0
"""A run goes on after that, however slow a channel is."""

_REFERENCE = re.compile(r"\$\{(\w+)\}")


def send(settings: NoticeSettings, notice: Notice) -> list[str]:
    """Send a notice to all channels, if its kind is one that is wanted.

    Returns:
        A line for each channel that did not take it; no secret is in it.
    """
    if notice.kind not in settings.on:
        return []
    deliveries = [_Delivery(number, settings, notice) for number in range(len(settings.channels))]
    give_up_at = time.monotonic() + SEND_WITHIN_S
    for delivery in deliveries:
        delivery.start()
    for delivery in deliveries:
        delivery.join(max(0.0, give_up_at - time.monotonic()))
    return [delivery.line for delivery in deliveries if delivery.line]


class _Delivery(threading.Thread):
    """One notice on its way to one channel; a daemon, so that a channel that hangs holds no process."""

    def __init__(self, number: int, settings: NoticeSettings, notice: Notice) -> None:
        super().__init__(name=f"notice-{number + 1}", daemon=True)
        self._channel = settings.channels[number].get_secret_value()
        self._secret = None if settings.webhook_secret is None else settings.webhook_secret.get_secret_value()
        self._notice, self._shown_as = notice, f"channel {number + 1}"
        self.line = f"{self._shown_as} did not take the notice within {SEND_WITHIN_S:g} s"

    def run(self) -> None:
        try:
            address = _filled(self._channel)
            self._shown_as += f" ({_place(address)})"
            channels.deliver(address, self._notice, secret=None if self._secret is None else _filled(self._secret))
        except Exception as error:  # noqa: BLE001 - a notice is best effort: whatever it was is told and fails nothing
            self.line = f"{self._shown_as} did not take the notice: {_why(error)}"
        else:
            self.line = ""


def _filled(text: str) -> str:
    """Return text with its ``${NAME}`` from the environment, quoted where they stand inside of an address."""

    def value(found: re.Match[str]) -> str:
        known = os.environ.get(found[1])
        if not known:
            raise InvalidInputError(f"the environment that the run is in has no {found[1]}; set it there.")
        return known if found[0] == text else quote(known, safe="")

    return _REFERENCE.sub(value, text)


def _place(address: str) -> str:
    return f"{check_scheme(address)}://{urlsplit(address).hostname}"


def _why(error: Exception) -> str:
    """Return what went wrong, never in the words of the other side or of a library: they may hold the address."""
    if isinstance(error, InvalidInputError):
        return str(error)
    if isinstance(error, ValueError):
        return "its address cannot be read; write what is special in a name or password with %: %40 for @, %2F for /."
    cause = getattr(error, "reason", None)
    error = cause if isinstance(cause, OSError) else error
    known = getattr(error, "code", None) or getattr(error, "smtp_code", None) or getattr(error, "strerror", None)
    return f"{type(error).__name__}: {known}" if known else type(error).__name__


def notify(settings: NoticeSettings, notice: Notice, *, key: str, run_id: UUID | None = None) -> None:
    """Send a notice, with the link to the run, unless the run has sent it already; tell in its log what failed.

    A run that goes from the top again would else send everything again. What was sent is a label of the flow run:
    where Prefect has forgotten the run, its link leads nowhere any more, and the notice of the next run is needed.

    Args:
        settings: Where to send it; without channels nothing happens.
        notice: What is told.
        key: What this notice is about, such as the key of the pause; a run sends one notice of a kind for each key.
        run_id: The flow run; the one that this is called in by default.
    """
    if not settings.channels or notice.kind not in settings.on:
        return
    run_id = run_id or get_flow_run_id()
    label = f"modelway.notice.{notice.kind}.{key}"
    if run_id is not None and _has(run_id, label):
        return
    linked = notice if notice.link else notice.model_copy(update={"link": run_link(run_id)})
    failed = send(settings, linked)
    for line in failed:
        tell("notify", line)
    if run_id is not None and len(failed) < len(settings.channels):
        with (
            best_effort("notify", "that the notice was sent could not be kept; it may be sent again"),
            _client() as client,
        ):
            client.update_flow_run_labels(run_id, {label: notice.at.isoformat()})


def run_link(run_id: UUID | None) -> str:
    """Return where Prefect's UI shows a flow run; empty where there is none, as with a server that a run starts."""
    return "" if run_id is None else url_for("flow-run", run_id, url_type="ui") or ""


def remind(settings: NoticeSettings, *, url: str) -> None:
    """Send a notice of each question to the registry at ``url`` that expires soon and that a run still waits on.

    A schedule calls it: a suspended run holds no process that could.
    """
    now, registry = clock.now(), ModelRegistry(url).url
    with _client() as client:
        runs = waiting_runs(client)
    for run in runs:
        labels = {name: str(value) for name, value in run.labels.items()}
        expires_at = labels.get(EXPIRES_AT, "")
        if labels.get(REGISTRY) not in {url, registry} or not expires_at:
            continue
        if now < datetime.fromisoformat(expires_at) <= now + timedelta(hours=settings.expiring_before_hours):
            notify(settings, of_expiry(labels), key=labels[REQUEST], run_id=run.id)


def tell_failure(flow: object, flow_run: FlowRun, state: State) -> None:  # noqa: ARG001 - Prefect gives it by name
    """Send a notice that a run failed or crashed: a hook of flows that take the path of a pipeline file, ``config``."""
    config = flow_run.parameters.get("config")
    if config is None:
        return
    with best_effort("notify", "the notice of the failure was not sent"):
        pipeline = load_pipeline(config)
        url = flow_run.parameters.get("url") or pipeline.registry.url
        failure = of_failure(pipeline.name, f"{flow_run.name}: {state.message or state.name}", url=url)
        notify(pipeline.notify, failure, key=str(flow_run.run_count), run_id=flow_run.id)


def _client() -> SyncPrefectClient:
    return get_client(sync_client=True)


def _has(run_id: UUID, label: str) -> bool:
    labels: Mapping[str, object] = {}
    with (
        best_effort("notify", "what this run has sent could not be read; a notice may be sent again"),
        _client() as client,
    ):
        labels = client.read_flow_run(run_id).labels
    return label in labels
