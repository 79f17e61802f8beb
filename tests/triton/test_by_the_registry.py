"""The registry's own verbs on a real Triton: deployed, killed at each step, canary, drift, rolled back, stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tritonclient.grpc as triton_grpc
from multiplying import SAMPLES, register_versions
from triton_server import Addresses

from registry import ModelRegistry
from registry.endpoints.settings import TritonSettings
from registry.errors import EndpointError, StoreError
from registry.reconciling import Step

pytestmark = pytest.mark.heavy


class Died(BaseException):
    """The process that deployed is gone."""


@pytest.fixture
def models(tmp_path: Path, repository: Path, triton: Addresses, model: str) -> Iterator[ModelRegistry]:
    """A registry with v1 (times two, in production) to v3, whose endpoint ``main`` is on that Triton."""
    registry = ModelRegistry(tmp_path / "registry")
    register_versions(registry, 3)
    settings = TritonSettings(repository=str(repository), grpc=triton.grpc, http=triton.http, model_name=model)
    registry.deploy_model("times", endpoint_name="main", target=settings)
    yield registry
    registry.stop_endpoint("main")


@pytest.fixture
def factor(triton: Addresses, model: str) -> Callable[[], int]:
    """Ask Triton, and return the factor that answers."""

    def ask() -> int:
        with triton_grpc.InferenceServerClient(triton.grpc) as client:
            wanted = triton_grpc.InferInput("x", list(SAMPLES.shape), "FP32")
            wanted.set_data_from_numpy(SAMPLES)
            found = client.infer(model, [wanted]).as_numpy("y")
            return round(float((found / SAMPLES).mean()))

    return ask


def test_a_version_is_deployed_replaced_and_rolled_back(
    models: ModelRegistry, factor: Callable[[], int], triton: Addresses, model: str
) -> None:
    endpoint = models.get_endpoint("main")
    assert factor() == 2
    assert endpoint.observed is not None
    assert (endpoint.running, endpoint.observed.grpc, endpoint.observed.model_name) == (None, triton.grpc, model)
    assert endpoint.observed.golden is not None
    assert endpoint.observed.golden.passed

    models.promote("times", 2, "production")
    (drift,) = models.get_drift("main")
    assert drift.kind == "follows"
    models.reconcile_endpoint("main")
    assert factor() == 3
    models.rollback("times", endpoint_name="main")
    assert factor() == 2
    assert models.get_drift("main") == []


@pytest.mark.parametrize("step", list(Step))
def test_a_deployment_that_died_after_any_step_is_brought_to_its_end(
    models: ModelRegistry, factor: Callable[[], int], step: Step
) -> None:
    def told(made: str) -> None:
        if made == step:
            raise Died

    with pytest.raises(Died):
        models.deploy_model("times", 2, endpoint_name="main", report=told)
    assert factor() in {2, 3}

    ModelRegistry(models.url).reconcile_endpoint("main")
    assert factor() == 3
    assert models.get_drift("main") == []
    assert [one.endpoint for one in models.get_version("times", 2).deployments] == ["main"]


def test_a_canary_is_counted_beside_the_stable_version(models: ModelRegistry) -> None:
    endpoint = models.deploy_model("times", 3, endpoint_name="main", traffic=0.25).endpoint
    assert endpoint.observed is not None
    assert {part.version: part.share for part in endpoint.observed.parts} == {"v1": 0.75, "v3": 0.25}
    assert set(models.count_endpoint("main")) == {"v1", "v3"}
    assert models.get_drift("main") == []


def test_what_somebody_changed_behind_its_back_is_drift_and_mended(
    models: ModelRegistry, factor: Callable[[], int], triton: Addresses, model: str
) -> None:
    with triton_grpc.InferenceServerClient(triton.grpc) as client:
        client.unload_model(model)
    (drift,) = models.get_drift("main")
    assert (drift.kind, drift.mend) == ("down", "modelway endpoints reconcile main")
    assert models.reconcile_endpoint("main") == [drift.words]
    assert factor() == 2


def test_an_unreachable_triton_is_an_error_and_what_was_wanted_stays(models: ModelRegistry) -> None:
    before = models.get_endpoint("main")
    assert before.desired is not None
    elsewhere = before.desired.place.model_copy(update={"grpc": "127.0.0.1:9", "timeout_s": 2.0})
    with pytest.raises((EndpointError, StoreError), match=r"127\.0\.0\.1:9"):
        models.deploy_model("times", 2, endpoint_name="main", target=elsewhere)
    after = models.get_endpoint("main")
    assert (after.desired, after.observed) == (before.desired, before.observed)
    assert models.get_drift("main") == []
