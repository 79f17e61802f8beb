"""Document 001: semantic versions in memory, and bytes in a folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from registry import FileModelStore, ModelFramework, ModelRegistry

Blocks = Callable[[str, str], list[str]]
Execute = Callable[..., dict[str, Any]]
PACKAGES = {"codomyrmex.model_registry": "registry"}


@pytest.fixture
def examples(blocks: Blocks) -> list[str]:
    found = blocks("001", "python")
    assert len(found) == 2
    return found


def test_it_keeps_semantic_versions_in_memory(
    examples: list[str], execute: Execute, capsys: pytest.CaptureFixture[str]
) -> None:
    found = execute(examples[0], packages=PACKAGES)
    assert capsys.readouterr().out == "Latest: my_classifier:1.0.0\nProduction: my_classifier:1.0.0\n"
    assert found["version"].framework is ModelFramework.SKLEARN
    assert found["version"].description == "Random forest classifier v1"
    assert found["registry"].url.startswith("memory:")
    assert ModelRegistry().list_models() == []  # another one in memory is another one


def test_it_keeps_bytes_in_a_folder(examples: list[str], execute: Execute) -> None:
    assert execute(examples[1], packages=PACKAGES)["artifact"] == b"serialized_model_bytes"
    again = ModelRegistry(store=FileModelStore("./model_artifacts"))
    assert again.load_artifact("my_model", "2.0.0") == b"serialized_model_bytes"
