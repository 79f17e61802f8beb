"""Document 002: moves, comparisons, policies and history; written in Rust, run in its Python form."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry import InMemoryRegistry, ModelRegistry, ModelStage
from registry.errors import IllegalTransitionError

Blocks = Callable[[str, str], list[str]]
Execute = Callable[..., dict[str, Any]]
POLICY = """requirements:
  - {name: accuracy, comparison: gte, threshold: 0.90}
  - {name: latency_p99_ms, comparison: lte, threshold: 100.0}
"""


@pytest.fixture
def examples(blocks: Blocks) -> list[str]:
    found = blocks("002_in_python", "python")
    assert len(found) == 8
    return found


@pytest.fixture
def run(execute: Execute) -> Execute:
    """Return how an example is run; where its artifacts lie is the only thing that is changed."""
    Path("artifacts").mkdir()
    for name in ("model-v1.safetensors", "model-v2.safetensors"):
        Path("artifacts", name).write_bytes(b"bytes")

    def run(code: str, **given: Any) -> dict[str, Any]:
        given |= {"ModelStage": ModelStage, "sys": sys}
        return execute(code.replace('"/artifacts/', '"artifacts/'), given, packages={"registry": "registry"})

    return run


@pytest.fixture
def registry() -> ModelRegistry:
    """Return a registry with two versions of ``model``, the second of them slow."""
    registry = InMemoryRegistry()
    registry.register_model("model", 1, {"accuracy": 0.95, "latency_p99_ms": 80.0})
    registry.register_model("model", 2, {"accuracy": 0.97, "latency_p99_ms": 120.0})
    return registry


def test_the_python_form_says_what_the_document_says(blocks: Blocks, examples: list[str]) -> None:
    in_rust = blocks("002", "rust")
    assert len(in_rust) == len(examples)
    for rust, python in zip(in_rust, examples, strict=True):
        # What a caller sees, whatever the language: verbs and fields, literals, types, comments.
        for words in (
            r"\.([a-z_]\w{3,})\b(?!\()", r"(?:registry|PromotionPolicy::new\(\)\s*)\.(\w+)\(", r'"([\w./-]+)"',
            r"\b(\d+\.\d+)\b", r"\b(ModelStage|Comparison|MetricRequirement|PromotionPolicy|StageTransition)\b",
            r"// ([^\n→]+)$", r'println!\(\s*"(\w+)',
        ):  # fmt: skip
            in_document = re.findall(words, rust, re.MULTILINE)
            assert [word for word in in_document if word not in python] == []
    stages = [re.findall(r"ModelStage::(\w+)", rust) for rust in in_rust]
    in_python = [re.findall(r"ModelStage\.(\w+)", python) for python in examples]
    assert [[stage.upper() for stage in found] for found in stages] == in_python


def test_it_registers_and_moves_to_production(examples: list[str], run: Execute) -> None:
    registry = run(examples[0])["registry"]
    version = registry.get_version("sentiment-classifier", 1)
    assert (version.stage, dict(version.metrics)) == ("production", {"accuracy": 0.95, "f1_score": 0.93})
    assert registry.load_artifact("sentiment-classifier", 1) == b"bytes"
    run(examples[1])


def test_it_moves_forward_and_never_back(examples: list[str], run: Execute, registry: ModelRegistry) -> None:
    forward, _, _ = examples[2].partition("# Any stage")
    run(forward, registry=registry)
    with pytest.raises(IllegalTransitionError, match="cannot move to staging"):
        registry.transition_stage("model", 1, ModelStage.STAGING)
    assert registry.get_version("model", 1).stage is ModelStage.PRODUCTION
    registry.transition_stage("model", 1, ModelStage.ARCHIVED)
    registry.restore("model", 1)
    run(examples[2], registry=registry)
    assert registry.get_version("model", 1).stage is ModelStage.ARCHIVED


def test_it_compares_versions(
    examples: list[str], run: Execute, registry: ModelRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    run(examples[3], registry=registry)
    assert capsys.readouterr().out == ("Version v1 vs v2\n  accuracy: 2.11% change\n  latency_p99_ms: 50.00% change\n")


def test_it_promotes_what_meets_the_policy_and_says_why_the_rest_does_not(
    examples: list[str], run: Execute, registry: ModelRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    run(examples[4].replace('"model", 1', '"model", 2'), registry=registry)
    assert capsys.readouterr().err == "Policy violation: latency_p99_ms <= 100 is required, found 120\n"
    assert registry.get_version("model", 2).stage is ModelStage.DEVELOPMENT
    run(examples[4], registry=registry)
    assert registry.get_version("model", 1).stage is ModelStage.PRODUCTION


def test_it_asks_for_versions_by_number_and_by_stage(
    examples: list[str], run: Execute, registry: ModelRegistry
) -> None:
    registry.transition_stage("model", 1, ModelStage.PRODUCTION)
    found = run(examples[5], registry=registry)
    assert found["version"].version == "v1"
    assert [version.version for version in found["versions"]] == ["v1", "v2"]
    assert [version.full_name for version in found["production_models"]] == ["model:v1"]
    assert found["latest"] == found["version"]


def test_it_prints_the_details_and_the_history_of_a_version(
    examples: list[str], run: Execute, registry: ModelRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    version = run(examples[6], registry=registry)["version"]
    assert capsys.readouterr().out.splitlines() == [
        "Version: v1", "Stage: development", f"Created: {version.created_at}", f"Artifact: {version.artifact_path}",
        "  accuracy: 0.95", "  latency_p99_ms: 80.0",
    ]  # fmt: skip
    run(examples[2], registry=registry)
    first, second, third = run(examples[7], registry=registry)["transitions"]
    assert capsys.readouterr().out.splitlines() == [
        f"{first.timestamp}: development -> staging", f"{second.timestamp}: staging -> production",
        f"{third.timestamp}: production -> archived",
    ]  # fmt: skip


def test_its_commands_promote_in_ci_what_meets_the_policy(blocks: Blocks, shell: Callable[[str], str]) -> None:
    by_hand, in_ci = blocks("002_in_python", "bash")
    Path("model.safetensors").write_bytes(b"bytes")
    Path("policy.yaml").write_text(POLICY, encoding="utf-8")
    assert "no models in production" in shell(f"set -e\n{by_hand}")
    (workflow,) = blocks("002", "yaml")
    for name, value in {"model_name": "model", "version": "1"}.items():
        asked = f"${{{{ inputs.{name} }}}}"
        assert asked in workflow
        in_ci = in_ci.replace(asked, value)
    said = shell(f"set -e\n{in_ci}")
    assert "model:v1 meets the policy in policy.yaml" in said
    assert "model:v1 moved from staging to production" in said
    assert "model" in shell(by_hand.splitlines()[-1])
