"""``python -m registry.testing``, which is ``make faults``: what it tells, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}", "COLUMNS": "120"}
    command = [sys.executable, "-m", "registry.testing", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.heavy
def test_it_shows_what_each_verb_withstood_and_ends_well() -> None:
    ran = run("--verb", "delete an alias", "--storms", "2", "--seeds", "20")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for words in ("a fault at every call", "SIGKILL at every call", "four clients", "delete an alias"):
        assert words in ran.stdout
    assert "0 violations in" in ran.stdout


@pytest.mark.heavy
def test_a_store_of_ones_own_that_breaks_the_contract_ends_with_1_and_its_violations() -> None:
    ran = run("contests", "--seeds", "10", "--store", "planted_bugs:overwriting_memory")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "violation seed" in ran.stdout
    assert "no order of these calls explains their answers" in ran.stdout


def test_a_part_that_there_is_not_is_refused_with_those_there_are() -> None:
    ran = run("storms")
    assert ran.returncode == 2
    assert "there is no part storms; there are: sweep, kills, contests" in ran.stderr
