"""Deploying to a real process of this machine: it answers as the model did, or what served before still does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from multiplying import SAMPLES, answer, times

from registry import Endpoint, Guard, ModelRegistry, ModelStage, OptimizeSpec
from registry.encoding import digest_of
from registry.errors import (
    EndpointError,
    EndpointNotFoundError,
    IntegrityError,
    InvalidNameError,
    NotFoundError,
)

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each


@pytest.fixture
def serving(on_disk: ModelRegistry) -> Iterator[ModelRegistry]:
    """Return a registry with v1 (times two) in production and v2 (times three); whatever it serves is ended."""
    on_disk.register("times", model=times(2.0))
    on_disk.register("times", model=times(3.0), samples=SAMPLES)
    on_disk.promote("times", 1, "production")
    yield on_disk
    for endpoint in on_disk.list_endpoints():
        on_disk.stop_endpoint(endpoint.name)


def _pid(endpoint: Endpoint) -> int:
    assert endpoint.observed is not None
    assert endpoint.observed.server is not None
    return endpoint.observed.server.pid


def _servers() -> list[psutil.Process]:
    """Return the serving processes that this one has started and that run."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and "registry.endpoints.server" in process.cmdline()
    ]


def test_the_version_in_production_serves_and_everything_says_so(serving: ModelRegistry, folder: Path) -> None:
    model, endpoint, metadata = serving.deploy_model("times")

    assert (endpoint.name, endpoint.running, endpoint.generation) == ("times", True, 1)
    assert endpoint.url is not None
    assert endpoint.url.startswith("http://127.0.0.1:")
    assert np.allclose(answer(endpoint), SAMPLES * 2)
    assert model == times(2.0)
    assert metadata.version == "v1"
    assert [(deployed.endpoint, deployed.generation) for deployed in metadata.deployments] == [("times", 1)]
    observed = json.loads((folder / "endpoints" / "times" / "observed.json").read_bytes())
    assert (observed["generation"], observed["desired"]["version"], observed["golden"]) == (1, "v1", None)
    status = json.loads((folder / "models" / "times" / "versions" / "v1" / "status.json").read_bytes())
    assert status["deployments"][0]["endpoint"] == "times"
    assert serving.list_endpoints() == [serving.get_endpoint("times")]


def test_another_version_takes_over_is_held_to_its_golden_samples_and_gives_way_again(serving: ModelRegistry) -> None:
    first = serving.deploy_model("times", endpoint_name="main").endpoint
    second = serving.deploy_model("times", 2, endpoint_name="main", why="it is three times as good").endpoint

    assert second.observed is not None
    assert second.observed.golden is not None
    assert (second.observed.golden.passed, second.observed.golden.samples) == (True, len(SAMPLES))
    assert np.allclose(answer(second), SAMPLES * 3)
    assert (second.url, _pid(second)) == (first.url, _pid(first)), "it is swapped inside one process, at one address"
    assert second.generation > first.generation

    serving.promote("times", 2, "production")
    serving.rollback("times", endpoint_name="main", reason="two was enough")
    assert np.allclose(answer(serving.get_endpoint("main")), SAMPLES * 2)
    assert serving.get_production_model("times") == serving.get_version("times", 1)
    assert len(_servers()) == 1


def test_what_is_stopped_serves_no_more_and_can_serve_again(serving: ModelRegistry, own_folders: Path) -> None:
    pid = _pid(serving.deploy_model("times").endpoint)

    stopped = serving.stop_endpoint("times", reason="night")

    assert (stopped.running, stopped.url, stopped.desired, stopped.observed) == (False, None, None, None)
    assert not psutil.pid_exists(pid)
    assert serving.stop_endpoint("times") == stopped
    assert [path.name for path in own_folders.rglob("*") if path.is_file()] == ["lock"]
    assert serving.deploy_model("times").endpoint.running


def test_a_changed_byte_is_not_deployed_and_the_endpoint_goes_on(serving: ModelRegistry, folder: Path) -> None:
    before = serving.deploy_model("times").endpoint
    file = folder / "models" / "times" / "versions" / "v2" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")

    with pytest.raises(IntegrityError) as caught:
        serving.deploy_model("times", 2)

    assert (caught.value.file, caught.value.found) == (str(file), digest_of(file.read_bytes()))
    _still_serves(serving, before)


