"""Retraining asks only for what is better than production by the margin, measured on the same data."""

from __future__ import annotations

from pathlib import Path

import pytest
from little_pipeline import write_pipeline
from prefect_house import PrefectHouse

from flows.retraining import retraining
from registry import ModelRegistry

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


def test_only_a_better_model_asks_and_the_reason_is_kept(
    house: PrefectHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    registry = ModelRegistry(tmp_path / "registry")
    worse = write_pipeline(tmp_path, tmp_path / "registry", shift=0.5, endpoint="points")
    with house.settings():
        first = retraining(worse, reason="first", ask_at_most=0)
        assert first.ending == "approval_pending", "nothing is in production: whatever meets the policy is better"
        registry.promote("points", 1, "production", approved_by="ann@example.com")
        same = retraining(worse, reason="nightly", ask_at_most=0)
        better = retraining(
            write_pipeline(tmp_path, tmp_path / "registry", shift=0.0, endpoint="points"), ask_at_most=0
        )

    assert same.ending == "not_better"
    assert "accuracy 0.75 is behind the incumbent" in same.words
    assert better.ending == "approval_pending"
    assert {one.version: one.stage.value for one in registry.list_versions("points")} == {
        "v1": "production",
        "v2": "development",
        "v3": "staging",
    }
    runs = registry.get_runs("points")
    assert [(run.ending, run.reason) for run in runs] == [
        ("approval_pending", "first"),
        ("not_better", "nightly"),
        ("approval_pending", ""),
    ]
    assert "not better than what is in production" in runs[1].words
    measured = [registry.get_version("points", version).measured_on["accuracy"] for version in (1, 2, 3)]
    assert len(set(measured)) == 1, "all on the same data"
