"""A canary takes over by steps or is taken back at the first broken bound, whoever is killed in between."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from multiplying import SAMPLES, only_six_at_once, times
from prefect_house import PrefectHouse

from flows.canary import canary
from registry import ModelRegistry
from registry.endpoints.client import InferenceClient
from registry.errors import InvalidInputError, ModelwayError
from tasks import reconciling

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

QUICK = {"hold_s": 0.5, "min_requests": 30, "poll_s": 0.1, "wait_s": 60.0, "max_latency_ratio": None}
STARTED = "import json, sys; from flows.canary import canary; canary(**json.loads(sys.argv[1]))"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, house: PrefectHouse) -> Iterator[ModelRegistry]:
    """A registry whose endpoint ``main`` serves v1 (times two), v2 (times three), v3 (fails), v4 (the wrong class)."""
    monkeypatch.setenv("XDG_STATE_HOME", house.environment["XDG_STATE_HOME"])  # as one user's of this machine
    registry = ModelRegistry(tmp_path / "registry")
    for model in (times(2.0), times(3.0), only_six_at_once(), times(-1.0)):
        registry.register("times", model=model, samples=SAMPLES)
    registry.promote("times", 1, "production")
    registry.deploy_model("times", endpoint_name="main")
    yield registry
    registry.stop_endpoint("main")


@contextmanager
def users(models: ModelRegistry, *, labels: bool = False) -> Iterator[list[str]]:
    """Ask the endpoint without a pause, one sample at a time, and give the refusals; tell what was right on demand."""
    url = models.get_endpoint("main").url
    assert url is not None
    refused: list[str] = []
    done = threading.Event()

    def ask() -> None:
        with InferenceClient(url) as client:
            number = 0
            while not done.is_set():
                number, sample = number + 1, SAMPLES[number % 6 : number % 6 + 1]
                try:
                    client.infer("times", {"x": sample}, request_id=f"request-{number}")
                except ModelwayError as error:
                    refused.append(str(error))
                if labels:
                    client.tell_labels("times", {f"request-{number}": int(sample.argmax())})

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield refused
    finally:
        done.set()
        asking.join(30)


def _go(house: PrefectHouse, models: ModelRegistry, version: str, **settings: Any) -> Any:
    with house.settings():
        return canary("times", version, url=models.url, endpoint_name="main", settings={**QUICK, **settings})


def _shares(models: ModelRegistry) -> list[str]:
    return [one.words for one in models.get_endpoint_history("main") if one.event == "wanted"][1:]


def _served(models: ModelRegistry) -> tuple[str, object]:
    desired = models.get_endpoint("main").desired
    assert desired is not None
    return desired.version, desired.canary


def test_a_version_that_keeps_to_its_bounds_takes_over_by_steps(house: PrefectHouse, models: ModelRegistry) -> None:
    with users(models) as refused:
        outcome = _go(house, models, "2", steps=[0.2, 0.6])

    assert refused == []
    assert (outcome.ending, outcome.version, outcome.endpoint) == ("deployed", "v2", "main")
    assert _served(models) == ("v2", None)
    assert _shares(models) == [
        "times:v1, canary v2 with 20% (local): canary, 20% of the requests",
        "times:v1, canary v2 with 60% (local): canary, 60% of the requests",
        "times:v2 (local): it passed every step of its canary",
    ]
    (run,) = models.get_runs("times")
    assert (run.kind, run.ending, run.version) == ("canary", "deployed", "2")


def test_a_version_that_fails_is_taken_back_and_so_is_its_promotion(house: PrefectHouse, models: ModelRegistry) -> None:
    models.promote("times", 3, "production")
    with users(models) as refused:
        outcome = _go(house, models, "3", steps=[0.3, 0.6])

    assert outcome.ending == "taken_back"
    assert "requests failed (100.0%, at most 1.0%)" in outcome.words
    assert refused
    assert all("times:v3" in words or "times could not run" in words for words in refused), (
        "the stable one never failed"
    )
    assert _served(models) == ("v1", None)
    assert "v3 was taken back: with 30% of the requests" in _shares(models)[-1]
    production = models.get_production_model("times")
    assert production is not None
    assert production.version == "v1"
    assert models.get_drift() == []


def test_a_version_that_is_wrong_is_taken_back_when_the_right_answers_come(
    house: PrefectHouse, models: ModelRegistry
) -> None:
    with users(models, labels=True):
        outcome = _go(house, models, "4", steps=[0.5], max_accuracy_drop=0.1, min_labelled=20)
    assert outcome.ending == "taken_back"
    assert "less often than the stable version" in outcome.words
    with users(models, labels=True):
        better = _go(house, models, "2", steps=[0.5], max_accuracy_drop=0.1, min_labelled=20)
    assert better.ending == "deployed"


def test_a_run_that_is_killed_is_taken_up_where_it_stood(house: PrefectHouse, models: ModelRegistry) -> None:
    settings = {**QUICK, "steps": [0.2, 0.5]}
    given: dict[str, Any] = {"name": "times", "version": "2", "url": models.url, "endpoint_name": "main"}
    given["settings"] = settings
    dying = subprocess.Popen([sys.executable, "-c", STARTED, json.dumps(given)], env=house.environment)
    try:
        give_up_at = time.monotonic() + 60
        while len(_shares(models)) < 1 or models.get_drift("main"):  # nobody asks, so it waits at its first step
            assert dying.poll() is None
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
    finally:
        dying.kill()
        dying.wait()
    assert [words.partition(":")[2] for words in _shares(models)] == [
        "v1, canary v2 with 20% (local): canary, 20% of the requests"
    ]

    with house.settings(), users(models) as refused:
        outcome = canary(**given)

    assert refused == []
    assert outcome.ending == "deployed"
    assert _served(models) == ("v2", None)
    assert [words.rpartition(": ")[2] for words in _shares(models)] == [
        "canary, 20% of the requests",
        "canary, 50% of the requests",
        "it passed every step of its canary",
    ]
    (run,) = models.get_runs("times")
    assert (run.carriers, run.ending) == (2, "deployed")


def test_whoever_takes_a_canary_back_by_hand_ends_its_run(house: PrefectHouse, models: ModelRegistry) -> None:
    stopping = threading.Timer(2.0, lambda: models.deploy_model("times", 1, endpoint_name="main", why="by hand"))
    stopping.start()
    try:
        outcome = _go(house, models, "2", steps=[0.2], min_requests=1000)
    finally:
        stopping.join()
    assert outcome.ending == "taken_back"
    assert "somebody took it back from main while it was watched" in outcome.words
    assert _served(models) == ("v1", None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": [0.5, 0.1]}, "the steps are shares that rise"),
        ({"max_errors": 0.1}, "max_errors: Extra inputs are not"),
    ],
)
def test_settings_that_cannot_be_are_refused_and_nothing_changes(
    house: PrefectHouse, models: ModelRegistry, settings: dict[str, Any], words: str
) -> None:
    before = models.get_endpoint_history("main")
    with pytest.raises(InvalidInputError, match=words):
        _go(house, models, "2", **settings)
    assert models.get_endpoint_history("main") == before
    assert models.get_runs("times") == []


@pytest.mark.parametrize(("fate", "served"), [("alive", "v1"), ("dead", "v2")])
def test_reconcile_leaves_an_endpoint_to_the_living_run_that_has_just_promoted(
    house: PrefectHouse, models: ModelRegistry, monkeypatch: pytest.MonkeyPatch, fate: str, served: str
) -> None:
    models.begin_run("times", "run-9", holder="run-9", kind="lifecycle")
    models.promote("times", 2, "production", idempotency_key="run-9:production")
    monkeypatch.setattr(reconciling, "fate_of", lambda _run: fate)
    with house.settings():
        assert reconciling.reconcile_endpoints.fn(models.url) == []
    assert _served(models) == (served, None)
