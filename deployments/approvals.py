"""The runs that wait for a person, as Prefect's API tells of them, and the answers that are passed to them.

An answer goes the way that one of Prefect's UI goes: by the run's own form, when it is resumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from deployments.reaching import open_server
from registry.errors import ApprovalRequired, InvalidInputError, ModelwayError, NotFoundError, StaleExpectationError
from tasks import labels
from tasks.waiting import waiting_runs

PATIENCE_S: Final = 60.0
"""How long a busy server is asked again."""

_ONE_CALL_S = 15.0
_BUSY = {408, 429, 500, 502, 503, 504}  # SQLite that is locked by another writer gives 503

_Given = TypeVar("_Given")


class _BusyError(Exception):
    """The server asked to come back."""


class _NoInputError(Exception):
    """The server has nothing under that key, or not yet."""


@dataclass(frozen=True)
class Form:
    """What a run that waits asks for: the names of the fields, the evidence as Markdown, where the answer will lie."""

    fields: tuple[str, ...]
    evidence: str
    key: str


@contextmanager
def patient_server() -> Iterator[SyncPrefectClient]:
    """Open a client of the server that ``PREFECT_API_URL`` names, for the functions here.

    Raises:
        NotFoundError: A run that was asked for was deleted meanwhile.
        InvalidInputError, ModelwayError: As ``open_server`` says.
    """
    # Prefect's own retries would multiply with ours, and have no deadline.
    once = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: _ONE_CALL_S}
    with temporary_settings(once), open_server() as client:
        # Asked once and not patiently: with a wrong URL nobody wants to wait. One that is slow is asked again below.
        if isinstance(silent := client.api_healthcheck(), httpx.ConnectError):
            raise silent
        try:
            yield client
        except ObjectNotFound as error:
            raise NotFoundError("the run is gone from Prefect's server; somebody deleted it.") from error


def label(run: FlowRun, name: str) -> str:
    """Return one of the labels that ``tasks.labels`` names, empty where the run has none."""
    return str(run.labels.get(name, ""))


def answerable_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """Return the runs that wait for an answer to one of our requests and have a form for it, the oldest first."""
    return [run for run in _patiently(lambda: waiting_runs(client)) if keys_of_pause(run) is not None]


def find_run(runs: Sequence[FlowRun], wanted: str) -> FlowRun:
    """Return the run that waits for ``wanted``: a request's id or the beginning of one, or a flow run's id.

    Raises:
        NotFoundError: None does, or more than one.
    """
    among = ", ".join(label(run, labels.REQUEST) for run in runs) or "nothing"
    exact = [run for run in runs if wanted in {label(run, labels.REQUEST), str(run.id)}]
    found = exact or [run for run in runs if wanted and label(run, labels.REQUEST).startswith(wanted)]
    if not found:
        raise NotFoundError(
            f"no run waits for an answer to {wanted!r}. Waiting: {among}. It may have been answered or have expired: "
            f"`modelway models log NAME` tells."
        )
    if len(found) > 1:
        listed = ", ".join(f"{label(run, labels.REQUEST)} (run {run.id})" for run in found)
        raise NotFoundError(f"{wanted!r} may be any of these: {listed}. Give more letters, or the id of the run.")
    return found[0]


def read_form(client: SyncPrefectClient, run: FlowRun) -> Form:
    """Return what a waiting run asks for.

    Raises:
        ModelwayError: The server has no form for it.
    """
    keys = keys_of_pause(run) or {}
    try:
        # Prefect pauses a run a moment before it saves the form.
        schema = _patiently(lambda: _read_input(client, run, keys["schema"]), and_on=_NoInputError)
        text = _patiently(lambda: _read_input(client, run, keys["description"]), and_on=_NoInputError)
    except _NoInputError:
        raise ModelwayError(
            f"run {run.name} waits, and Prefect has no form for it: cancel it in Prefect's UI and start it again."
        ) from None
    return Form(tuple(schema.get("properties", {})), str(text), keys["response"])


def hand_over(client: SyncPrefectClient, run: FlowRun, fields: Mapping[str, str]) -> None:
    """Pass an answer to a run, as Prefect's UI does; a busy server is asked again until the deadline.

    Raises:
        StaleExpectationError: Somebody else's answer was taken, or the run waits no longer.
        ApprovalRequired: It has waited for too long.
        InvalidInputError: The form does not take these fields.
        ModelwayError: The server stayed busy.
    """

    def send() -> None:
        # Read first: in the time between two tries the run may ask something else, which this does not answer.
        if keys_of_pause(client.read_flow_run(run.id)) != keys_of_pause(run):
            _check_it_was_ours(client, run, fields)
            return
        result = client.resume_flow_run(run.id, run_input=dict(fields))
        reason = str(getattr(result.details, "reason", None) or "no reason given")
        if result.status is SetStateStatus.WAIT:
            raise _BusyError(reason)
        if result.status is SetStateStatus.REJECT and result.state is not None:
            if result.state.is_failed():
                raise ApprovalRequired(f"run {run.name} has waited for too long and ended: {reason}")
            if result.state.is_paused():
                raise InvalidInputError(f"the form of run {run.name} does not take this answer: {reason}")
        if result.status is not SetStateStatus.ACCEPT:
            _check_it_was_ours(client, run, fields)

    try:
        _patiently(send)
    except _BusyError as error:
        raise ModelwayError(
            f"Prefect's server was busy for {PATIENCE_S:.0f} s and the answer was not taken: {error}. Try again."
        ) from error


def has_ended(client: SyncPrefectClient, run: FlowRun) -> str | None:
    """Return in which state a run has ended, None while it has not."""
    state = _patiently(lambda: client.read_flow_run(run.id)).state
    return f"{state.name}: {state.message or 'no message'}" if state is not None and state.is_final() else None


def _check_it_was_ours(client: SyncPrefectClient, run: FlowRun, fields: Mapping[str, str]) -> None:
    """Pass if the answer that a run has got is ``fields``: then only the server's word of it was lost.

    Raises:
        StaleExpectationError: It is another, or it has none.
    """
    request, keys = label(run, labels.REQUEST), keys_of_pause(run) or {}
    try:
        taken = _read_input(client, run, keys["response"])
    except _NoInputError:
        state = client.read_flow_run(run.id).state
        now = "gone" if state is None else state.name
        raise StaleExpectationError(
            f"run {run.name} does not wait for an answer to {request} any more: it is {now}. Yours was not taken."
        ) from None
    if taken != dict(fields):
        given = taken if isinstance(taken, dict) else {}
        raise StaleExpectationError(
            f"{given.get('approver', 'somebody')!r} answered {request} first, with {given.get('decision', taken)!r}; "
            f"your answer was not taken. `modelway approvals list` shows whether another one is asked for."
        )


def keys_of_pause(run: FlowRun) -> dict[str, str] | None:
    """Return where the form of a paused run lies; they differ from question to question. None where it asks nothing."""
    state = run.state
    return state.state_details.run_input_keyset if state is not None and state.is_paused() else None


def _read_input(client: SyncPrefectClient, run: FlowRun, key: str) -> Any:
    try:
        text = client.read_flow_run_input(run.id, key)
    except PrefectHTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:
            raise _NoInputError from None
        raise
    try:
        return json.loads(text)
    except ValueError:  # anybody who reaches the server can write what they like there
        return text


def _patiently(call: Callable[[], _Given], *, and_on: type[Exception] = _BusyError) -> _Given:
    """Return what ``call`` gives; asks again for ``PATIENCE_S`` while the server is busy or gone, and on ``and_on``."""

    def again(error: BaseException) -> bool:
        if isinstance(error, PrefectHTTPStatusError):
            return error.response.status_code in _BUSY
        return isinstance(error, (httpx.TransportError, and_on))

    retrying = Retrying(
        retry=retry_if_exception(again),
        stop=stop_after_delay(PATIENCE_S),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        reraise=True,
    )
    return retrying(call)