def test_a_changed_engine_is_not_deployed_and_the_endpoint_goes_on(serving: ModelRegistry, folder: Path) -> None:
    before = serving.deploy_model("times").endpoint
    spec = OptimizeSpec(engines=("onnxruntime",), batch_sizes=(1,), warmup=1, repetitions=5)
    (variant,) = serving.optimize("times", 2, spec=spec)
    assert variant.report.file is not None
    file = folder / "models" / "times" / "versions" / "v2" / "variants" / variant.key / variant.report.file
    choice = serving.get_choice("times", 2)
    if choice.key is None:  # the original was as fast on this machine: its own file is what would be served then
        file = folder / "models" / "times" / "versions" / "v2" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")

    with pytest.raises(IntegrityError) as caught:
        serving.deploy_model("times", 2)

    assert caught.value.file == str(file)
    _still_serves(serving, before)


def test_an_endpoint_that_answers_otherwise_than_the_model_is_taken_down(
    serving: ModelRegistry, tmp_path: Path
) -> None:
    before = serving.deploy_model("times").endpoint
    lying = tmp_path / "lying"
    lying.mkdir()
    (lying / "model.onnx").write_bytes(times(5.0).SerializeToString())
    np.savez(lying / "samples.npz", inputs=SAMPLES, outputs=SAMPLES * 4)
    serving.register("times", lying, framework="onnx")

    with pytest.raises(EndpointError, match="times:v3 answers the golden samples differently than the model did"):
        serving.deploy_model("times", 3)
    _still_serves(serving, before)


def test_what_cannot_be_loaded_is_not_deployed(serving: ModelRegistry, tmp_path: Path) -> None:
    before = serving.deploy_model("times").endpoint
    (tmp_path / "model.onnx").write_bytes(b"this is no model")
    serving.register("times", tmp_path / "model.onnx")
    serving.register("times", b"nor is this", framework="onnx")

    with pytest.raises(EndpointError, match="times:v3 cannot be served: onnxruntime does not open"):
        serving.deploy_model("times", 3)
    with pytest.raises(EndpointError, match=r"times:v4 has 0 .onnx files where one is served \(it has: artifact.bin\)"):
        serving.deploy_model("times", 4)
    _still_serves(serving, before)


def test_a_first_deployment_that_fails_leaves_an_endpoint_that_serves_nothing(
    serving: ModelRegistry, folder: Path
) -> None:
    (folder / "models" / "times" / "versions" / "v1" / "model.onnx").write_bytes(b"changed")

    with pytest.raises(IntegrityError):
        serving.deploy_model("times")

    endpoint = serving.get_endpoint("times")
    assert (endpoint.generation, endpoint.desired, endpoint.observed, endpoint.url) == (0, None, None, None)
    assert _servers() == []


def test_a_server_that_was_killed_is_seen_as_gone_and_brought_up_again(serving: ModelRegistry) -> None:
    first = serving.deploy_model("times").endpoint
    os.kill(_pid(first), signal.SIGKILL)
    psutil.Process(_pid(first)).wait(10)

    assert serving.get_endpoint("times").url is None
    again = serving.deploy_model("times").endpoint
    assert np.allclose(answer(again), SAMPLES * 2)


def test_the_same_key_deploys_once_and_brings_up_what_died(serving: ModelRegistry) -> None:
    first = serving.deploy_model("times", idempotency_key="run-1").endpoint
    assert serving.deploy_model("times", idempotency_key="run-1").endpoint == first
    os.kill(_pid(first), signal.SIGKILL)
    psutil.Process(_pid(first)).wait(10)

    again = serving.deploy_model("times", idempotency_key="run-1").endpoint
    assert (again.generation, again.running) == (first.generation, True)
    assert np.allclose(answer(again), SAMPLES * 2)


def test_what_cannot_be_served_is_refused_before_anything_is_wanted(on_disk: ModelRegistry) -> None:
    on_disk.set_guard(Guard())
    on_disk.register("digits", b"weights")

    with pytest.raises(NotFoundError, match=r"digits has no version in production. It has: v1 in development"):
        on_disk.deploy_model("digits")
    with pytest.raises(EndpointError, match="digits:v1 has no engine that a local endpoint runs on this machine"):
        on_disk.deploy_model("digits", 1)
    on_disk.register("times", model=times(2.0))
    with pytest.raises(InvalidNameError, match=r"cannot be a endpoint name|cannot be an endpoint name"):
        on_disk.deploy_model("times", 1, endpoint_name="Main Endpoint")
    with pytest.raises(EndpointNotFoundError, match="no endpoint 'times'"):
        on_disk.get_endpoint("times")
    assert on_disk.list_endpoints() == []
    assert on_disk.get_by_stage(ModelStage.DEVELOPMENT)[0].deployments == ()


def _still_serves(models: ModelRegistry, before: Endpoint) -> None:
    now = models.get_endpoint(before.name)
    assert (now.generation, now.desired, now.url) == (before.generation, before.desired, before.url)
    assert np.allclose(answer(now), SAMPLES * 2)
    assert [process.pid for process in _servers()] == [_pid(before)]
