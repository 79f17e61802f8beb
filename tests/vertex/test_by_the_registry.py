"""The registry's own verbs on Vertex AI's fake: deployed, killed at each step, canary, drift, rolled back, stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulators import Emulator
from multiplying import register_versions

from registry import ModelRegistry, RegistryConfig
from registry.endpoints.desired import EndpointState
from registry.endpoints.settings import VertexSettings
from registry.endpoints.wanting import place_of
from registry.errors import InvalidInputError
from registry.reconciling import Step

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each


class Died(BaseException):
    """The process that deployed is gone."""


@pytest.fixture
def models(
    tmp_path: Path, settings: VertexSettings, bucket: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModelRegistry]:
    """A registry with v1 (times two, in production) to v3, whose endpoint ``main`` is on Vertex AI."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials

    monkeypatch.setattr(google.auth, "default", lambda **_: (AnonymousCredentials(), "acme"))  # type: ignore[no-untyped-call]
    monkeypatch.setenv("MODELWAY_STORAGE_OPTIONS", json.dumps(bucket.options))
    registry = ModelRegistry(tmp_path / "registry")
    register_versions(registry, 3)
    registry.deploy_model("times", endpoint_name="main", target=settings.model_copy(update={"poll_s": 0.005}))
    yield registry
    registry.stop_endpoint("main")


def test_a_version_is_deployed_replaced_and_rolled_back(models: ModelRegistry) -> None:
    endpoint = models.get_endpoint("main")
    assert endpoint.observed is not None
    assert endpoint.observed.golden is not None
    assert endpoint.observed.golden.passed
    assert endpoint.observed.resources

    models.promote("times", 2, "production")
    (drift,) = models.get_drift("main")
    assert drift.words == "main follows production of times, which is v2, and serves v1"
    models.reconcile_endpoint("main")
    assert models.get_drift("main") == []
    models.rollback("times", endpoint_name="main")
    back = models.get_endpoint("main")
    assert back.desired is not None
    assert back.desired.version == "v1"
    assert models.get_drift("main") == []


@pytest.mark.parametrize("step", list(Step))
def test_a_deployment_that_died_after_any_step_is_brought_to_its_end(models: ModelRegistry, step: Step) -> None:
    def told(made: str) -> None:
        if made == step:
            raise Died

    with pytest.raises(Died):
        models.deploy_model("times", 2, endpoint_name="main", report=told)
    ModelRegistry(models.url).reconcile_endpoint("main")
    assert models.get_drift("main") == []
    endpoint = models.get_endpoint("main")
    assert endpoint.observed is not None
    assert endpoint.observed.generation == endpoint.generation
    assert [one.endpoint for one in models.get_version("times", 2).deployments] == ["main"]


def test_a_canary_gets_its_share_and_a_shadow_is_refused(models: ModelRegistry) -> None:
    endpoint = models.deploy_model("times", 2, endpoint_name="main", traffic=0.1).endpoint
    assert endpoint.observed is not None
    assert {part.version: part.share for part in endpoint.observed.parts} == {"v1": 0.9, "v2": 0.1}
    assert models.get_drift("main") == []
    before = models.get_endpoint("main")
    with pytest.raises(Exception, match=r"[Ss]hadow"):
        models.deploy_model("times", 3, endpoint_name="main", shadow=0.5)
    assert models.get_endpoint("main").desired == before.desired


def test_a_config_with_project_bucket_and_region_says_where_vertex_is() -> None:
    config = RegistryConfig(project_id="acme", bucket_name="acme-models", region="us-central1")
    assert config.vertex == VertexSettings(project="acme", region="us-central1", staging="gs://acme-models/serving")
    assert place_of("vertex", EndpointState(), config.vertex) == config.vertex
    assert RegistryConfig(project_id="acme", bucket_name="acme-models").vertex is None


def test_vertex_needs_its_settings_the_first_time(models: ModelRegistry) -> None:
    with pytest.raises(InvalidInputError, match="target 'vertex' needs settings the first time"):
        models.deploy_model("times", 1, endpoint_name="other", target="vertex")
    assert [one.name for one in models.list_endpoints()] == ["main"]
