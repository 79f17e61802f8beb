"""What a run shows on a real Prefect server: artifacts, progress, events, and notices that are sent once."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import sinks
import small_network
from prefect import flow, task
from prefect.runtime import flow_run
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_UI_URL, temporary_settings
from prefect.states import Suspended
from prefect_house import WITHIN_S, PrefectHouse
from pydantic import SecretStr
from working_folder import CONFIG, house_in

from registry import ModelRegistry, OptimizeSpec, clock
from registry.policy import PromotionPolicy
from registry.progress import listen, track
from tasks import notices, progress_artifacts
from tasks.notices import NoticeSettings
from tasks.notifying import notify, remind, tell_failure
from tasks.prefect_events import emit
from tasks.progress_artifacts import PrefectProgress
from tasks.publishing import publish_engines, publish_evaluation, publish_version

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectHouse]:
    """A Prefect server that this process talks to."""
    quick: dict[Any, Any] = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with (
        PrefectHouse(tmp_path_factory.mktemp("house")) as made,
        made.settings(),
        temporary_settings({**quick, PREFECT_UI_URL: made.url}),
    ):
        yield made


@pytest.fixture
def hook() -> Iterator[sinks.Hook]:
    """A web server that is running."""
    with sinks.hook() as server:
        yield server


def to(hook: sinks.Hook, **more: Any) -> NoticeSettings:
    return NoticeSettings(channels=(SecretStr(f"http://{hook.place}/"),), **more)


def ask(house: PrefectHouse, path: str, **filters: Any) -> Any:
    answered = httpx.post(f"{house.api_url}/{path}/filter", json=filters)
    answered.raise_for_status()
    return answered.json()


def artifacts(house: PrefectHouse, run: UUID) -> dict[str, dict[str, Any]]:
    """Return a run's artifacts by key, none of which is there twice."""
    found = ask(house, "artifacts", artifacts={"flow_run_id": {"any_": [str(run)]}})
    assert len({one["key"] for one in found}) == len(found)
    return {one["key"]: one for one in found}


def test_a_run_shows_each_artifact_once_however_often_it_goes_from_the_top(
    house: PrefectHouse, models: ModelRegistry
) -> None:
    first, second = (models.get_version("hand_digits", number) for number in (1, 2))
    passed = models.check_promotion_policy("hand_digits", 2, PromotionPolicy())
    hostile = " ".join(second.description.split())

    @task
    def shown() -> None:
        publish_evaluation(models, second, passed)
        publish_engines(models, second)
        publish_version(models, second)

    @flow
    def run() -> UUID:
        shown()
        models.promote("hand_digits", 2, "staging")
        shown()
        return UUID(flow_run.get_id())

    found = artifacts(house, run())

    assert set(found) == {
        f"hand-digits-{what}" for what in ("evaluation", "comparison", "engines", "model-card", "files")
    }
    metrics = {row["metric"]: row for row in json.loads(found["hand-digits-evaluation"]["data"])}
    assert metrics["accuracy"] == {"metric": "accuracy", "value": "0.92", "measured on": "sha256:da7a"}
    assert second.description in metrics, "the cells of a table artifact are no Markdown"
    assert found["hand-digits-evaluation"]["description"] == "Metrics of hand_digits:v2. Policy passed."
    beside = {row["metric"]: row for row in json.loads(found["hand-digits-comparison"]["data"])}
    assert beside["accuracy"][f"{first.full_name} (incumbent)"] == "0.91"
    assert (beside["accuracy"]["difference"], beside["accuracy"]["verdict"]) == ("+0.01", "better")
    card = found["hand-digits-model-card"]
    assert card["type"] == "markdown"
    assert "| stage | staging since" in card["data"], "it is brought up to date"
    assert hostile not in card["data"]
    assert f"`{second.artifact_path}`" in found["hand-digits-files"]["data"]


