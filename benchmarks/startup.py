"""Measure what starting costs: CPU seconds of an empty Python, of `import registry`, of `modelway --help`."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table


class Start(NamedTuple):
    """A command whose start is measured, with the CPU seconds that it should stay under."""

    name: str
    command: tuple[str, ...]
    goal_s: float | None = None


PYTHON = sys.executable
STARTS = (
    Start("python -c pass", (PYTHON, "-c", "pass")),
    Start("import registry", (PYTHON, "-c", "import registry"), goal_s=0.15),
    Start("from registry import ModelRegistry", (PYTHON, "-c", "from registry import ModelRegistry")),
    Start("modelway --help", (str(Path(PYTHON).with_name("modelway")), "--help"), goal_s=0.4),
)


def cpu_s(command: tuple[str, ...]) -> float:
    """Run a command and return the CPU seconds, user and system, that it and its children took.

    Raises:
        CalledProcessError: The command failed; what it wrote to stderr has been shown.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def measure(starts: tuple[Start, ...], *, rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each start, ``rounds`` of them, taken in turn; a first round is thrown away."""
    samples_s: dict[str, list[float]] = {start.name: [] for start in starts}
    for taken in range(rounds + 1):
        for start in starts:
            seconds = cpu_s(start.command)
            if taken:  # the first round writes bytecode and fills the disk cache
                samples_s[start.name].append(seconds)
    return samples_s


def table_of(samples_s: dict[str, list[float]], *, rounds: int) -> Table:
    """Return the medians with their spread, what each start adds to an empty Python's, and the goals."""
    table = Table(title=f"CPU seconds to start ({rounds} rounds)")
    table.add_column("start")
    for heading in ("median", "min - max", "over pass", "goal"):
        table.add_column(heading, justify="right", no_wrap=True)
    empty_s = statistics.median(samples_s[STARTS[0].name])
    for start in STARTS:
        taken_s = samples_s[start.name]
        median_s = statistics.median(taken_s)
        goal = "" if start.goal_s is None else f"{start.goal_s:.2f} {'met' if median_s < start.goal_s else 'missed'}"
        spread = f"{min(taken_s):.3f} - {max(taken_s):.3f}"
        table.add_row(start.name, f"{median_s:.3f}", spread, f"{median_s - empty_s:.3f}", goal)
    return table


def main(rounds: Annotated[int, typer.Option(min=1, help="How often each start is measured.")] = 11) -> None:
    """Measure each start and print the table."""
    Console().print(table_of(measure(STARTS, rounds=rounds), rounds=rounds))


if __name__ == "__main__":
    typer.run(main)
