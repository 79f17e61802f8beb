"""What was measured of engines: as tables for people, as Markdown for a page, as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from benchmarks.contestants import Numbers
from benchmarks.engine_sides import EAGER, WE, Setting
from registry.engines.judgement import describe_machine
from registry.engines.records import Parity

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADINGS = ("engine", "p50 ms", "min - max", "CPU ms", "x eager", "cosine", "differences", "same class", "in bound")
GOALS = {("resnet50", 1): 8.0, ("bert-base", 1): 5.0}
"""How many times as fast as torch eager our choice is to be, by network and batch size."""

AT_MOST = 1.05
"""How many times the latency of the best single engine ours may be."""

INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8", "asimddp", "i8mm")
PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")


@dataclass
class Row:
    """One engine at one setting: a p50 and the CPU time of a call, milliseconds, for each round; or why there is none.

    ``parity`` compares all its answers with those of torch eager, ``differences`` does so after the mean answer was
    taken from each; ``chosen`` marks what modelway chose.
    """

    who: str
    chosen: bool = False
    rounds: list[Numbers] = field(default_factory=list)
    parity: Parity | None = None
    differences: float | None = None
    words: str = ""
    failed: str = ""

    @property
    def p50_ms(self) -> float | None:
        """The median over the rounds; None where it did not come to the end."""
        return None if self.failed or not self.rounds else statistics.median(self.samples("p50_ms"))

    def samples(self, key: str) -> list[float]:
        """Return one number of each round."""
        return [numbers[key] for numbers in self.rounds]


@dataclass
class Outcome:
    """One setting with all its rows; ``classes`` are how many different ones the original's answers have."""

    setting: Setting
    rows: list[Row]
    classes: int

    def row(self, who: str) -> Row | None:
        """Return a row by its beginning, which is all of the name but the engine that was chosen."""
        return next((row for row in self.rows if row.who == who or row.who.startswith(f"{who} (")), None)

    def times_eager(self, row: Row) -> float | None:
        """Return how many times as fast as torch eager a row is."""
        eager = self.row(EAGER)
        if eager is None or eager.p50_ms is None or row.p50_ms is None:
            return None
        return eager.p50_ms / row.p50_ms

    def best(self) -> Row | None:
        """Return the fastest row within the bound that is none of our choices."""
        fit = [row for row in self.rows if not row.chosen and row.p50_ms and row.parity and row.parity.passed]
        return min(fit, key=lambda row: row.p50_ms or 0.0, default=None)

    def verdicts(self) -> Iterator[tuple[str, bool | None]]:
        """Yield each goal in words with what came of it; None where something was not measured."""
        ours, best = self.row(WE), self.best()
        times = None if ours is None else self.times_eager(ours)
        if (goal := GOALS.get((self.setting.network, self.setting.batch))) is not None:
            met = None if times is None else times >= goal and bool(ours and ours.parity and ours.parity.passed)
            yield f"at least {goal:g} x {EAGER} ({_shown(times)} x)", met
        if ours is None or ours.p50_ms is None or best is None or best.p50_ms is None:
            yield f"at most {AT_MOST:g} x the best single engine", None
            return
        ratio = ours.p50_ms / best.p50_ms
        yield f"at most {AT_MOST:g} x the best single engine ({ratio:.2f} x {best.who})", ratio <= AT_MOST

    def notes(self) -> list[str]:
        """Return what has to be known of the table."""
        came = {None: "not measured", True: "met", False: "missed"}
        goals = [f"{goal}: {came[met]}" for goal, met in self.verdicts()]
        said = [f"{row.who}: {words}" for row in self.rows if (words := row.failed or row.words)]
        return [*goals, f"{EAGER} gives {self.classes} different classes for the samples", *said]

    def lines(self) -> Iterator[tuple[str, ...]]:
        """Yield the cells of each row, under ``HEADINGS``."""
        for row in self.rows:
            if row.p50_ms is None:
                yield (row.who, "failed", *[""] * (len(HEADINGS) - 2))
                continue
            p50s, parity, times = row.samples("p50_ms"), row.parity, self.times_eager(row)
            yield (
                row.who,
                _shown(row.p50_ms),
                f"{_shown(min(p50s))} - {_shown(max(p50s))}",
                _shown(statistics.median(row.samples("cpu_ms"))),
                _shown(times),
                "" if parity is None or parity.cosine is None else f"{parity.cosine:.4f}",
                "" if row.differences is None else f"{row.differences:.3f}",
                "" if parity is None or parity.top1_agreement is None else f"{parity.top1_agreement:.3f}",
                "" if parity is None else "yes" if parity.passed else "no",
            )


