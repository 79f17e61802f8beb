"""A real Triton for the tests of a module, and endpoints on it that do not meet."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from triton_parts import REGISTRY
from triton_server import Addresses, running_triton

from registry.endpoints.settings import TritonSettings
from registry.endpoints.triton.target import TritonTarget

TargetOf = Callable[..., TritonTarget]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model repository of that Triton."""
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def triton(repository: Path) -> Iterator[Addresses]:
    """A real server, which no test stops."""
    # Else it starts each model's process twice, to ask it for what the configuration says already.
    with running_triton(repository, arguments=["--disable-auto-complete-config"]) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def _names() -> Iterator[str]:
    return (f"digits-{number}" for number in itertools.count(1))


@pytest.fixture
def model(_names: Iterator[str]) -> str:
    """A name that no other test of the module has."""
    return next(_names)


@pytest.fixture
def target_of(repository: Path, triton: Addresses, model: str) -> TargetOf:
    """Return a maker of targets on that server, each as a new process would have it."""

    def make(*, endpoint: str = "shop", registry: str = REGISTRY, **more: Any) -> TritonTarget:
        given = {"repository": str(repository), "grpc": triton.grpc, "http": triton.http, "model_name": model}
        return TritonTarget(TritonSettings(**{**given, **more}), endpoint=f"{endpoint}-{model}", registry=registry)

    return make


@pytest.fixture
def target(target_of: TargetOf) -> Iterator[TritonTarget]:
    """A target whose models are gone at the end."""
    made = target_of()
    yield made
    made.stop()