def test_the_engines_are_shown_with_a_picture(house: PrefectHouse, models: ModelRegistry) -> None:
    inputs = small_network.samples()
    models.register("net", model=small_network.network(), samples=inputs[:8])
    spec = OptimizeSpec(engines=("onnxruntime",), batch_sizes=(1,), warmup=1, repetitions=5)
    models.optimize("net", 1, spec=spec, samples=inputs)

    @flow
    def run() -> UUID:
        publish_engines(models, models.get_version("net", 1))
        return UUID(flow_run.get_id())

    found = artifacts(house, run())

    rows = json.loads(found["net-engines"]["data"])
    assert [row["engine"] for row in rows] == ["as registered", "onnxruntime"]
    kind, _, picture = found["net-engines-plot"]["data"].partition(",")
    assert (found["net-engines-plot"]["type"], kind) == ("image", "data:image/png;base64")
    assert base64.b64decode(picture) == models.get_judgement_plot("net", 1)


def test_long_work_is_shown_to_its_end_and_work_of_a_moment_is_not(
    house: PrefectHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_artifacts, "EVERY_S", 0.1)

    @task
    def work() -> None:
        with listen(PrefectProgress()):
            with track("uploading digits:v1", 2_000_000, "bytes") as advance:
                advance(500_000)
                halfway.append(house.until(shown, lambda: "it is not shown"))
                threads = [threading.Thread(target=advance, args=(300_000,)) for _ in range(5)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            with track("of a moment", 5, "files") as advance:
                advance(5)

    def shown() -> dict[str, Any] | None:
        return artifacts(house, runs[0]).get("uploading-digits")

    @flow
    def run() -> None:
        runs.append(UUID(flow_run.get_id()))
        work()

    runs: list[UUID] = []
    halfway: list[dict[str, Any]] = []
    run()

    found = artifacts(house, runs[0])
    assert (halfway[0]["data"], halfway[0]["description"]) == (25.0, "uploading digits:v1: 500.0 kB of 2.0 MB")
    assert set(found) == {"uploading-digits"}
    assert found["uploading-digits"]["type"] == "progress"
    assert found["uploading-digits"]["data"] == 100.0
    assert found["uploading-digits"]["description"] == "uploading digits:v1: 2.0 MB of 2.0 MB"


def test_what_happens_is_an_event_of_the_model_once_and_related_to_the_run(
    house: PrefectHouse, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"version": "v2", "stage": "production", "registry": "gs://models", "endpoint": ""}

    def promoted(key: str) -> None:
        emit("version.promoted", "digits", labels=labels, key=key, payload={"key": key})

    @flow
    def run() -> str:
        for key in ("r1:production", "r1:production", "r2:production"):
            promoted(key)
        return str(flow_run.get_id())

    def events(wanted: int) -> list[dict[str, Any]]:
        asked = {"resource": {"id": ["modelway.model.digits"]}}

        def there() -> list[dict[str, Any]] | None:
            found: list[dict[str, Any]] = ask(house, "events", filter=asked)["events"]
            return found if len(found) >= wanted else None

        return house.until(there, lambda: f"there are no {wanted} events")

    run_id = run()
    first = next(event for event in events(2) if event["payload"] == {"key": "r1:production"})
    monkeypatch.setattr("tasks.prefect_events._emitted", set())  # as in the process that a run is resumed in
    promoted("r1:production")
    emit("run.ended", "digits", labels={"registry": "gs://models"}, key="r1", payload={"ending": "deployed"})

    found = sorted((event["event"], event["payload"].get("key")) for event in events(3))
    assert found == [
        ("modelway.run.ended", None),
        ("modelway.version.promoted", "r1:production"),
        ("modelway.version.promoted", "r2:production"),
    ]
    assert first["resource"] == {
        "prefect.resource.id": "modelway.model.digits",
        "prefect.resource.name": "digits",
        "modelway.version": "v2",
        "modelway.stage": "production",
        "modelway.registry": "gs://models",
    }
    assert f"prefect.flow-run.{run_id}" in {one["prefect.resource.id"] for one in first["related"]}
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_with_a_server_that_does_not_answer_an_event_holds_nothing_up(tmp_path: Path) -> None:
    program = (
        "from tasks.prefect_events import emit\n"
        "emit('run.ended', 'digits', labels={'version': 'v1'}, key='r1')\n"
        "print('the run went on', flush=True)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes a connection and never answers
        silent.settimeout(WITHIN_S)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=house_in(tmp_path, PREFECT_API_URL=url, PREFECT_LOGGING_LEVEL="CRITICAL").environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "the run went on\n"
            connection, _ = silent.accept()  # Prefect's sender asks, and nobody has answered when the run goes on
            process.kill()
            connection.close()


def test_a_run_that_goes_from_the_top_sends_a_notice_once_and_one_that_failed_again(
    house: PrefectHouse, models: ModelRegistry, hook: sinks.Hook
) -> None:
    request = models.request_approval("hand_digits", 2, "production", expires_in=timedelta(hours=1))
    notice = notices.of_question(request, "evidence", url=models.url)

    @task
    def asked(key: str) -> None:
        notify(to(hook), notice, key=key)

    @flow
    def run() -> str:
        hook.status = 500
        asked("approval-1-0")
        hook.status = 200
        asked("approval-1-0")
        asked("approval-1-0")
        asked("approval-1-1")
        return str(flow_run.get_id())

    run_id = run()

    assert len(hook.received) == 3, "the one that failed, the one of the first question, the one of the second"
    assert {posted.json["link"] for posted in hook.received} == {f"{house.url}/runs/flow-run/{run_id}"}
    assert "modelway.notice.pending.approval-1-1" in house.read(UUID(run_id)).labels
    words = "channel 1 (http://127.0.0.1) did not take the notice: HTTPError: 500"
    # Prefect sends a run's log in batches, the last one after the run has ended.
    log = house.until(lambda: house.logs(UUID(run_id)) if words in house.logs(UUID(run_id)) else None, lambda: words)
    assert log.count(words) == 1


def test_a_question_that_expires_soon_is_told_once_by_whoever_looks(
    house: PrefectHouse, models: ModelRegistry, hook: sinks.Hook
) -> None:
    @flow
    def waiting() -> None: ...

    def suspended(request: str, hours: float, registry: str = models.url) -> UUID:
        labels: dict[str, bool | int | float | str] = {
            "modelway.model": "hand_digits",
            "modelway.version": "v2",
            "modelway.stage": "production",
            "modelway.request": request,
            "modelway.registry": registry,
            "modelway.expires_at": (clock.now() + timedelta(hours=hours)).isoformat(),
        }
        with house.client() as client:
            run = client.create_flow_run(waiting, state=Suspended(timeout_seconds=100_000))
            client.update_flow_run_labels(run.id, labels)
        return UUID(str(run.id))

    soon = suspended("soon", 3)
    for request, hours, registry in (("late", 30, models.url), ("gone", -1, models.url), ("other", 3, "memory://x")):
        suspended(request, hours, registry)

    for _ in range(2):
        remind(to(hook, expiring_before_hours=12), url=models.url)

    (posted,) = hook.received
    assert (posted.json["kind"], posted.json["request_id"]) == ("expiring", "soon")
    assert posted.json["link"] == f"{house.url}/runs/flow-run/{soon}"
    assert posted.json["title"].startswith("hand_digits:v2 waits for an approval to production until ")


def test_a_run_that_fails_is_told_to_those_whom_its_pipeline_file_names(
    house: PrefectHouse, hook: sinks.Hook, tmp_path: Path
) -> None:
    config = tmp_path / "digits.yaml"
    config.write_text(CONFIG.read_text() + f'\nnotify: {{channels: ["http://{hook.place}/hook"], on: [failed]}}\n')

    @flow(on_failure=[tell_failure], on_crashed=[tell_failure])
    def broken(config: str) -> None:
        raise RuntimeError(f"no such trainer in {Path(config).name}")

    with pytest.raises(RuntimeError, match="no such trainer"):
        broken(str(config))

    (posted,) = hook.received
    assert (posted.json["kind"], posted.json["title"]) == ("failed", "A run of digits failed")
    assert "RuntimeError: no such trainer in digits.yaml" in posted.json["words"]
    assert posted.json["link"].startswith(f"{house.url}/runs/flow-run/")
