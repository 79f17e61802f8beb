"""Eight processes on one folder: nothing is lost, and nobody ever sees two versions in production."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry import ModelRegistry, ModelStage

if TYPE_CHECKING:
    from registry import StageTransition

PROCESSES = 8
PROMOTIONS = 500
CONTENDER = Path(__file__).with_name("contender.py")


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_eight_processes_that_promote_500_times_each_lose_nothing_and_never_show_two_in_production(
    tmp_path: Path,
) -> None:
    root, stop = tmp_path / "registry", tmp_path / "stop"
    watcher = _start("watch", str(root), str(stop))
    promoters = [_start("promote", str(root), f"process-{n}", str(PROMOTIONS)) for n in range(PROCESSES)]
    try:
        told = [process.communicate() for process in promoters]
        stop.touch()
        seen = json.loads(watcher.communicate(timeout=60)[0])
    finally:
        for process in (watcher, *promoters):
            process.kill()
            process.wait()

    assert [process.returncode for process in promoters] == [0] * PROCESSES, told
    assert seen["looks"] > 5
    assert seen["most_in_production"] == 1
    assert seen["went_backward"] == 0

    models = ModelRegistry(root)
    versions = models.list_versions("digits")
    assert [version.version for version in versions if version.stage == "production"] == [
        (models.get_production_model("digits") or versions[0]).version
    ]
    assert len({version.version for version in versions}) == PROCESSES * PROMOTIONS
    assert sorted(int(version.version[1:]) for version in versions) == list(range(1, PROCESSES * PROMOTIONS + 1))
    _every_promotion_is_there_and_takes_the_place_of_the_one_before(models.get_transitions("digits"))


def _every_promotion_is_there_and_takes_the_place_of_the_one_before(transitions: list[StageTransition]) -> None:
    promotions = [moved for moved in transitions if moved.to_stage is ModelStage.PRODUCTION]
    demotions = [moved for moved in transitions if moved.to_stage is ModelStage.ARCHIVED]
    assert Counter(moved.reason for moved in promotions) == Counter(
        f"process-{n} {number}" for n in range(PROCESSES) for number in range(PROMOTIONS)
    )
    assert [moved.version for moved in demotions] == [moved.version for moved in promotions[:-1]]
    assert [moved.number for moved in demotions] == [moved.number for moved in promotions[1:]]


def _start(*arguments: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, str(CONTENDER), *arguments],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
