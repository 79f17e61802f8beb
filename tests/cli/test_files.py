"""Policies and specs from YAML files, alone or as a section of a pipeline file."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry import Comparison, IncumbentRule, MetricRequirement, OptimizeSpec, PromotionPolicy
from registry.errors import InvalidInputError
from registry.yaml_files.record import read_record

ALONE = """
requirements:
  - {name: accuracy, threshold: 0.96}
  - name: latency_ms
    comparison: lt
    threshold: 5
against_incumbent:
  - {metric: accuracy, may_drop: 0.005}
"""
POLICY = PromotionPolicy(
    requirements=(
        MetricRequirement("accuracy", threshold=0.96),
        MetricRequirement("latency_ms", comparison=Comparison.LT, threshold=5.0),
    ),
    against_incumbent=(IncumbentRule(metric="accuracy", may_drop=0.005),),
)


def written(folder: Path, text: str) -> Path:
    """Return a file with this text."""
    path = folder / "given.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_policy_is_read_from_a_file_of_its_own_or_from_a_pipeline_file(tmp_path: Path) -> None:
    assert read_record(written(tmp_path, ALONE), "policy", PromotionPolicy) == POLICY
    section = "name: digits\npolicy:" + ALONE.replace("\n", "\n  ")
    assert read_record(written(tmp_path, section), "policy", PromotionPolicy) == POLICY


def test_a_spec_is_read_too(tmp_path: Path) -> None:
    file = written(tmp_path, "optimize:\n  engines: [onnxruntime]\n  batch_sizes: [1, 8]\n")
    assert read_record(file, "optimize", OptimizeSpec) == OptimizeSpec(engines=("onnxruntime",), batch_sizes=(1, 8))


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("requirements:\n  - {name: accuracy}\n", ":2: requirements.0.threshold: this key is missing"),
        ("policy:\n  requirements:\n    - name: a\n      threshold: 'high'\n", ":4: policy.requirements.0.threshold: "),
        ("requirements: []\nrequirement: []\n", ":2: requirement: "),
        ("requirements: [{name: a, threshold: .nan}]\n", ":1: requirements.0.threshold: "),
        ("requirements: [{name: a, threshold: 2026-01-01}]\n", ":1: requirements.0.threshold: "),
        ("requirements: []\nrequirements: []\n", ":2: found duplicate key"),
        ("requirements: [\n", ": is not YAML: "),
        ("name: digits\n", " holds no policy: give a pipeline file with the key 'policy', or a file with some of: "),
        ("", " holds no policy"),
        ("- a\n", " holds no policy"),
        ("\x07", " is not YAML that can be read"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, mistake: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(InvalidInputError) as refused:
        read_record(file, "policy", PromotionPolicy)
    assert str(refused.value).startswith(str(file))
    assert mistake in str(refused.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="No such file or directory"):
        read_record(tmp_path / "nowhere.yaml", "policy", PromotionPolicy)
    (tmp_path / "given.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InvalidInputError, match="is not YAML that can be read"):
        read_record(tmp_path / "given.yaml", "policy", PromotionPolicy)
