"""A registry that deploys to a real Triton: forward, beside, back, mended and stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from multiplying import SAMPLES, factor_at, register_versions
from triton_parts import tree
from triton_server import Addresses

from registry import ModelRegistry
from registry.endpoints.settings import TritonSettings
from registry.endpoints.triton.control import TritonControl
from registry.endpoints.triton.weighted import WeightedClient

pytestmark = pytest.mark.heavy


@pytest.fixture
def settings(repository: Path, triton: Addresses) -> TritonSettings:
    return TritonSettings(repository=str(repository), grpc=triton.grpc, http=triton.http, model_name="times")


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[ModelRegistry]:
    """A registry with v1 (times two, in production) to v3; what it serves is ended."""
    models = ModelRegistry(tmp_path / "registry")
    register_versions(models, 3)
    yield models
    for endpoint in models.list_endpoints():
        models.stop_endpoint(endpoint.name)


def test_versions_are_deployed_rolled_back_and_stopped(
    serving: ModelRegistry, settings: TritonSettings, repository: Path
) -> None:
    serving.deploy_model("times", 1, endpoint_name="main", target=settings)
    endpoint = serving.deploy_model("times", 2, endpoint_name="main").endpoint
    assert factor_at(endpoint) == 3
    assert serving.get_drift("main") == []
    serving.promote("times", 2, "production")
    serving.rollback("times", endpoint_name="main")
    assert factor_at(serving.get_endpoint("main")) == 2
    assert serving.get_drift("main") == []
    assert not serving.stop_endpoint("main").running
    assert tree(repository) == {}


def test_a_canary_is_split_by_a_client_that_is_made_of_what_the_endpoint_tells(
    serving: ModelRegistry, settings: TritonSettings
) -> None:
    serving.deploy_model("times", 1, endpoint_name="main", target=settings)
    serving.deploy_model("times", 3, endpoint_name="main", traffic=0.5)
    endpoint = serving.get_endpoint("main")
    assert factor_at(endpoint) == 2, "a client that knows of no shares has the version that serves"
    assert serving.get_drift("main") == []
    with WeightedClient.of(endpoint.observed, seed=2) as client:
        factors = [round(float((client.infer({"x": SAMPLES}).outputs["y"] / SAMPLES).mean())) for _ in range(60)]
    assert set(factors) == {2, 4}


def test_what_was_unloaded_by_hand_is_mended(serving: ModelRegistry, settings: TritonSettings) -> None:
    serving.deploy_model("times", 1, endpoint_name="main", target=settings)
    with TritonControl(settings.grpc) as control:
        control.unload("times")
    assert [drift.kind for drift in serving.get_drift("main")] == ["down"]
    assert serving.reconcile_endpoint("main") != []
    assert factor_at(serving.get_endpoint("main")) == 2