def _shown(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - 3 digits


def cosine_of_differences(reference: NDArray[Any], found: NDArray[Any]) -> float:
    """Return the cosine of what tells the samples apart, of the median sample: -1 to 1, NaN where nothing does.

    A network with random weights answers nearly the same to everything, and the cosine of whole answers says little.

    Args:
        reference: The original's answers, shape (n, k).
        found: Another's, of the same shape.
    """
    mean = reference.mean(axis=0)
    one, other = reference - mean, found - mean
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.median((one * other).sum(axis=1) / lengths))


def about(command: str) -> dict[str, str]:
    """Return what the numbers depend on, as it is now."""
    machine, versions = describe_machine(), []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return {
        "command": command,
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load {os.getloadavg()[0]:.1f} at the start",
        "machine": f"{machine.processor}, {machine.cores} cores, {machine.memory_bytes / (1 << 30):.0f} GiB, "
        f"{platform.system()} {machine.arch}, {machine.gpu or 'no GPU'}",
        "instructions": ", ".join(_instructions()) or "unknown",
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
    }


def _instructions() -> list[str]:
    """Return those of the processor's instruction sets that make int8 and bf16 fast."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    flags = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [name for name in INSTRUCTIONS if name in flags]


def table_of(outcome: Outcome) -> Table:
    """Return the table of one setting, its goals below it."""
    below = "\n".join(outcome.notes())
    table = Table(title=str(outcome.setting), title_justify="left", caption=below, caption_justify="left", box=SIMPLE)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "engine" else "right", no_wrap=True)
    for cells in outcome.lines():
        table.add_row(*cells)
    return table


def markdown_of(outcomes: Sequence[Outcome], facts: Mapping[str, str]) -> str:
    """Return the tables and what they were measured with, as Markdown."""
    lines = ["# Engines", "", *(f"- {what}: {value}" for what, value in facts.items())]
    for outcome in outcomes:
        lines += ["", f"## {outcome.setting}", "", _line(HEADINGS), _line(["---"] * len(HEADINGS))]
        lines += [_line([cell.replace("|", "/") for cell in cells]) for cells in outcome.lines()]
        lines += ["", *(f"- {note}" for note in outcome.notes())]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def json_of(outcomes: Sequence[Outcome], facts: Mapping[str, str]) -> str:
    """Return everything that was measured, each round of it, with the goals; times are milliseconds."""
    found = [
        {
            "network": outcome.setting.network,
            "batch": outcome.setting.batch,
            "threads": outcome.setting.threads,
            "classes": outcome.classes,
            "goals": [{"goal": words, "met": met} for words, met in outcome.verdicts()],
            "rows": [
                {
                    "engine": row.who,
                    "chosen": row.chosen,
                    "p50_ms": row.samples("p50_ms"),
                    "cpu_ms": row.samples("cpu_ms"),
                    "x_eager": outcome.times_eager(row),
                    "differences": row.differences,
                    "parity": None if row.parity is None else row.parity.model_dump(mode="json"),
                    "words": row.words,
                    "failed": row.failed,
                }
                for row in outcome.rows
            ],
        }
        for outcome in outcomes
    ]
    return json.dumps({"about": dict(facts), "settings": found}, indent=2) + "\n"


def write(path: Path, outcomes: Sequence[Outcome], facts: Mapping[str, str]) -> None:
    """Write a report: JSON to a name that ends in ``.json``, else Markdown."""
    text = json_of(outcomes, facts) if path.suffix == ".json" else markdown_of(outcomes, facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
