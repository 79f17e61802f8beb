"""Document 003: a torch model by name, version and stage; commands; and a step that returns a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from registry import ModelRegistry, ModelStage

Blocks = Callable[[str, str], list[str]]
Execute = Callable[..., dict[str, Any]]
PACKAGES = {"uniflow": "registry"}
NAME = "sentiment_classifier"


@pytest.fixture
def examples(blocks: Blocks) -> list[str]:
    found = blocks("003", "python")
    assert len(found) == 5
    return found


@pytest.fixture
def registered(
    examples: list[str], execute: Execute, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> ModelRegistry:
    """Return the registry after the first example, for Python and for commands alike, with a version 1.1.0 beside."""
    monkeypatch.setenv("MODELWAY_URL", "registry")
    registry = execute(examples[0], {"my_model": torch.nn.Flatten()}, packages=PACKAGES)["registry"]
    assert capsys.readouterr().out == f"Registered model: {NAME} version v1.0.0\n"
    assert isinstance(registry, ModelRegistry)
    registry.register(NAME, model=torch.nn.Flatten(), version="v1.1.0", metrics={"accuracy": 0.97, "f1": 0.95})
    return registry


def test_it_registers_a_torch_model(registered: ModelRegistry) -> None:
    version = registered.get_version(NAME, "1.0.0")
    assert (version.version, version.framework) == ("v1.0.0", "pytorch")
    assert dict(version.metrics) == {"accuracy": 0.95, "f1": 0.94}
    assert version.tags == {"language": "en", "architecture": "bert"}


def test_it_does_so_in_memory_where_nothing_says_otherwise(examples: list[str], execute: Execute) -> None:
    registry = execute(examples[0], {"my_model": torch.nn.Flatten()}, packages=PACKAGES)["registry"]
    assert registry.url.startswith("memory:")


def test_it_promotes_and_loads_by_version_and_by_stage(
    registered: ModelRegistry, examples: list[str], execute: Execute
) -> None:
    given = {"registry": registered, "ModelStage": ModelStage}
    execute(examples[2], given, packages=PACKAGES)
    assert [move.to_stage for move in registered.get_transitions(NAME)] == ["staging", "production"]
    found = execute(examples[1], given, packages=PACKAGES)
    assert isinstance(found["model"], torch.nn.Flatten)
    assert isinstance(found["prod_model"], torch.nn.Flatten)


def test_it_prints_a_comparison(
    registered: ModelRegistry, examples: list[str], execute: Execute, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(examples[3], {"registry": registered}, packages=PACKAGES)
    said = capsys.readouterr().out
    for words in (f"{NAME}:v1.0.0", f"{NAME}:v1.1.0", "accuracy", "+2.11% better"):
        assert words in said


@pytest.mark.usefixtures("registered")
def test_its_commands_list_and_promote(blocks: Blocks, shell: Callable[[str], str]) -> None:
    (commands,) = blocks("003", "bash")
    lines = [line.replace("uniflow", "modelway") for line in commands.splitlines() if line.startswith("uniflow ")]
    models, versions, promoted = map(shell, lines)
    assert NAME in models
    assert "v1.0.0" in versions
    assert "v1.1.0" in versions
    assert f"{NAME}:v1.0.0 moved from development to production" in promoted


def test_a_step_registers_the_model_that_it_returns(
    examples: list[str], execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWAY_URL", "registry")
    train = execute(examples[4], {"trained_model": torch.nn.Flatten()}, packages={"uniflow": "tasks"})["train"]
    version = ModelRegistry("registry").get_version
    assert train().registered == version("my_model", 1)
    assert version("my_model", 1).framework == "pytorch"
