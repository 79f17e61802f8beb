"""Deployments on a real Prefect server with real workers: applied again, paused, pruned, triggered, killed, resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from deployments_folder import DEPLOYMENTS, DOOMED, POOL, DeploymentsFolder, names
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import EventTrigger
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings
from prefect_house import AUTH, PrefectHouse
from typer.testing import CliRunner, Result

from deployments.applying import Report, apply
from deployments.deployments_cli import make_deployments_app
from deployments.pools import PoolSettings, template_problems
from deployments.requesting import DRIFT_DETECTED, request
from deployments.settings import load_deployments
from registry import ModelRegistry
from registry.cli.app import make_app
from registry.errors import ModelwayError, NotFoundError

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass
class Place:
    """A server on which the deployments of ``folder`` were applied, its workers, and runs that were started at once."""

    house: PrefectHouse
    folder: DeploymentsFolder
    first: Report
    waits: UUID
    killed: UUID

    def deployment(self, name: str) -> UUID:
        with self.house.client() as client:
            return client.read_deployment_by_name(name).id

    def runs(self, deployment: str) -> list[FlowRun]:
        wanted = DeploymentFilter(id=DeploymentFilterId(any_=[self.deployment(deployment)]))
        with self.house.client() as client:
            return client.read_flow_runs(deployment_filter=wanted)

    def apply(self, *, prune: bool = False, dry_run: bool = False) -> Report:
        with self.house.client() as client:
            return apply(load_deployments(self.folder.file), client, prune=prune, dry_run=dry_run)

    def modelway(self, *arguments: str) -> Result:
        app = make_app()
        app.add_typer(make_deployments_app(), name="deployments")
        with self.house.settings():
            return CliRunner().invoke(app, ["deployments", *arguments])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Everything, with a run that waits for a person and one whose worker and process were killed."""
    more = {"PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2"}
    with PrefectHouse(tmp_path_factory.mktemp("house"), auth=AUTH, more=more) as house:
        folder = DeploymentsFolder(tmp_path_factory.mktemp("deployments"))
        doomed = POOL.replace("name: modelway", "name: doomed")
        (folder.folder / "doomed.yaml").write_text(doomed)
        folder.write(DEPLOYMENTS.replace("[pool.yaml]", "[pool.yaml, doomed.yaml]") + DOOMED)
        with house.client() as client:
            first = apply(load_deployments(folder.file), client)
            ids = {name: client.read_deployment_by_name(name).id for name in ("ask/asked", "go-on/doomed")}
        house.start_worker("modelway")
        worker = house.start_worker("doomed")
        waits, killed = house.run(ids["ask/asked"], config="waits"), house.run(ids["go-on/doomed"])
        house.wait_for(waits, "Suspended")
        beat_late(house, waits)
        house.wait_for(killed, "Running")
        house.until(lambda: beats(house, killed), lambda: "the run gave no sign of life")
        worker.kill()
        for process in house.engines(killed):
            process.kill()
        yield Place(house, folder, first, waits, killed)


def beat_late(house: PrefectHouse, run: UUID) -> None:
    """Have the server handle a sign of life after the suspension that came after it, as it does when it is busy."""
    event = {
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [{"prefect.resource.id": "prefect.tag.modelway", "prefect.resource.role": "tag"}],
        "occurred": datetime.now(UTC).isoformat(),
        "id": str(uuid4()),
    }
    with house.client() as client:
        client.request("POST", "/events", json=[event])


