"""The canary flow on Vertex AI, whose counters are not read: what the version answers when it is asked decides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google.auth
import pytest
from emulators import Emulator
from google.auth.credentials import AnonymousCredentials
from multiplying import SAMPLES, only_six_at_once, times
from prefect_house import PrefectHouse

from flows.canary import canary
from registry import ModelRegistry
from registry.endpoints.settings import VertexSettings

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

QUICK = {"hold_s": 0.2, "min_requests": 20, "poll_s": 0.05, "max_latency_ratio": None, "probe_requests": 40}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectHouse]:
    """A Prefect server of this module's own."""
    with PrefectHouse(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
def models(
    tmp_path: Path, settings: VertexSettings, bucket: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModelRegistry]:
    """A registry whose endpoint ``main`` on Vertex AI serves v1; v2 is as good, and v3 fails with one sample."""
    monkeypatch.setattr(google.auth, "default", lambda **_: (AnonymousCredentials(), "acme"))  # type: ignore[no-untyped-call]
    monkeypatch.setenv("MODELWAY_STORAGE_OPTIONS", json.dumps(bucket.options))
    registry = ModelRegistry(tmp_path / "registry")
    for model in (times(2.0), times(3.0), only_six_at_once()):
        registry.register("times", model=model, samples=SAMPLES)
    registry.promote("times", 1, "production")
    registry.deploy_model("times", endpoint_name="main", target=settings.model_copy(update={"poll_s": 0.005}))
    yield registry
    registry.stop_endpoint("main")


def _go(house: PrefectHouse, models: ModelRegistry, version: str, **changed: Any) -> Any:
    with house.settings():
        return canary("times", version, url=models.url, endpoint_name="main", settings={**QUICK, **changed})


def test_a_version_takes_over_by_steps(house: PrefectHouse, models: ModelRegistry) -> None:
    outcome = _go(house, models, "2", steps=[0.5, 0.75])
    assert outcome.ending == "deployed"
    shares = [one.words for one in models.get_endpoint_history("main") if one.event == "served"]
    assert len(shares) == 4
    endpoint = models.get_endpoint("main")
    assert endpoint.desired is not None
    assert (endpoint.desired.version, endpoint.desired.canary) == ("v2", None)
    assert models.get_drift("main") == []


def test_a_version_that_fails_is_taken_back(house: PrefectHouse, models: ModelRegistry) -> None:
    outcome = _go(house, models, "3", steps=[0.5])
    assert outcome.ending == "taken_back"
    assert "requests failed (" in outcome.words
    endpoint = models.get_endpoint("main")
    assert endpoint.desired is not None
    assert (endpoint.desired.version, endpoint.desired.canary) == ("v1", None)
    assert models.get_drift("main") == []
