"""The comparison runs from end to end, small and without peers, whose environments a test must not fetch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contestants import Numbers, Place, SideFailed
from benchmarks.registry import measure
from benchmarks.report import Outcome, lines_of, verdict
from benchmarks.sides.answering import Sizes
from benchmarks.trials import COUNT, MS, PER_S, WE, Entry, Goal, Row, Trial

ROOT = Path(__file__).parents[2]
PLACE = Place(Path(sys.executable), ROOT, {})


def compare(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program as its page says."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.registry", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.heavy
def test_a_quick_comparison_measures_every_row_of_ours_and_writes_what_it_prints(tmp_path: Path) -> None:
    page, numbers = tmp_path / "reports" / "comparison.md", tmp_path / "reports" / "comparison.json"
    ran = compare(
        *("--quick", "--peers", "none", "--cache", tmp_path / "cache"),
        *("--output", page, "--output", numbers),
    )
    assert ran.returncode == 0, ran.stderr

    rows = json.loads(numbers.read_text(encoding="utf-8"))["rows"]
    assert {row["what"]: row["failed"] for row in rows if row["failed"]} == {}
    assert [row["what"] for row in rows if len(row["samples"][WE]) != 1] == []
    assert len(rows) > 15
    titles = [row["what"] for row in rows]
    assert [title for title in titles if title not in page.read_text(encoding="utf-8")] == []
    assert [title for title in titles if title not in ran.stdout] == []
    assert list((tmp_path / "cache").glob("run-*")) == []


def test_an_unknown_peer_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    ran = compare("--peers", "mlfow", "--cache", tmp_path / "cache")
    assert ran.returncode == 2
    assert "mlfow" in ran.stderr
    assert "modelstore" in ran.stderr
    assert not (tmp_path / "cache").exists()


def outcome(ours: list[float], theirs: list[float], key: str = "wall_s") -> Outcome:
    """Return an outcome with one number for each round of ours and of a peer."""
    measured = {WE: [{key: value} for value in ours], "peer": [{key: value} for value in theirs]}
    return Outcome(Trial((), (entry(WE, Steady(0.0)), entry("peer", Steady(0.0)))), measured, {})


@pytest.mark.parametrize(
    ("row", "goal", "ours", "theirs", "met"),
    [
        (Row("time", MS), Goal("peer", 10), [1.0, 0.1, 0.2], [2.0, 2.0, 9.0], True),
        (Row("time", MS), Goal("peer", 10), [0.2], [1.99], False),
        (Row("rate", PER_S), Goal("peer", 5), [50.0], [10.0], True),
        (Row("rate", PER_S), Goal("peer", 5), [10.0], [50.0], False),
        (Row("time", MS), Goal("peer", 10), [0.2], [], None),
        (Row("count", COUNT), Goal(at_most=1), [1.0], [6.0], True),
        (Row("count", COUNT), Goal(at_most=1), [2.0], [6.0], False),
        (Row("count", COUNT), Goal(at_most=1), [], [6.0], None),
    ],
)
def test_a_goal_is_judged_by_the_medians(
    *, row: Row, goal: Goal, ours: list[float], theirs: list[float], met: bool | None
) -> None:
    assert verdict(outcome(ours, theirs), row, goal).met is met


class Steady:
    """Somebody who always takes the same time, and ends in the round after ``rounds``."""

    def __init__(self, wall_s: float, rounds: int = 100) -> None:
        """Begin with all rounds to come."""
        self.wall_s, self.left = wall_s, rounds

    def measure(self) -> Numbers:
        """Return that time."""
        if not self.left:
            raise SideFailed("the last line\nof what it said")
        self.left -= 1
        return {"wall_s": self.wall_s}


def entry(who: str, contestant: Steady) -> Entry:
    """Return an entry that is there already."""
    return Entry(who, "here", lambda _places, _sizes: contestant)


def test_a_side_that_fails_costs_the_others_nothing_and_is_told() -> None:
    row = Row("time", MS, (Goal("peer", 2),))
    trial = Trial((row,), (entry(WE, Steady(0.001)), entry("peer", Steady(0.004, rounds=2))))
    found = measure(trial, {"here": PLACE}, Sizes(), rounds=3)
    assert list(lines_of(found, row)) == [
        ("time", WE, "1 ms", "1 - 1", "", "", "2 x peer: not measured"),
        ("", "peer", "failed", "", "", "", "of what it said"),
    ]


def test_who_has_no_place_in_this_run_takes_no_part_in_it() -> None:
    trial = Trial((Row("time", MS),), (entry(WE, Steady(0.001)), Entry("peer", "elsewhere", entry("", Steady(0)).open)))
    found = measure(trial, {"here": PLACE}, Sizes(), rounds=2)
    assert {who: len(numbers) for who, numbers in found.measured.items()} == {WE: 2}