def beats(house: PrefectHouse, run: UUID) -> bool:
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
    }
    with house.client() as client:
        return bool(client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"])


def test_the_first_apply_makes_everything_and_the_second_nothing(place: Place) -> None:
    assert sorted(names(place.first)) == [
        "create automation modelway: crash silent runs",
        "create automation modelway: mark silent runs",
        "create automation modelway: note/digits on modelway.drift.detected of modelway.model.digits",
        "create automation modelway: note/digits on modelway.retraining.requested of modelway.model.digits",
        "create deployment ask/asked",
        "create deployment go-on/doomed",
        "create deployment note/digits",
        "create pool doomed",
        "create pool modelway",
        "create schedule note/digits nightly",
    ]
    with place.house.client() as client:
        there = client.read_deployment_by_name("note/digits")
    assert there.entrypoint == "tried_flows.note"
    assert there.tags == ["modelway", "nightly"]
    assert there.concurrency_options is not None
    assert there.concurrency_options.collision_strategy == "ENQUEUE"
    again = place.modelway("apply", str(place.folder.file))
    assert (again.exit_code, again.stdout.split(":")[0]) == (0, "nothing to change"), again.output
    shown = json.loads(place.modelway("show", "--json").stdout)
    digits = next(one for one in shown if one["name"] == "note/digits")
    assert digits["schedules"] == ["nightly: 0 3 * * * Europe/Berlin"]
    assert sorted(digits["triggers"]) == ["modelway.drift.detected", "modelway.retraining.requested"]


def test_a_schedule_starts_runs_at_its_local_hour_with_its_own_parameters(place: Place) -> None:
    def scheduled() -> list[FlowRun]:
        return [run for run in place.runs("note/digits") if run.auto_scheduled]

    run = place.house.until(scheduled, lambda: "nothing was scheduled")[0]
    assert run.expected_start_time is not None
    assert run.expected_start_time.astimezone(ZoneInfo("Europe/Berlin")).hour == 3
    assert run.parameters == {"config": "digits.yaml", "reason": "nightly", "epochs": 2}


def test_an_event_starts_a_run_with_its_reason_and_a_monitor_that_repeats_itself_no_second(place: Place) -> None:
    asked = place.modelway("request-retraining", "digits", "--reason", "a better sensor")
    assert asked.exit_code == 0, asked.output
    with place.house.client() as client:
        for reason in ("mean moved", "mean still moved"):
            request(client, "digits", reason=reason, event=DRIFT_DETECTED)

    def reasons() -> list[str]:
        return sorted(run.parameters["reason"] for run in place.runs("note/digits") if not run.auto_scheduled)

    def ended() -> bool:
        started = [run for run in place.runs("note/digits") if not run.auto_scheduled]
        return len(started) >= 2 and all(run.state is not None and run.state.is_completed() for run in started)

    place.house.until(ended, lambda: f"only {reasons()} were started")
    assert reasons() == ["a better sensor", "drift: mean moved"]
    notes = (place.house.work / "notes.txt").read_text().splitlines()
    assert sorted(notes) == ["digits.yaml 1 a better sensor", "digits.yaml 1 drift: mean moved"]


def test_a_request_that_nothing_waits_for_is_refused_and_emits_nothing(place: Place) -> None:
    with place.house.client() as client:
        with pytest.raises(NotFoundError, match=r"started by modelway.retraining.requested of modelway.model.cats"):
            request(client, "cats", reason="none")
        wanted = {"resource": {"id": ["modelway.model.cats"]}}
        assert client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"] == []


def test_a_run_that_waits_for_a_person_holds_no_slot_and_gets_one_when_it_was_answered(place: Place) -> None:
    asked, house = place.deployment("ask/asked"), place.house
    assert house.read(place.waits).state_name == "Suspended"
    other = house.run(asked, config="other")  # concurrency is 1, and the first one still waits
    house.wait_for(other, "Suspended")
    slow = house.run(asked, config="slow")
    house.wait_for(slow, "Running")
    house.answer(other, decision="approve")
    # Not cancelled, as it would be by CANCEL_NEW: it comes after the one that runs.
    house.wait_for(other, "AwaitingConcurrencySlot")
    (house.work / "release").touch()
    house.wait_for(slow, "Suspended")
    house.wait_for(other, "COMPLETED")


def test_what_a_person_paused_stays_paused_and_what_the_file_changed_is_changed(place: Place) -> None:
    drift = f"modelway: note/digits on {DRIFT_DETECTED} of modelway.model.digits"
    with place.house.client() as client:
        there = client.read_deployment_by_name("note/digits")
        client.update_deployment_schedule(there.id, there.schedules[0].id, active=False)
        client.pause_automation(client.read_automations_by_name(drift)[0].id)
        # Prefect takes a schedule's parameters away when it is paused: they are put back, and it stays paused.
        assert names(place.apply()) == ["change schedule note/digits nightly"]
        assert state_of(client, drift) == ("0 3 * * *", False, 3600, False)
        assert place.apply().changes == ()
        changed = place.folder.file.read_text().replace("0 3 * * *", "30 2 * * *").replace("3600", "7200")
        place.folder.file.write_text(changed)
        changes = ["change schedule note/digits nightly", f"change automation {drift}"]
        assert names(place.apply(dry_run=True)) == changes
        assert state_of(client, drift) == ("0 3 * * *", False, 3600, False)
        assert names(place.apply()) == changes
        assert state_of(client, drift) == ("30 2 * * *", False, 7200, False)
        assert place.apply().changes == ()


def state_of(client: SyncPrefectClient, automation: str) -> tuple[str, bool, float, bool]:
    """Return cron line and activity of the nightly schedule, and the seconds and activity of the one automation."""
    (schedule,) = client.read_deployment_by_name("note/digits").schedules
    (found,) = client.read_automations_by_name(automation)
    assert isinstance(schedule.schedule, CronSchedule)
    assert isinstance(found.trigger, EventTrigger)
    return schedule.schedule.cron, schedule.active, found.trigger.within.total_seconds(), found.enabled


def test_what_left_the_file_is_told_and_removed_only_when_that_is_asked_and_nobody_waits_for_it(
    place: Place, tmp_path: Path
) -> None:
    other = replace(place, folder=DeploymentsFolder(tmp_path))
    text = f"tag: other\n{DEPLOYMENTS}".replace("name: digits", "name: other").replace("name: asked", "name: other")
    other.folder.write(text)
    assert len(other.apply().changes) == 7
    run = place.house.run(place.deployment("ask/other"), config="other-tag")
    place.house.wait_for(run, "Suspended")
    other.folder.write("tag: other\npools: [pool.yaml]\ndeployments: [{name: other, flow: tried_flows:note}]\n")
    left = other.apply()
    gone = [
        "leave schedule note/other nightly",
        "leave automation other: crash silent runs",
        "leave automation other: mark silent runs",
        f"leave automation other: note/other on {DRIFT_DETECTED} of modelway.model.digits",
        "leave automation other: note/other on modelway.retraining.requested of modelway.model.digits",
        "leave deployment ask/other",
    ]
    assert sorted(names(left)) == sorted(["change deployment note/other", *gone])
    assert sorted(names(other.apply())) == sorted(gone)
    pruned = other.apply(prune=True)
    busy = [change for change in pruned.changes if change.verb == "leave"]
    assert [(one.name, one.words.partition(":")[0]) for one in busy] == [
        ("ask/other", "no longer in the file; 1 of its runs wait or run, and would be lost with it")
    ]
    place.house.answer(run, decision="approve")
    place.house.wait_for(run, "COMPLETED")
    assert names(other.apply(prune=True)) == ["remove deployment ask/other"]
    assert other.apply(prune=True).changes == ()
    assert place.apply().changes == (), "what has another tag was taken away too"


def test_the_file_that_comes_with_modelway_runs_a_flow_of_it(place: Place, tmp_path: Path) -> None:
    shipped = (CONFIGS / "deployments.yaml").read_text().replace("tag: modelway", "tag: shipped")
    pool = (CONFIGS / "pools" / "process.yaml").read_text().replace("name: modelway", "name: shipped")
    folder = DeploymentsFolder(tmp_path)
    folder.write(shipped.replace("pools/process.yaml", "pool.yaml"), pool=pool)
    assert place.modelway("apply", str(folder.file)).exit_code == 0
    assert place.modelway("apply", str(folder.file)).stdout.startswith("nothing to change")
    place.house.start_worker("shipped")
    registry = ModelRegistry(tmp_path / "registry")
    registry.register("digits", b"weights")
    run = place.house.run(place.deployment("gc/registry"), url=registry.url)
    place.house.wait_for(run, "COMPLETED")


def test_a_server_that_does_not_let_us_in_is_told_and_nothing_is_changed(place: Place, tmp_path: Path) -> None:
    folder = DeploymentsFolder(tmp_path)
    folder.write(DEPLOYMENTS.replace("name: digits", "name: unheard-of"))
    app = make_app()
    app.add_typer(make_deployments_app(), name="deployments")
    with place.house.settings(), temporary_settings({PREFECT_API_AUTH_STRING: "admin:wrong"}):
        refused = CliRunner().invoke(app, ["deployments", "apply", str(folder.file)])
    assert refused.exit_code == 1
    assert "does not let us in (401): set PREFECT_API_AUTH_STRING" in refused.stderr.replace("\n", " ")
    assert place.apply().changes == (), "the file of this test was applied"


def test_a_pool_keeps_its_type_and_nothing_else_is_changed(place: Place, tmp_path: Path) -> None:
    with place.house.client() as client:
        template = template_problems(PoolSettings(name="taken", type="docker"))[0]
        client.create_work_pool(WorkPoolCreate(name="taken", type="docker", base_job_template=template))
        folder = DeploymentsFolder(tmp_path)
        wanted = folder.write(
            DEPLOYMENTS.replace("name: digits", "name: unheard-of"), pool=POOL.replace("name: modelway", "name: taken")
        )
        with pytest.raises(ModelwayError, match="is on the server with the type docker, the file wants process"):
            apply(wanted, client)
        with pytest.raises(ObjectNotFound):
            client.read_deployment_by_name("note/unheard-of")


def test_a_run_that_was_killed_with_its_worker_crashes_and_one_that_waits_for_a_person_does_not(place: Place) -> None:
    def crashed() -> FlowRun | None:
        run = place.house.read(place.killed)
        return run if run.state is not None and run.state.is_crashed() else None

    run = place.house.until(crashed, lambda: f"the run is {place.house.read(place.killed).state}", within_s=240.0)
    assert run.state is not None
    assert run.state.message == "No sign of life for 60 s: its process is gone."

    # The late sign of life had the same started for the one that waits, and Prefect refused to mark it.
    place.house.until(lambda: refused(place.house, place.waits), lambda: "nobody tried to mark the run that waits")
    assert place.house.read(place.waits).state_name == "Suspended"
    place.house.answer(place.waits, decision="approve")
    place.house.wait_for(place.waits, "COMPLETED")


def refused(house: PrefectHouse, run: UUID) -> bool:
    """Return whether an automation was refused the change of a run's state."""
    wanted = {"event": {"name": ["prefect.automation.action.failed"]}}
    with house.client() as client:
        failed = client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"]
    return any(str(run) in json.dumps(event) for event in failed)
