"""kill -9 of engine, worker, server, or all: the next run finds what was left and finishes it; nothing is doubled.

docs/finishing.md has these cases as a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest
from finishing_place import ANN, ONCE, Place
from prefect_house import PrefectHouse

from flows.reconcile import reconcile
from registry import ModelStage

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


def ended_well(place: Place, *, carriers: int) -> None:
    """Hold the log against one run from training to serving, whoever carried it."""
    assert place.events() == ONCE
    (run,) = place.registry.get_runs("points")
    assert (run.ending, run.version, run.carriers) == ("deployed", "1", carriers)
    (version,) = place.registry.list_versions("points")
    assert version.stage is ModelStage.PRODUCTION
    assert [approval.approver for approval in version.approvals] == [ANN]
    endpoint = place.registry.get_endpoint(place.name)
    assert endpoint.desired is not None
    assert endpoint.url is not None


@pytest.mark.parametrize(
    "steps",
    [("train", "register", "validate", "optimise"), ("staging", "approval", "approval 2"), ("production", "deploy")],
    ids=" then ".join,
)
def test_an_engine_killed_after_each_step_leaves_what_the_next_run_finishes(
    place: Place, house: PrefectHouse, steps: Sequence[str]
) -> None:
    answered = False
    for step in steps:
        run = place.start(die_after=step)
        if step in {"approval 2", "production", "deploy"} and not answered:
            place.approve(run)
            answered = True
        house.wait_for(run, "CRASHED")
    last = place.start()
    if not answered:
        place.approve(last)
    house.wait_for(last, "COMPLETED")

    ended_well(place, carriers=len(steps) + 1)


def test_server_worker_and_engine_killed_at_once_are_made_good_by_reconcile(place: Place, house: PrefectHouse) -> None:
    (house.work / "hang-after").write_text("register")
    run = place.start()
    house.until(lambda: not (house.work / "hang-after").exists(), lambda: house.logs(run))
    house.server.kill()
    house.workers["here"].kill()
    for process in house.engines(run):
        process.kill()
    (dead,) = place.registry.get_runs("points", only_open=True)
    assert dead.holder == str(run)

    house.start_server()
    house.start_worker()
    assert house.read(run).state_name == "Running", "Prefect still takes it for alive"
    with house.settings():
        assert reconcile(url=place.registry.url)["restarted"] == [dead.id]
        assert reconcile(url=place.registry.url)["restarted"] in ([], [dead.id]), "started once, however often asked"
    taken_up = house.until(lambda: _waiting(house, besides=run), lambda: house.logs(run))
    place.approve(taken_up)
    house.wait_for(taken_up, "COMPLETED")

    ended_well(place, carriers=2)


def test_a_question_outlives_prefects_database_and_an_edit_of_the_code(place: Place, house: PrefectHouse) -> None:
    first = place.start()
    house.wait_for(first, "PAUSED")
    (asked,) = place.registry.get_approvals("points")
    module = next(house.work.glob(f"points_of_{place.name}.py"))
    module.write_text(module.read_text() + "\n\ndef load_nothing():\n    raise AssertionError\n")
    house.replace_database()
    place.deployment = house.apply("dying:lifecycle", name="test")

    second = place.start()
    place.approve(second)
    house.wait_for(second, "COMPLETED")

    assert [found.request for found in place.registry.get_approvals("points")] == [asked.request]
    ended_well(place, carriers=2)


def _waiting(house: PrefectHouse, *, besides: UUID) -> UUID | None:
    with house.client() as client:
        runs = client.read_flow_runs()
    paused = [run.id for run in runs if run.state is not None and run.state.is_paused() and run.id != besides]
    return paused[0] if paused else None
