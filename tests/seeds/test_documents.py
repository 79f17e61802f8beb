"""The calls that the owner's documents 000 to 003 show, as they stand there (those in Rust in their Python form)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from registry import (
    Comparison,
    FileModelStore,
    InMemoryRegistry,
    MetricRequirement,
    ModelFramework,
    ModelMetrics,
    ModelRegistry,
    ModelStage,
    PromotionPolicy,
    load_model,
    register_model,
)
from registry.errors import IllegalTransitionError


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODELWAY_URL", raising=False)


def test_document_000_registers_and_loads_by_functions_of_the_module() -> None:
    Path("trained_models").mkdir()
    torch.save({"weight": torch.ones(3)}, "trained_models/yolo_v8.pt")
    for _ in range(2):
        model = register_model(
            model_name="object-detector",
            artifact_path="./trained_models/yolo_v8.pt",
            metrics=ModelMetrics(accuracy=0.95, precision=0.93, latency_ms=12.5),
            parameters={"epochs": 100, "batch_size": 32},
            tags={"framework": "pytorch", "dataset": "coco"},
        )
    assert model.full_name == "object-detector:v2"
    assert load_model("object-detector").metadata.version == "v2"
    assert load_model("object-detector", version="v1").metadata.version == "v1"
    ModelRegistry("./.modelway").transition_stage("object-detector", "v1", ModelStage.PRODUCTION)
    loaded = load_model("object-detector", stage=ModelStage.PRODUCTION)
    assert loaded.metadata.version == "v1"
    assert loaded["weight"].tolist() == [1.0, 1.0, 1.0]


def test_document_000_uses_a_registry_of_its_own() -> None:
    Path("models").mkdir()
    Path("predictor.onnx").write_bytes(b"bytes")
    registry = ModelRegistry("./models")
    registry.register("maintenance-predictor", "./predictor.onnx")
    assert registry.list_models() == ["maintenance-predictor"]
    assert [version.version for version in registry.list_versions("maintenance-predictor")] == ["v1"]
    registry.transition_stage("maintenance-predictor", "v1", ModelStage.PRODUCTION)
    metrics = ModelMetrics(
        accuracy=0.95, precision=0.93, recall=0.91, f1_score=0.92, latency_ms=15.0, custom={"mAP": 0.87, "FPS": 30}
    )
    assert metrics["mAP"] == 0.87


def test_document_001_keeps_semantic_versions_in_memory_and_bytes_in_a_folder() -> None:
    registry = ModelRegistry()
    registry.register(
        name="my_classifier",
        version="1.0.0",
        framework=ModelFramework.SKLEARN,
        metrics=ModelMetrics(accuracy=0.95, f1_score=0.93),
        parameters={"n_estimators": 100},
        description="Random forest classifier v1",
    )
    latest = registry.get_model("my_classifier").latest_version
    assert latest is not None
    assert latest.full_name == "my_classifier:1.0.0"
    registry.transition_stage("my_classifier", "1.0.0", ModelStage.PRODUCTION)
    production = registry.get_production_model("my_classifier")
    assert production is not None
    assert production.full_name == "my_classifier:1.0.0"

    stored = ModelRegistry(store=FileModelStore("./model_artifacts"))
    stored.register(name="my_model", version="2.0.0", artifact=b"serialized_model_bytes")
    assert stored.load_artifact("my_model", "2.0.0") == b"serialized_model_bytes"


def test_document_002_moves_checks_compares_and_tells_what_happened() -> None:
    Path("model.safetensors").write_bytes(b"bytes")
    registry = InMemoryRegistry()
    registry.register_model("model", 1, {"accuracy": 0.95, "latency_p99_ms": 80.0}, "model.safetensors")
    registry.register_model("model", 2, {"accuracy": 0.97, "latency_p99_ms": 120.0}, "model.safetensors")
    registry.transition_stage("model", 1, ModelStage.STAGING)
    registry.transition_stage("model", 1, ModelStage.PRODUCTION)
    with pytest.raises(IllegalTransitionError, match="cannot move to staging"):
        registry.transition_stage("model", 1, ModelStage.STAGING)
    assert registry.get_version("model", 1).stage is ModelStage.PRODUCTION

    comparison = registry.compare_versions("model", 1, 2)
    assert (comparison.version_a, comparison.version_b) == ("v1", "v2")
    assert comparison.metric_diffs["latency_p99_ms"].percent_change == pytest.approx(50.0)

    policy = (
        PromotionPolicy()
        .require_metric(MetricRequirement("accuracy", comparison=Comparison.Gte, threshold=0.90))
        .require_metric(MetricRequirement("latency_p99_ms", comparison=Comparison.Lte, threshold=100.0))
    )
    assert registry.check_promotion_policy("model", 1, policy).passed
    refused = registry.check_promotion_policy("model", 2, policy)
    assert refused.failures == ("latency_p99_ms <= 100 is required, found 120",)

    assert [version.version for version in registry.get_by_stage(ModelStage.PRODUCTION)] == ["v1"]
    latest = registry.get_latest_in_stage("model", ModelStage.PRODUCTION)
    assert latest is not None
    assert dict(latest.metrics) == {"accuracy": 0.95, "latency_p99_ms": 80.0}
    moves = [(moved.from_stage, moved.to_stage) for moved in registry.get_transitions("model", 1)]
    assert moves == [("development", "staging"), ("staging", "production")]


def test_document_003_keeps_a_torch_model_and_prints_a_comparison() -> None:
    registry = ModelRegistry()
    for label in ("v1.0.0", "v1.1.0"):
        version = registry.register(
            model=torch.nn.Flatten(),
            name="sentiment_classifier",
            version=label,
            framework="pytorch",
            metrics={"accuracy": 0.95, "f1": 0.94},
            tags={"language": "en", "architecture": "bert"},
        )
        assert (version.name, version.version) == ("sentiment_classifier", label)
    registry.promote("sentiment_classifier", "v1.0.0", ModelStage.STAGING)
    registry.promote("sentiment_classifier", "v1.0.0", ModelStage.PRODUCTION)
    assert isinstance(registry.load("sentiment_classifier", version="v1.0.0"), torch.nn.Flatten)
    assert isinstance(registry.load("sentiment_classifier", stage=ModelStage.PRODUCTION), torch.nn.Flatten)
    assert "sentiment_classifier:v1.1.0" in str(registry.compare_versions("sentiment_classifier", ["v1.0.0", "v1.1.0"]))
