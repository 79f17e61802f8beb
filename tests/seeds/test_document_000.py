"""Document 000: a registry by functions of the module, and one in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from registry import ModelMetrics, ModelRegistry, ModelStage, default_registry

Blocks = Callable[[str, str], list[str]]
Execute = Callable[..., dict[str, Any]]
AS_IT_STANDS = {"registry": "registry"}


@pytest.fixture
def examples(blocks: Blocks) -> list[str]:
    found = blocks("000", "python")
    assert len(found) == 4
    return found


def test_it_registers_and_loads_by_functions_of_the_module(
    examples: list[str], execute: Execute, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("trained_models").mkdir()
    torch.save({"weight": torch.ones(3)}, "trained_models/yolo_v8.pt")
    model = execute(examples[0], packages=AS_IT_STANDS)["model"]
    assert capsys.readouterr().out == "Registered: object-detector:v1\n"  # as the document's comment has it
    assert dict(model.metrics) == {"accuracy": 0.95, "precision": 0.93, "latency_ms": 12.5}
    assert model.parameters == {"epochs": 100, "batch_size": 32}
    assert model.tags == {"framework": "pytorch", "dataset": "coco"}

    execute(examples[0], packages=AS_IT_STANDS)  # the document loads a v2 and a version in production
    default_registry().transition_stage("object-detector", "v1", ModelStage.PRODUCTION)
    loaded = execute(examples[1], packages=AS_IT_STANDS)["model"]
    assert loaded.metadata.version == "v1"
    assert loaded["weight"].tolist() == [1.0, 1.0, 1.0]
    for line, version in zip(
        [line for line in examples[1].splitlines() if line.startswith("model =")], ("v2", "v2", "v1"), strict=True
    ):
        code = f"from registry import load_model, ModelStage\n{line}\n"
        assert execute(code, packages=AS_IT_STANDS)["model"].metadata.version == version


def test_it_uses_a_registry_of_its_own(examples: list[str], execute: Execute) -> None:
    Path("models").mkdir()
    Path("models/predictor.onnx").write_bytes(b"bytes")
    found = execute(examples[2], packages=AS_IT_STANDS)
    assert found["model"].full_name == "maintenance-predictor:v1"
    assert found["models"] == ["maintenance-predictor"]
    assert [version.version for version in found["versions"]] == ["v1"]
    production = ModelRegistry("./models").get_production_model("maintenance-predictor")
    assert production is not None
    assert production.version == "v1"
    assert ModelRegistry("./models").load_artifact("maintenance-predictor", "v1") == b"bytes"


def test_it_keeps_common_metrics_and_those_of_its_own(examples: list[str], execute: Execute) -> None:
    metrics = execute(examples[3], packages=AS_IT_STANDS)["metrics"]
    assert isinstance(metrics, ModelMetrics)
    assert dict(metrics) == {
        "accuracy": 0.95, "precision": 0.93, "recall": 0.91, "f1_score": 0.92, "latency_ms": 15.0, "mAP": 0.87,
        "FPS": 30,
    }  # fmt: skip
