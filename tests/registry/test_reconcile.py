"""What is wanted of an endpoint comes to serve, whoever dies on the way, races, or promotes something else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from multiplying import SAMPLES, factor_at, register_versions, times

from registry import Guard, MetricRequirement, ModelRegistry, PromotionPolicy
from registry.endpoints.client import InferenceClient
from registry.endpoints.settings import LocalSettings
from registry.errors import (
    ApprovalRequired,
    EndpointError,
    EndpointNotFoundError,
    InvalidInputError,
    InvalidNameError,
    ModelwayError,
    PolicyFailed,
)
from registry.reconciling import Step

pytestmark = pytest.mark.heavy

KILLED = """
import os, signal, sys
from registry import ModelRegistry
url, version, after = sys.argv[1:]
def told(step):
    if step == after:
        os.kill(os.getpid(), signal.SIGKILL)
ModelRegistry(url).deploy_model("times", version, endpoint_name="main", report=told)
"""


@pytest.fixture
def serving(on_disk: ModelRegistry) -> Iterator[ModelRegistry]:
    """Return a registry with v1 (times two, in production), v2 and v3; whatever it serves is ended."""
    register_versions(on_disk, 3)
    yield on_disk
    for endpoint in on_disk.list_endpoints():
        on_disk.stop_endpoint(endpoint.name)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -------------------------------------------------------------------------------------------------- killed on the way


@pytest.mark.parametrize("step", list(Step))
def test_a_deployment_that_is_killed_after_any_step_is_brought_to_its_end(
    serving: ModelRegistry, folder: Path, step: Step
) -> None:
    first = serving.deploy_model("times", 1, endpoint_name="main").endpoint

    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), "2", step.value], check=False)
    assert killed.returncode == -signal.SIGKILL
    routed = list(Step).index(step) >= list(Step).index(Step.ROUTE)
    assert factor_at(first) == (3 if routed else 2), "what served goes on until the new one takes over"

    serving.reconcile_endpoint("main")

    endpoint = serving.get_endpoint("main")
    assert factor_at(endpoint) == 3
    assert endpoint.url == first.url
    assert serving.get_drift("main") == []
    assert [one.generation for one in serving.get_version("times", 2).deployments] == [endpoint.generation]
    assert serving.reconcile_endpoint("main") == [], "there is nothing left to mend"


def test_a_first_deployment_that_is_killed_is_brought_to_its_end(serving: ModelRegistry, folder: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), "1", Step.LOAD.value], check=False)
    assert killed.returncode == -signal.SIGKILL
    (drift,) = serving.get_drift()
    assert (drift.endpoint, drift.kind) == ("main", "unfinished")
    assert drift.words == "generation 1 (times:v1) is wanted, and nothing was seen serving"

    assert serving.reconcile_endpoint("main") == [drift.words]
    assert factor_at(serving.get_endpoint("main")) == 2


# --------------------------------------------------------------------------------------------------------- races


def test_reconcilers_that_race_converge_on_what_was_wanted_last(serving: ModelRegistry, folder: Path) -> None:
    serving.deploy_model("times", 1, endpoint_name="main")
    begin, refused = threading.Barrier(4), []

    def deploy(version: int) -> None:
        registry = ModelRegistry(folder, actor=f"{version}@example.com")
        begin.wait()
        try:
            registry.deploy_model("times", version, endpoint_name="main")
        except ModelwayError as error:
            refused.append(error)

    threads = [threading.Thread(target=deploy, args=(version,)) for version in (1, 2, 3)]
    for thread in threads:
        thread.start()
    begin.wait()
    for thread in threads:
        thread.join(60)

    endpoint = serving.get_endpoint("main")
    assert endpoint.desired is not None
    assert endpoint.observed is not None
    assert endpoint.observed.generation == endpoint.generation
    assert factor_at(endpoint) == int(endpoint.desired.version[1:]) + 1
    assert serving.get_drift("main") == []
    assert all("before it did somebody wanted something else" in str(error) for error in refused)


# ------------------------------------------------------------------------------------------------- failures go back


def test_a_version_that_answers_wrongly_never_gets_a_request_and_the_log_says_why(
    serving: ModelRegistry, tmp_path: Path
) -> None:
    before = serving.deploy_model("times", 1, endpoint_name="main").endpoint
    lying = tmp_path / "lying"
    lying.mkdir()
    (lying / "model.onnx").write_bytes(times(9.0).SerializeToString())
    np.savez(lying / "samples.npz", inputs=SAMPLES, outputs=SAMPLES * 4)
    serving.register("times", lying, framework="onnx")
    seen: set[int] = set()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            seen.add(factor_at(before))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with pytest.raises(EndpointError, match="times:v4 answers the golden samples differently"):
            serving.deploy_model("times", 4, endpoint_name="main")
    finally:
        done.set()
        asking.join(30)

    assert seen == {2}
    now = serving.get_endpoint("main")
    assert (now.generation, now.desired, now.url) == (before.generation, before.desired, before.url)
    failed = serving.get_endpoint_history("main")[-1]
    assert failed.event == "failed"
    assert "answers the golden samples differently" in failed.words
    assert serving.get_drift("main") == []


def test_a_generation_that_served_stays_wanted_when_it_cannot_be_brought_up_again(
    serving: ModelRegistry, folder: Path
) -> None:
    endpoint = serving.deploy_model("times", 1, endpoint_name="main").endpoint
    serving.deploy_model("times", 2, endpoint_name="main")
    _kill(serving, "main")
    engine = folder / "models" / "times" / "versions" / "v2" / "model.onnx"
    kept = engine.read_bytes()
    engine.write_bytes(kept[:-1] + b"\0")

    with pytest.raises(ModelwayError, match="v2"):
        serving.reconcile_endpoint("main")
    wanted = serving.get_endpoint("main").desired
    assert wanted is not None
    assert wanted.version == "v2"

    engine.write_bytes(kept)
    serving.reconcile_endpoint("main")
    again = serving.get_endpoint("main")
    assert factor_at(again) == 3
    assert again.url == endpoint.url, "the address stays when the process does not"


def _kill(serving: ModelRegistry, name: str) -> None:
    observed = serving.get_endpoint(name).observed
    assert observed is not None
    assert observed.server is not None
    os.kill(observed.server.pid, signal.SIGKILL)
    psutil.Process(observed.server.pid).wait(10)


# ------------------------------------------------------------------------------------------------------------- drift


def test_a_process_that_died_is_drift_and_is_brought_up(serving: ModelRegistry) -> None:
    endpoint = serving.deploy_model("times", 1, endpoint_name="main").endpoint
    _kill(serving, "main")

    (drift,) = serving.get_drift("main")
    assert (drift.kind, drift.mend) == ("down", "modelway endpoints reconcile main")
    assert f"nothing answers at {endpoint.url}" in drift.words
    assert serving.reconcile_endpoint("main") == [drift.words]
    again = serving.get_endpoint("main")
    assert factor_at(again) == 2
    assert endpoint.observed is not None
    assert again.observed is not None
    assert (again.url, again.observed.grpc) == (endpoint.url, endpoint.observed.grpc)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"spoilt")])
def test_engines_that_were_spoilt_on_this_machine_are_fetched_again(
    serving: ModelRegistry, own_folders: Path, spoil: Callable[[Path], object]
) -> None:
    serving.deploy_model("times", 1, endpoint_name="main")
    serving.deploy_model("times", 2, endpoint_name="main", traffic=0.5)
    _kill(serving, "main")
    engines = list(own_folders.rglob("*.onnx"))
    assert len(engines) == 2
    for engine in engines:
        spoil(engine)

    serving.reconcile_endpoint("main")
    assert {factor_at(serving.get_endpoint("main")) for _ in range(40)} == {2, 3}


def test_the_engine_that_served_before_stays_on_this_machine_for_the_way_back(
    serving: ModelRegistry, own_folders: Path
) -> None:
    for version in (1, 2, 3):
        serving.deploy_model("times", version, endpoint_name="main")
    engines = {path.parent: path.stat().st_mtime_ns for path in own_folders.rglob("*.onnx")}
    assert sorted(folder.name.partition("-")[0] for folder in engines) == ["2", "3"]

    serving.deploy_model("times", 2, endpoint_name="main")
    assert {path.parent: path.stat().st_mtime_ns for path in own_folders.rglob("*.onnx")} == engines


def test_an_endpoint_follows_production_and_reconcile_brings_it_after(serving: ModelRegistry) -> None:
    serving.deploy_model("times", endpoint_name="main")
    serving.deploy_model("times", 1, endpoint_name="fixed", pin=True)
    serving.promote("times", 2, "production")

    (drift,) = serving.get_drift()
    assert (drift.endpoint, drift.kind, drift.version) == ("main", "follows", "v2")
    assert drift.words == "main follows production of times, which is v2, and serves v1"
    assert serving.reconcile_endpoint("fixed") == []
    assert serving.reconcile_endpoint("main") == [drift.words]
    assert factor_at(serving.get_endpoint("main")) == 3
    assert factor_at(serving.get_endpoint("fixed")) == 2
    assert serving.get_drift() == []


def test_an_endpoint_follows_the_alias_that_it_was_given(serving: ModelRegistry) -> None:
    serving.set_alias("times", "champion", 3)
    serving.deploy_model("times@champion", endpoint_name="main")
    assert factor_at(serving.get_endpoint("main")) == 4

    serving.set_alias("times", "champion", 2)
    (drift,) = serving.get_drift("main")
    assert drift.words == "main follows times@champion, which is v2, and serves v3"
    serving.reconcile_endpoint("main")
    assert factor_at(serving.get_endpoint("main")) == 3

    serving.delete_alias("times", "champion")
    (gone,) = serving.get_drift("main")
    assert (gone.version, gone.words) == (None, "main follows times@champion, which points at nothing, and serves v2")
    serving.reconcile_endpoint("main")
    assert factor_at(serving.get_endpoint("main")) == 3, "what serves is not taken away"


def test_rolling_back_moves_registry_and_endpoint_together(serving: ModelRegistry) -> None:
    serving.deploy_model("times", endpoint_name="main")
    serving.promote("times", 2, "production")
    serving.deploy_model("times", endpoint_name="main")

    serving.rollback("times", endpoint_name="main", reason="it was wrong at night")

    endpoint = serving.get_endpoint("main")
    assert factor_at(endpoint) == 2
    assert endpoint.desired is not None
    assert (endpoint.desired.why, endpoint.desired.follows) == ("it was wrong at night", "production")
    production = serving.get_production_model("times")
    assert production is not None
    assert production.version == "v1"
    assert serving.get_drift("main") == []


# --------------------------------------------------------------------------------------------------- canary and shadow


def test_a_canary_answers_its_share_and_the_stable_version_the_rest(serving: ModelRegistry) -> None:
    serving.deploy_model("times", 1, endpoint_name="main")
    endpoint = serving.deploy_model("times", 2, endpoint_name="main", traffic=0.25).endpoint

    answered = [factor_at(endpoint) for _ in range(400)]
    assert set(answered) == {2, 3}
    assert 60 <= answered.count(3) <= 145, "0.25 of 400, five standard deviations"
    counted = serving.count_endpoint("main")
    assert counted["v1"].requests + counted["v2"].requests >= 400
    assert {version: one.errors for version, one in counted.items()} == {"v1": 0, "v2": 0}

    wider = serving.deploy_model("times", 2, endpoint_name="main", traffic=0.75).endpoint
    assert wider.desired is not None
    assert wider.desired.canary is not None
    assert (wider.desired.version, wider.desired.canary.share) == ("v1", 0.75)
    all_of_it = serving.deploy_model("times", 2, endpoint_name="main").endpoint
    assert all_of_it.desired is not None
    assert all_of_it.desired.canary is None
    assert {factor_at(all_of_it) for _ in range(30)} == {3}


def test_a_canary_that_was_promoted_is_on_its_way_and_no_drift(serving: ModelRegistry) -> None:
    serving.deploy_model("times", endpoint_name="main")
    serving.deploy_model("times", 2, endpoint_name="main", traffic=0.1)
    serving.promote("times", 2, "production")
    assert serving.get_drift("main") == []

    serving.promote("times", 3, "production")
    (drift,) = serving.get_drift("main")
    assert drift.version == "v3"


def test_a_shadow_gets_copies_and_answers_nobody(serving: ModelRegistry) -> None:
    serving.deploy_model("times", 1, endpoint_name="main")
    endpoint = serving.deploy_model("times", 2, endpoint_name="main", shadow=1.0).endpoint

    assert {factor_at(endpoint) for _ in range(40)} == {2}
    for _ in range(100):
        if serving.count_endpoint("main")["v2"].requests >= 40:
            break
    assert serving.count_endpoint("main")["v2"].requests >= 40


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"traffic": 0.0}, "a share is above 0 and at most 1, found 0"),
        ({"traffic": 1.5}, "a share is above 0 and at most 1, found 1.5"),
        ({"shadow": 0.5, "traffic": 0.5}, "give either traffic or shadow"),
        ({"traffic": 0.5, "endpoint_name": "other"}, "nothing serves there"),
        ({"traffic": 0.5, "version": 1}, "times:v1 serves there, and a part of the requests goes to another"),
        ({"traffic": 0.5, "target": LocalSettings(max_batch=4)}, "it serves with other settings"),
    ],
)
def test_a_share_that_cannot_be_is_refused_and_nothing_changes(
    serving: ModelRegistry, folder: Path, how: dict[str, object], words: str
) -> None:
    serving.deploy_model("times", 1, endpoint_name="main")
    before = _contents(folder)
    with pytest.raises(InvalidInputError, match=words):
        serving.deploy_model("times", **{"version": 2, "endpoint_name": "main", **how})  # type: ignore[arg-type]
    assert _contents(folder) == before


# ---------------------------------------------------------------------------------------------------------- refusals


def test_a_version_that_does_not_meet_productions_policy_is_not_deployed(serving: ModelRegistry, folder: Path) -> None:
    policy = PromotionPolicy(requirements=(MetricRequirement("accuracy", threshold=0.82),))
    serving.deploy_model("times", 1, endpoint_name="main")
    serving.set_guard(Guard(policies={"production": policy}))  # type: ignore[dict-item]
    serving.register("times", model=times(8.0), metrics={"accuracy": 0.5})
    before = _contents(folder)

    with pytest.raises(PolicyFailed, match=r"times:v4 does not meet the policy for endpoint main; nothing was changed"):
        serving.deploy_model("times", 4, endpoint_name="main")
    assert _contents(folder) == before
    serving.deploy_model("times", 3, endpoint_name="main")
    serving.deploy_model("times", 1, endpoint_name="main")  # it has held production, whatever is asked today


def test_productions_endpoint_takes_no_version_that_nobody_approved(serving: ModelRegistry, folder: Path) -> None:
    serving.deploy_model("times", endpoint_name="main")
    serving.set_guard(Guard(require_approval=("production",), approvers=("*",), accept_asserted=True))  # type: ignore[arg-type]
    before = _contents(folder)

    for how in ({}, {"traffic": 0.1}):
        with pytest.raises(ApprovalRequired, match="times:v2 has not been approved for production, and main is"):
            serving.deploy_model("times", 2, endpoint_name="main", **how)  # type: ignore[arg-type]
    assert _contents(folder) == before

    serving.deploy_model("times", 2, endpoint_name="main", shadow=0.5)
    serving.deploy_model("times", 2, endpoint_name="tryout")
    serving.promote("times", 2, "production", approved_by="grace@example.com")
    assert factor_at(serving.deploy_model("times", 2, endpoint_name="main").endpoint) == 3


def test_names_outside_the_grammar_and_unknown_endpoints_are_refused(serving: ModelRegistry, folder: Path) -> None:
    before = _contents(folder)
    with pytest.raises(InvalidNameError, match="endpoint name"):
        serving.deploy_model("times", 1, endpoint_name="../main")
    for verb in (serving.get_drift, serving.reconcile_endpoint, serving.get_endpoint_history, serving.count_endpoint):
        with pytest.raises(EndpointNotFoundError, match="no endpoint 'main'"):
            verb("main")
    with pytest.raises(InvalidInputError, match="target 'triton' needs settings the first time"):
        serving.deploy_model("times", 1, endpoint_name="main", target="triton")
    assert _contents(folder) == before


# ---------------------------------------------------------------------------------------------------- what is recorded


def test_the_history_says_who_wanted_what_when_and_which_bytes_served(serving: ModelRegistry, folder: Path) -> None:
    serving.deploy_model("times", 1, endpoint_name="main", why="it is production's", actor="grace@example.com")
    serving.deploy_model("times", 2, endpoint_name="main", traffic=0.1)
    serving.stop_endpoint("main", reason="night")

    history = serving.get_endpoint_history("main")
    assert [one.event for one in history] == ["wanted", "served", "wanted", "served", "stopped"]
    assert history[0].words == "times:v1 (local): it is production's"
    assert history[0].actor == "grace@example.com"
    assert history[2].words == "times:v1, canary v2 with 10% (local)"
    assert history[4].words == "night"
    sidecar = serving.get_sidecar("times", 1)
    assert sidecar.manifest is not None
    (onnx,) = [entry.sha256 for entry in sidecar.manifest.files if entry.path == "model.onnx"]
    assert [part.digest for part in history[1].parts] == [onnx.removeprefix("sha256:")]
    written = json.loads((folder / "endpoints" / "main" / "log" / "000000000003.json").read_bytes())
    assert (written["event"]["previous"], written["event"]["desired"]["canary"]["share"]) == (1, 0.1)


def test_a_change_of_settings_starts_another_process_at_the_same_address(serving: ModelRegistry) -> None:
    first = serving.deploy_model("times", 1, endpoint_name="main").endpoint
    again = serving.deploy_model("times", 1, endpoint_name="main", target=LocalSettings(max_batch=4)).endpoint

    assert again.url == first.url
    assert again.observed is not None
    assert first.observed is not None
    assert again.observed.server != first.observed.server
    kept = serving.deploy_model("times", 2, endpoint_name="main").endpoint
    assert kept.desired is not None
    assert kept.desired.settings == LocalSettings(max_batch=4), "settings stay until others are given"
    assert kept.url is not None
    with InferenceClient(kept.url) as client:
        assert client.ready()
