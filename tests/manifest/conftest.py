"""Registries in the buckets of three clouds, each with a model that serves at an endpoint of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from classifiers import classifier
from cloud_emulators import azure, gcs, s3
from emulators import Emulator

from registry import ModelRegistry
from registry.config import RegistryConfig
from registry.endpoints.desired import Wanted
from registry.engines.spec import EngineName, OptimizeSpec

if TYPE_CHECKING:
    from pathlib import Path


__all__ = ["azure", "gcs", "s3"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the servers of endpoints write on this machine in a folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


Filled = Callable[..., ModelRegistry]


@pytest.fixture
def filled() -> Iterator[Filled]:
    """Return what makes a registry with two versions of a model; its endpoints are stopped in the end."""
    made: list[ModelRegistry] = []

    def fill(where: Any, name: str = "iris") -> ModelRegistry:
        registry = ModelRegistry(where, actor="ann")
        made.append(registry)
        samples = np.random.default_rng(0).random((8, 4), dtype=np.float32)
        for seed in (1, 2):
            registry.register(name, model=classifier(seed), samples=samples)
        return registry

    yield fill
    for registry in made:
        for endpoint in registry.list_endpoints():
            registry.stop_endpoint(endpoint.name)


@pytest.fixture
def in_s3(s3: Emulator, filled: Filled, tmp_path: Path) -> ModelRegistry:
    """Return a registry in a folder of its own of the bucket."""
    return filled(RegistryConfig(url=f"{s3.url}/{tmp_path.name}", storage_options=s3.options))


@pytest.fixture
def with_engine() -> Callable[[ModelRegistry, EngineName], str]:
    """Return what builds an engine for version 1, wants it at ``flowers``, and gives its key."""

    def build(registry: ModelRegistry, engine: EngineName) -> str:
        spec = OptimizeSpec(engines=(engine,), batch_sizes=(1,), warmup=1, repetitions=5)
        registry.optimize("iris", 1, spec=spec)
        (variant,) = registry.get_variants("iris", 1)
        registry.deploy_model("iris", 1, endpoint_name="flowers")
        desired = registry.get_endpoint("flowers").desired
        assert desired is not None
        # Which engine is the fastest differs from machine to machine; which is wanted is what a manifest is made of.
        wanted = Wanted(desired=desired.model_copy(update={"variant": variant.key}))
        registry._endpoint_log("flowers").append(lambda _: wanted, actor="ann")  # noqa: SLF001
        return variant.key

    return build
