"""A sweep trains candidates on Dask and on Ray, registers each once, and promotes the best that meets the policy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import settings
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings, temporary_settings
from prefect_house import PrefectHouse

from flows.sweep import candidates, sweep
from registry import ModelRegistry, ModelStage
from registry.errors import ModelwayError
from tasks.outcome import Outcome
from tasks.sweep_file import Tried, load_sweep

pytestmark = pytest.mark.heavy

PROGRAM = """
import json, sys
from flows.sweep import sweep
arguments, options = json.loads(sys.argv[1])
print("\\n" + sweep(*arguments, **options).model_dump_json())
"""


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server for the module's flows, with everything that it would keep elsewhere in a folder of its own."""
    quick = {settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with (
        PrefectHouse(tmp_path_factory.mktemp("prefect")) as house,
        house.settings(),
        temporary_settings(quick),
    ):
        yield


@pytest.fixture
def models(folder: Path) -> ModelRegistry:
    """The registry of the pipeline."""
    return ModelRegistry(folder / "models")


def swept(*arguments: Any, **options: Any) -> Outcome:
    """Run a sweep as a program of its own, which starts and ends Dask or Ray."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([arguments, options])],
        env={**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stderr
    return Outcome.model_validate_json(ended.stdout.splitlines()[-1])


def table() -> list[dict[str, Any]]:
    """Return the newest table in Prefect's UI."""
    with get_client(sync_client=True) as client:
        found = client.request(
            "POST", "/artifacts/filter", json={"artifacts": {"key": {"any_": ["sweep"]}}, "sort": "CREATED_DESC"}
        ).json()
    rows: list[dict[str, Any]] = json.loads(found[0]["data"])
    return rows


def test_on_dask_the_best_goes_to_staging_and_a_crash_is_told(models: ModelRegistry) -> None:
    grid = {"learning_rate": [0.0001, 0.02], "batch_size": [64, 0]}
    outcome = swept("sweep.yaml", grid=grid, runner="dask")
    first, second = models.list_versions("digits")
    best, other = (first, second) if first.version == outcome.version else (second, first)
    assert outcome.ending == "promoted"
    assert (best.parameters["learning_rate"], best.stage) == (0.02, ModelStage.STAGING)
    assert (other.parameters["learning_rate"], other.stage) == (0.0001, ModelStage.DEVELOPMENT)
    assert best.measured_on == other.measured_on
    assert best.measured_on
    rows = table()
    assert [(row["batch_size"], row["version"]) for row in rows[:1]] == [(64, best.version)]
    assert [row["policy"] for row in rows[2:]] == [
        "InvalidInputError: the digits cannot be trained with batch_size=0: it must be above 0."
    ] * 2
    (run,) = models.get_runs("digits")
    assert (run.kind, run.ending) == ("sweep", "promoted")
    # Gone again by whoever takes the run up, on another runner: nothing is trained or registered.
    plan = load_sweep("sweep.yaml", grid=grid)
    again = candidates(models.url, plan, run.id)
    assert {one.version.version for one in again if isinstance(one, Tried)} == {first.version, second.version}
    assert len(models.list_versions("digits")) == 2


def test_on_ray_a_worker_that_dies_registers_nothing_twice(models: ModelRegistry, folder: Path) -> None:
    (folder / "die").touch()
    outcome = swept("sweep.yaml", runner="ray")
    assert not (folder / "die").exists()
    assert outcome.ending == "promoted"
    assert sorted(version.parameters["learning_rate"] for version in models.list_versions("digits")) == [0.0001, 0.02]


def test_none_that_meets_the_policy_leaves_all_in_development(models: ModelRegistry, folder: Path) -> None:
    file = folder / "digits.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("threshold: 0.3", "threshold: 0.999"), encoding="utf-8")
    outcome = sweep("sweep.yaml")
    assert outcome.ending == "policy_failed"
    assert "it is the best of 2, and does not meet the policy" in outcome.words
    assert {version.stage for version in models.list_versions("digits")} == {ModelStage.DEVELOPMENT}


def test_a_sweep_without_a_candidate_left_is_an_error_that_says_why(models: ModelRegistry) -> None:
    with pytest.raises(ModelwayError, match=r"none of the 1 candidates of digits.*\n  - candidate 1 \(batch_size=0\)"):
        sweep("sweep.yaml", grid={"batch_size": [0]})
    (run,) = models.get_runs("digits")
    assert run.ending == "failed"
    assert models.list_models() == []
