"""What was cancelled, has expired or is too old ends cleanly and is recorded; nothing of it stays open."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.states import Cancelled, Cancelling, Running
from prefect_house import PrefectHouse

from flows.promotion import promotion
from flows.reconcile import reconcile
from registry import Guard, ModelRegistry, ModelStage, clock
from registry.records import RunEnding
from tasks import liveness, run_steps

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

SIGNS = Guard(require_approval=(ModelStage.PRODUCTION,), approvers=("*@example.com",), accept_asserted=True)


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """A registry with a version that may go to production when somebody says yes."""
    models = ModelRegistry(tmp_path / "registry")
    models.set_guard(SIGNS)
    models.register("digits", b"weights")
    return models


@pytest.fixture(scope="module")
def deployment(house: PrefectHouse) -> UUID:
    """The promotion flow, deployed."""
    return house.apply("flows.promotion:promotion", name="promote")


def _endings(registry: ModelRegistry) -> list[tuple[RunEnding | None, str]]:
    return [(run.ending, run.words) for run in registry.get_runs("digits")]


def test_cancelled_in_prefect_is_cancelled_in_the_log(
    registry: ModelRegistry, house: PrefectHouse, deployment: UUID
) -> None:
    run = house.run(deployment, name="digits", version="1", url=registry.url)
    house.wait_for(run, "PAUSED")
    with house.client() as client:
        client.set_flow_run_state(run, Cancelling())
        client.set_flow_run_state(run, Cancelled(), force=True)
    with house.settings():
        reconcile(url=registry.url)

    assert _endings(registry) == [("cancelled", "its flow run was cancelled in Prefect")]
    assert registry.get_version("digits", 1).stage is ModelStage.DEVELOPMENT


def test_an_approval_that_nobody_gave_expires_and_a_late_answer_promotes_nothing(
    registry: ModelRegistry, house: PrefectHouse, deployment: UUID
) -> None:
    run = house.run(deployment, name="digits", version="1", url=registry.url, expires_in_hours=0.001)
    house.wait_for(run, "PAUSED")
    form = house.form(run)
    house.until(lambda: registry.get_approval("digits", _request(form.key)).stand == "expired", lambda: str(form))
    with house.settings():
        assert reconcile(url=registry.url)["expired"] == [str(run)]
        assert reconcile(url=registry.url)["expired"] == []

    ((ending, words),) = _endings(registry)
    assert ending == "expired"
    assert "Nobody had answered" in words
    assert house.read(run).state_name == "Cancelled"
    assert house.answer(run, decision="approve", approver="ann@example.com", reason="late").status.value != "ACCEPT"
    assert registry.get_version("digits", 1).stage is ModelStage.DEVELOPMENT


def _running(house: PrefectHouse) -> UUID:
    """Return a flow run that Prefect takes for running."""
    with house.client() as client:
        return client.create_flow_run(promotion, parameters={"name": "digits", "version": "1"}, state=Running()).id


def _request(key: str) -> str:
    """Return the request's id in ``suspended-approval-<request>-<number>-response``."""
    return key.split("-")[2]


def test_a_run_that_nobody_can_finish_is_abandoned(
    registry: ModelRegistry, house: PrefectHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, often, fresh = (str(uuid4()) for _ in range(3))
    registry.begin_run("digits", old, kind="lifecycle", process="gone:1:1")
    registry.begin_run("digits", often, kind="lifecycle", process="gone:1:1")
    holder = often
    for _ in range(run_steps.CARRIED_AT_MOST - 1):
        holder, before = str(uuid4()), holder
        registry.begin_run("digits", often, kind="lifecycle", holder=holder, taken_from=before)
    monkeypatch.setattr(run_steps, "TAKEN_UP_WITHIN", timedelta(0))
    with house.settings():
        reconcile(url=registry.url)
    monkeypatch.undo()
    registry.begin_run("digits", fresh, kind="lifecycle", process="gone:1:1")
    with house.settings():
        reconcile(url=registry.url)

    ended = {run.id: run.words for run in registry.get_runs("digits") if run.ending == "abandoned"}
    assert ended == {
        old: "its process died, and nobody took it up within 0 hours",
        often: f"{run_steps.CARRIED_AT_MOST} flow runs died with it",
    }
    assert [run.id for run in registry.get_runs("digits", only_open=True)] == [fresh], "started by hand: left to hands"


def _created(later_s: float) -> str:
    """Return this process as one that the system says was created so much later: a clock's correction moves that."""
    host, number, created = liveness.this_process().split(":")
    return f"{host}:{number}:{float(created) + later_s:.2f}"


@pytest.mark.parametrize(
    ("process", "fate"),
    [
        (liveness.this_process, "alive"),
        (lambda: _created(0.5), "alive"),
        (lambda: _created(-60.0), "dead"),
        (lambda: liveness.this_process().replace(":", ":9", 1), "dead"),
        (lambda: "another-machine:1:1.00", "alive"),
    ],
    ids=[
        "this process",
        "this process, after the clock was corrected",
        "an earlier process of this number",
        "a process that is gone",
        "a process of another machine, heard of lately",
    ],
)
def test_a_running_flow_is_as_alive_as_its_process(
    house: PrefectHouse, registry: ModelRegistry, process: Callable[[], str], fate: str
) -> None:
    holder = _running(house)
    run = registry.begin_run("digits", str(holder), kind="lifecycle", process=process())

    with house.settings():
        assert liveness.fate_of(run) == fate


def test_a_process_of_another_machine_that_is_silent_is_dead(
    house: PrefectHouse, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = registry.begin_run("digits", str(_running(house)), kind="lifecycle", process="elsewhere:1:1")
    later = clock.now() + liveness.SILENT_FOR
    monkeypatch.setattr(clock, "now", lambda: later)

    with house.settings():
        assert liveness.fate_of(run) == "dead"
