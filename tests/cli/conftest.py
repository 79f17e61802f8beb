"""A registry in a folder of its own, and the command line that finds it there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from classifiers import classifier
from typer.testing import CliRunner, Result

from deployments.cli import make_program
from registry import ModelRegistry

if TYPE_CHECKING:
    from pathlib import Path

Modelway = Callable[..., Result]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder whose ``registry`` is where the registry lies, and act as ``ann``."""
    for name, value in {"MODELWAY_URL": "registry", "MODELWAY_ACTOR": "ann", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "registry"


@pytest.fixture
def modelway() -> Modelway:
    """Return the command line: words in, what it wrote and its exit code out."""
    program, runner = make_program(), CliRunner()
    return lambda *words: runner.invoke(program, [str(word) for word in words], prog_name="modelway")


@pytest.fixture
def as_json(modelway: Modelway) -> Callable[..., Any]:
    """Return the command line under ``--json``: words in, what it printed out; it succeeds."""

    def call(*words: str) -> Any:
        ran = modelway("--json", *words)
        assert ran.exit_code == 0, ran.stderr
        return json.loads(ran.stdout)

    return call


@pytest.fixture
def models(place: Path) -> ModelRegistry:
    """Return the registry of two models: ``digits`` v1 archived, v2 in production, v3 new; ``letters`` 1.0.0 new."""
    registry = ModelRegistry(place, actor="ann")
    for accuracy in (0.9, 0.95, 0.97):
        registry.register("digits", b"weights %f" % accuracy, metrics={"accuracy": accuracy, "loss": 1 - accuracy})
    registry.promote("digits", 1, "production", reason="the first")
    registry.promote("digits", 2, "production", approved_by="bob@example.com", reason="better")
    registry.register("letters", b"weights", version="1.0.0", tags={"team": "vision"}, description="reads letters")
    return registry


@pytest.fixture
def iris(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelRegistry]:
    """Give a registry with two versions of ``iris``, with samples; its endpoints are stopped in the end."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    registry = ModelRegistry(place, actor="ann")
    samples = np.random.default_rng(0).random((8, 4), dtype=np.float32)
    for seed in (1, 2):
        registry.register("iris", model=classifier(seed), samples=samples)
        registry.promote("iris", seed, "production")
    yield registry
    for endpoint in registry.list_endpoints():
        registry.stop_endpoint(endpoint.name)
