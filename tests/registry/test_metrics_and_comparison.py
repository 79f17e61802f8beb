"""Metrics as callers give them and as they are read, how versions differ, and where a registry is found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from registry import InMemoryModelStore, ModelMetrics, ModelRegistry, RegistryConfig
from registry.compare import lower_is_better
from registry.config import configured_location, default_actor
from registry.encoding import canonical_json, parse_json, parse_record
from registry.errors import FormatError, InvalidInputError
from registry.progress import listen, track


def test_common_metrics_and_others_are_read_alike() -> None:
    metrics = ModelMetrics.of({"top5": 0.99, "accuracy": 0.9, "latency_ms": 3})

    assert metrics.accuracy == 0.9
    assert metrics.custom == {"top5": 0.99}
    assert list(metrics) == [("accuracy", 0.9), ("latency_ms", 3.0), ("top5", 0.99)]
    assert (metrics["top5"], metrics.get("mse"), metrics.get("mse", 1.0)) == (0.99, None, 1.0)
    assert "mse" not in metrics
    assert len(metrics) == 3
    assert not ModelMetrics()
    with pytest.raises(KeyError):
        metrics["mse"]


def test_a_metric_of_ones_own_is_not_lost_when_it_is_given_as_a_keyword() -> None:
    metrics = ModelMetrics(accuracy=0.9, top5=0.99, custom={"top3": 0.95})  # type: ignore[call-arg]

    assert metrics.as_dict() == {"accuracy": 0.9, "top5": 0.99, "top3": 0.95}
    assert ModelMetrics.model_validate_json(metrics.model_dump_json()) == metrics


def test_a_number_of_numpy_or_torch_is_a_number() -> None:
    metrics = ModelMetrics.of({"accuracy": np.float32(0.5), "mse": torch.tensor(0.25)})  # type: ignore[dict-item]

    assert metrics.as_dict() == {"accuracy": 0.5, "mse": 0.25}


def test_nan_is_kept_as_missing() -> None:
    assert ModelMetrics.of({"accuracy": math.nan, "top5": math.nan, "mse": 0.5}).as_dict() == {"mse": 0.5}
    assert ModelMetrics(accuracy=math.nan, custom={"top5": math.nan}).as_dict() == {}


@pytest.mark.parametrize("value", [math.inf, -math.inf, "0.9", True, None, [1.0], {"a": 1.0}])
def test_what_is_no_finite_number_is_no_metric(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"the metric 'accuracy' is .* and a metric is a"):
        ModelMetrics.of({"accuracy": value})


@pytest.mark.parametrize(
    ("metric", "lower"),
    [
        ("accuracy", False),
        ("mse", True),
        ("val_loss", True),
        ("latency_ms", True),
        ("size_bytes", True),
        ("gain", False),
    ],
)
def test_a_cost_is_known_by_its_name(metric: str, lower: bool) -> None:  # noqa: FBT001 - an expected value
    assert lower_is_better(metric) is lower


def test_two_versions_are_compared_metric_by_metric(models: ModelRegistry) -> None:
    models.register("digits", metrics={"accuracy": 0.8, "latency_ms": 4.0, "only_a": 1.0, "zero": 0.0})
    models.register("digits", metrics={"accuracy": 0.9, "latency_ms": 2.0, "only_b": 1.0, "zero": 0.5})

    diffs = models.compare_versions("digits", 1, "v2").metric_diffs

    assert diffs["accuracy"].percent_change == pytest.approx(12.5)
    assert diffs["accuracy"].improved is True
    assert diffs["latency_ms"].percent_change == pytest.approx(-50.0)
    assert diffs["latency_ms"].improved is True
    assert math.isnan(diffs["only_a"].percent_change)
    assert diffs["only_b"].difference is None
    assert [diffs[name].verdict for name in ("accuracy", "latency_ms", "only_b")] == ["better", "better", ""]
    assert diffs["zero"].percent_change == math.inf


def test_a_comparison_prints_as_a_table(models: ModelRegistry) -> None:
    for accuracy in (0.8, 0.9, 0.85):
        models.register("digits", metrics={"accuracy": accuracy})

    comparison = models.compare_versions("digits", [1, 2, "v3"])

    assert (comparison.version_a, comparison.version_b) == ("v1", "v3")
    lines = str(comparison).splitlines()
    assert [word in lines[1] for word in ("digits:v1", "digits:v2", "digits:v3", "change")] == [True] * 4
    assert any("accuracy" in line and "0.8" in line and "+6.25% better" in line for line in lines)


def test_a_comparison_needs_two_versions(models: ModelRegistry) -> None:
    models.register("digits")

    with pytest.raises(InvalidInputError, match=r"comparing needs two versions or more, found 1"):
        models.compare_versions("digits", 1)


def test_a_location_is_taken_from_the_environment_then_from_the_nearest_pyproject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "project" / "src"
    below.mkdir(parents=True)
    (tmp_path / "project" / "pyproject.toml").write_text('[tool.modelway]\nurl = "models"\n', encoding="utf-8")
    monkeypatch.chdir(below)

    assert configured_location() == str(tmp_path / "project" / "models")
    assert ModelRegistry().url == (tmp_path / "project" / "models").as_uri()
    monkeypatch.setenv("MODELWAY_URL", "memory://from-the-environment")
    assert configured_location() == "memory://from-the-environment"
    (tmp_path / "project" / "pyproject.toml").write_text('[project]\nname = "other"\n', encoding="utf-8")
    monkeypatch.delenv("MODELWAY_URL")
    assert configured_location() is None


def test_a_registry_is_opened_at_one_place_only(tmp_path: Path) -> None:
    assert ModelRegistry(RegistryConfig(url=str(tmp_path))).url == tmp_path.as_uri()
    with pytest.raises(InvalidInputError, match="either a location or a store, not both"):
        ModelRegistry(tmp_path, store=InMemoryModelStore())
    with pytest.raises(InvalidInputError, match="either a url or a bucket_name, not both"):
        ModelRegistry(RegistryConfig(url="models", bucket_name="models"))
    assert ModelRegistry(RegistryConfig(bucket_name="models")).url == "gs://models"
    assert list(tmp_path.iterdir()) == []


def test_who_acts_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "@" in default_actor()
    monkeypatch.setenv("MODELWAY_ACTOR", "grace@example.com")
    assert ModelRegistry(store=InMemoryModelStore()).register("digits").created_by == "grace@example.com"


def test_json_is_stored_in_one_way_and_read_strictly() -> None:
    assert canonical_json({"b": [1.5, None], "a": "ü"}) == '{"a":"ü","b":[1.5,null]}'.encode()
    assert parse_json(b'{"a": 1}', "here") == {"a": 1}
    with pytest.raises(ValueError, match="Out of range float"):
        canonical_json({"a": math.nan})
    for damaged in (b'{"a": 1, "a": 2}', b'{"a": NaN}', b"{", b"\xff"):
        with pytest.raises(FormatError, match="here is damaged"):
            parse_json(damaged, "here")
    with pytest.raises(FormatError, match="here has format 2, and this release reads up to 1: update modelway"):
        parse_record(ModelMetrics, b'{"format": 2}', "here")


def test_progress_goes_to_whoever_listens() -> None:
    seen: list[str] = []

    class Listener:
        def begin(self, title: str, total: int, unit: str) -> Any:
            seen.append(f"{title}: {total} {unit}")
            return (lambda amount: seen.append(str(amount))), (lambda: seen.append("end"))

    with track("silent", 1, "bytes") as advance:
        advance(1)
    with listen(Listener()), track("uploading", 7, "bytes") as advance:
        advance(3)
        advance(4)

    assert seen == ["uploading: 7 bytes", "3", "4", "end"]
