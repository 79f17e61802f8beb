"""The engines are measured from end to end, few calls of the smallest network, and judged by what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from benchmarks.engine_report import Outcome, Row, cosine_of_differences
from benchmarks.engine_sides import COMPILED, EAGER, WE, Setting
from benchmarks.engines import main
from registry.engines.records import Parity

ROOT = Path(__file__).parents[2]


def compare(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program as its page says."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.engines", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.heavy
def test_a_quick_run_has_a_row_for_every_engine_and_for_what_is_chosen(tmp_path: Path) -> None:
    page, numbers = tmp_path / "engines.md", tmp_path / "engines.json"
    ran = compare("--quick", "--network", "digits", "--batch", "1,2", "--output", page, "--output", numbers)
    assert ran.returncode == 0, ran.stderr

    settings = json.loads(numbers.read_text(encoding="utf-8"))["settings"]
    assert [(one["network"], one["batch"], one["threads"]) for one in settings] == [("digits", 1, 1), ("digits", 2, 1)]
    for setting in settings:
        rows = {row["engine"]: row for row in setting["rows"]}
        assert {EAGER, COMPILED, "onnxruntime", "onnxruntime-int8", "openvino", "openvino-int8"} <= set(rows)
        assert {name: row["failed"] for name, row in rows.items() if row["failed"]} == {}
        assert [name for name, row in rows.items() if row["chosen"] and not name.startswith(WE)] == []
        assert any(row["chosen"] for row in rows.values())
        assert [name for name, row in rows.items() if len(row["p50_ms"]) != 1] == []
        assert [name for name in rows if name not in page.read_text(encoding="utf-8")] == []
        assert [name for name in rows if name not in ran.stdout] == []


@pytest.mark.parametrize("wanted", [{"network": "resnet51"}, {"batch": "one"}, {"threads": "0"}])
def test_what_is_not_there_is_refused_before_anything_is_measured(wanted: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=next(iter(wanted.values()))):
        main(**wanted, output=[tmp_path / "page.md"])  # type: ignore[arg-type]  # all of these are words
    assert not (tmp_path / "page.md").exists()


def row(who: str, *p50s: float, passed: bool = True, failed: str = "") -> Row:
    """Return a row with a p50 for each round."""
    parity = Parity(samples=1, max_abs=0.0, max_rel=0.0, cosine=1.0, passed=passed)
    rounds = [{"p50_ms": p50, "cpu_ms": p50} for p50 in p50s]
    return Row(who, chosen=who.startswith(WE), rounds=rounds, parity=parity, failed=failed)


@pytest.mark.parametrize(
    ("rows", "met"),
    [
        ([row(EAGER, 80.0, 90.0, 1.0), row("fast", 10.0), row(f"{WE} (fast)", 10.0)], [True, True]),
        ([row(EAGER, 79.0), row("fast", 10.0), row(f"{WE} (fast)", 10.0)], [False, True]),
        ([row(EAGER, 80.0), row("fast", 9.0), row(f"{WE} (slow)", 10.0)], [True, False]),
        ([row(EAGER, 80.0), row("fast", 9.0, passed=False), row(f"{WE} (slow)", 10.0)], [True, True]),
        ([row(EAGER, 80.0), row("fast", 10.0), row(f"{WE} (fast)", 10.0, passed=False)], [False, True]),
        ([row(EAGER, 80.0), row(f"{WE} (fast)", failed="it crashed")], [None, None]),
    ],
)
def test_a_goal_is_judged_by_the_medians_of_engines_within_the_bound(rows: list[Row], met: list[bool | None]) -> None:
    assert [found for _, found in Outcome(Setting("resnet50", 1, 1), rows, 1).verdicts()] == met


def test_a_row_that_failed_stands_in_the_table_with_its_reason_below() -> None:
    outcome = Outcome(Setting("digits", 8, 2), [row(EAGER, 1.0), row("tensorrt", failed="it crashed")], 10)
    assert [cells[:2] for cells in outcome.lines()] == [(EAGER, "1"), ("tensorrt", "failed")]
    assert "tensorrt: it crashed" in outcome.notes()


def test_what_all_answers_have_in_common_says_nothing_of_how_close_they_are() -> None:
    reference = np.array([[100.0, 1.0], [100.0, -1.0]])
    assert cosine_of_differences(reference, reference) == pytest.approx(1.0)
    assert cosine_of_differences(reference, reference * [1, -1]) == pytest.approx(-1.0)
