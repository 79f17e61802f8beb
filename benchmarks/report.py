"""What was measured, as a table for people, as Markdown for a page, as JSON for programs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.table import Table

from benchmarks.contestants import Numbers
from benchmarks.trials import CPU, WALL, WE, Goal, Row, Trial

HEADINGS = ("what", "who", "median", "min - max", "CPU", "ours is", "goal")


@dataclass(frozen=True)
class Outcome:
    """A trial with what was measured of each who took part, and why others could not be."""

    trial: Trial
    measured: Mapping[str, Sequence[Numbers]]
    failed: Mapping[str, str]

    def samples(self, who: str, key: str) -> list[float]:
        """Return one number of each round; none where somebody did not come to the end or does not count it."""
        if who in self.failed:
            return []
        return [numbers[key] for numbers in self.measured.get(who, ()) if key in numbers]


@dataclass(frozen=True)
class Verdict:
    """What came of a goal; ``met`` is None where something was not measured."""

    words: str
    met: bool | None

    def __str__(self) -> str:
        """Return it as it stands in a table."""
        return f"{self.words}: {'not measured' if self.met is None else 'met' if self.met else 'missed'}"


def verdict(outcome: Outcome, row: Row, goal: Goal) -> Verdict:
    """Return whether a goal was met, by the medians."""
    key = goal.key or row.key
    kind = "CPU " if key == CPU else ""
    ours = outcome.samples(WE, key)
    if goal.against is None:
        words = f"{kind}at most {_show(row, goal.at_most)}"
        return Verdict(words, statistics.median(ours) <= goal.at_most if ours else None)
    ratio = times_as_good(outcome, row, goal.against, key)
    return Verdict(f"{kind}{goal.times:g} x {goal.against}", None if ratio is None else ratio >= goal.times)


def times_as_good(outcome: Outcome, row: Row, other: str, key: str) -> float | None:
    """Return how many times as good ours is as another, by the medians; None where one of them was not measured."""
    ours, others = outcome.samples(WE, key), outcome.samples(other, key)
    if not ours or not others:
        return None
    mine, theirs = statistics.median(ours), statistics.median(others)
    good, base = (mine, theirs) if row.unit.more_is_better else (theirs, mine)
    return good / base if base else None


def lines_of(outcome: Outcome, row: Row) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each who took part, under ``HEADINGS``."""
    title = row.title
    for who in [entry.who for entry in outcome.trial.entries]:
        if who in outcome.failed:
            yield title, who, "failed", "", "", "", outcome.failed[who].splitlines()[-1]
        elif samples := outcome.samples(who, row.key):
            ratio = None if who == WE else times_as_good(outcome, row, who, row.key)
            goals = [str(verdict(outcome, row, goal)) for goal in row.goals] if who == WE else []
            cpu_s = outcome.samples(who, CPU)
            yield (
                title,
                who,
                _show(row, statistics.median(samples)),
                f"{_show(row, min(samples), bare=True)} - {_show(row, max(samples), bare=True)}",
                _show(row, statistics.median(cpu_s)) if row.key == WALL and cpu_s else "",
                "" if ratio is None else f"{ratio:.3g} x",
                "; ".join(goals),
            )
        else:
            continue
        title = ""


def _show(row: Row, value: float, *, bare: bool = False) -> str:
    scaled = value * row.unit.factor
    digits = f"{scaled:.0f}" if scaled >= 100 or row.unit.name == "" else f"{scaled:.3g}"  # noqa: PLR2004 - 3 digits
    return digits if bare else digits + row.unit.name


def tables_of(outcomes: Sequence[Outcome]) -> Iterator[Table]:
    """Yield a table for each row, its goals and what has to be known of it below."""
    for outcome in outcomes:
        for row in outcome.trial.rows:
            goals = [str(verdict(outcome, row, goal)) for goal in row.goals]
            below = "\n".join(words for words in ("; ".join(goals), row.note) if words)
            table = Table(title=row.title, title_justify="left", caption=below, caption_justify="left", box=SIMPLE)
            for heading in HEADINGS[1:-1]:
                table.add_column(heading, justify="left" if heading == "who" else "right", no_wrap=heading != "who")
            for _, *cells, _ in lines_of(outcome, row):
                table.add_row(*cells)
            yield table


def markdown_of(outcomes: Sequence[Outcome], about: Mapping[str, str]) -> str:
    """Return the table and what it was measured with, as Markdown."""
    notes = [(row.title, row.note) for outcome in outcomes for row in outcome.trial.rows if row.note]
    lines = [f"- {what}: {value}" for what, value in about.items()]
    lines += ["", _line(HEADINGS), _line(["---"] * len(HEADINGS))]
    lines += [_line(cells) for outcome in outcomes for row in outcome.trial.rows for cells in lines_of(outcome, row)]
    lines += ["", *(f"- {title}: {note}." for title, note in notes)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def json_of(outcomes: Sequence[Outcome], about: Mapping[str, str]) -> str:
    """Return everything that was measured, each round of it, with the goals; numbers are seconds, bytes, counts."""
    rows = [
        {
            "what": row.title,
            "number": row.key,
            "note": row.note,
            "samples": {entry.who: outcome.samples(entry.who, row.key) for entry in outcome.trial.entries},
            "cpu_s": {entry.who: outcome.samples(entry.who, CPU) for entry in outcome.trial.entries},
            "failed": dict(outcome.failed),
            "goals": [
                {"goal": found.words, "met": found.met} for found in (verdict(outcome, row, goal) for goal in row.goals)
            ],
        }
        for outcome in outcomes
        for row in outcome.trial.rows
    ]
    return json.dumps({"about": dict(about), "rows": rows}, indent=2) + "\n"


def write(path: Path, outcomes: Sequence[Outcome], about: Mapping[str, str]) -> None:
    """Write a report: JSON to a name that ends in ``.json``, else Markdown."""
    text = json_of(outcomes, about) if path.suffix == ".json" else markdown_of(outcomes, about)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
