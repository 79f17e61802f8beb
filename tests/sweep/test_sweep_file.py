"""A sweep file is checked whole before anything is trained: its pipeline, its grid against the trainer, its runner."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from registry.errors import InvalidInputError, InvalidPipelineError, MissingExtraError
from tasks.runners import Runner, task_runner
from tasks.sweep_file import load_sweep


def test_each_choice_of_the_grid_is_a_candidate_with_the_pipelines_other_parameters(folder: Path) -> None:
    (folder / "sweep.yaml").write_text(
        "pipeline: digits.yaml\ngrid:\n  width: [2, 3]\n  seed: [5, 6]\n", encoding="utf-8"
    )
    sweep = load_sweep("sweep.yaml")
    assert [one.varied for one in sweep.candidates] == [
        {"width": 2, "seed": 5}, {"width": 2, "seed": 6}, {"width": 3, "seed": 5}, {"width": 3, "seed": 6},
    ]  # fmt: skip
    assert sweep.candidates[3].parameters == {"epochs": 2, "width": 3, "seed": 6}
    assert (sweep.candidates[3].number, sweep.candidates[3].words) == (4, "width=3, seed=6")
    assert len({one.digest for one in sweep.candidates}) == 4
    assert (sweep.settings.runner, sweep.settings.workers, sweep.settings.threads_per_worker) == ("threads", 2, 1)


def test_what_is_given_stands_above_the_file() -> None:
    sweep = load_sweep("sweep.yaml", grid={"seed": [1]}, runner="ray", workers=None)
    assert [one.varied for one in sweep.candidates] == [{"seed": 1}]
    assert (sweep.settings.runner, sweep.settings.workers) == ("ray", 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "a sweep file is made of keys and values"),
        ("pipeline: digits.yaml\n", r"sweep.yaml:1.*grid"),
        ("pipeline: digits.yaml\ngrid: {}\n", r"sweep.yaml:2: grid"),
        ("pipeline: digits.yaml\ngrid:\n  seed: []\n", r"sweep.yaml:3: grid.seed.*nothing to choose from"),
        ("pipeline: digits.yaml\ngrid:\n  widht: [1]\n", r"sweep.yaml:3: grid.widht.*no parameter 'widht'.*width"),
        ("pipeline: digits.yaml\ngrid:\n  width:\n  - 1\n  - two\n", r"sweep.yaml:5: grid.width.1.*integer"),
        ("pipeline: digits.yaml\ngrid:\n  seed: [1, 2, 1]\n", r"sweep.yaml:3: grid.seed.2.*1 is there twice"),
        ("pipeline: digits.yaml\ngrid:\n  progress: [1]\n", "the function gets this from modelway itself"),
        ("pipeline: none.yaml\ngrid: {seed: [1]}\n", "none.yaml"),
        ("pipeline: digits.yaml\ngrid: {seed: [1]}\nrunner: spark\n", r"sweep.yaml:3: runner.*spark"),
        ("pipeline: digits.yaml\ngrid: {seed: [1]}\nworkers: 0\n", r"sweep.yaml:3: workers"),
    ],
)
def test_a_mistake_is_told_with_its_line(folder: Path, text: str, message: str) -> None:
    (folder / "sweep.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidPipelineError, match=message):
        load_sweep("sweep.yaml")


def test_the_sweep_of_the_repository_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert len(load_sweep("configs/sweep.yaml").candidates) == 4


@pytest.mark.parametrize(("kind", "made"), [("threads", ThreadPoolTaskRunner), ("processes", ProcessPoolTaskRunner)])
def test_a_runner_of_this_machine_takes_no_address(kind: Runner, made: type) -> None:
    assert isinstance(task_runner(kind, workers=1), made)
    with pytest.raises(InvalidInputError, match="take no address, found 'tcp://there:1'"):
        task_runner(kind, workers=1, address="tcp://there:1")


def test_a_runner_without_workers_or_unknown_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="found workers=0"):
        task_runner("threads", workers=0)
    unknown: Runner = "spark"  # type: ignore[assignment]
    with pytest.raises(InvalidInputError, match="no runner 'spark'; take one of: threads, processes, dask, ray"):
        task_runner(unknown, workers=1)


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_runner_that_is_not_installed_names_its_extra(kind: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"prefect_{kind}", None)
    with pytest.raises(MissingExtraError, match=rf"modelway\[{kind}\]"):
        task_runner(kind, workers=1)
