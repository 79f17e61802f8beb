"""Measure the engines of three networks beside torch eager, and what modelway chooses, in one run, round by round."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.contestants import SideFailed
from benchmarks.engine_report import Outcome, Row, about, cosine_of_differences, table_of, write
from benchmarks.engine_sides import EAGER, EFFORTS, QUICK, Bench, Effort, Setting
from registry.engines.parity import compare_loosely
from registry.engines.spec import OptimizeSpec

BETWEEN_TURNS_S = 0.03
"""Threads that wait for more work spin on for a while after a call."""

console = Console(stderr=True)


def rows_of(bench: Bench, size: int) -> list[Row]:
    """Return a row for each who takes part at a batch size, those that failed too, ours last."""
    ours = {name: words for (_, at), (name, words) in bench.choices.items() if at == size}
    elsewhere = {name for name, _ in bench.choices.values()}
    alone = [name for name in (*bench.processes, *bench.failed) if name not in elsewhere]
    rows = [Row(name, chosen=name in ours, failed=bench.failed.get(name, "")) for name in (*alone, *ours)]
    reference, bound = bench.processes[EAGER].outputs, OptimizeSpec()
    for row in rows:
        if row.failed:
            continue
        found = bench.processes[row.who].outputs
        row.parity = compare_loosely(reference, found, min_cosine=bound.min_cosine, min_agreement=bound.min_agreement)
        row.differences = cosine_of_differences(reference, found)
        row.words = "; ".join(words for words in (ours.get(row.who, ""), bench.processes[row.who].words) if words)
    return rows


def measure(bench: Bench, rounds: Iterable[int]) -> list[Outcome]:
    """Time everybody at every batch size, in turn, round after round: a busy moment meets them all."""
    tables = {size: rows_of(bench, size) for size in bench.batches}
    for taken in rounds:
        for size, rows in tables.items():
            # There and back: nobody is always measured in the wake of the same other.
            for row in rows if taken % 2 else reversed(rows):
                if not row.failed:
                    _turn(bench, row, size)
    classes = len(np.unique(bench.processes[EAGER].outputs.argmax(axis=1)))
    return [Outcome(Setting(bench.network, size, bench.threads), rows, classes) for size, rows in tables.items()]


def _turn(bench: Bench, row: Row, size: int) -> None:
    time.sleep(BETWEEN_TURNS_S)
    try:
        row.rounds.append(bench.processes[row.who].measure(size, bench.effort.turn_s))
    except SideFailed as failure:  # one side's trouble must not cost the others' results
        row.failed = str(failure)


def run(name: str, threads: int, batches: tuple[int, ...], effort: Effort, *, aot: bool) -> list[Outcome]:
    """Open, measure and close one network's engines; nothing where there is no original to compare with."""
    console.print(f"{name}, threads: {threads}", highlight=False)
    with tempfile.TemporaryDirectory(prefix="engines-", ignore_cleanup_errors=True) as folder:
        bench = Bench(name, threads, batches, effort, Path(folder), lambda line: console.print(line, markup=False))
        try:
            bench.open_all(aot=aot)
            with Progress(console=console, transient=True) as progress:
                return measure(bench, progress.track(range(effort.rounds), description=f"measuring {name}"))
        except SideFailed as failure:
            console.print(f"{name} is left out: {failure}", markup=False)
            return []
        finally:
            bench.close()


def _numbers(given: str, what: str) -> tuple[int, ...]:
    try:
        found = tuple(int(word) for word in given.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise typer.BadParameter(f"{what} are numbers from 1 on, with commas between them; found {given!r}.")
    return found


def _networks(given: str) -> Sequence[str]:
    wanted = given.split(",")
    if unknown := [name for name in wanted if name not in EFFORTS]:
        raise typer.BadParameter(f"no network {', '.join(unknown)}; there are: {', '.join(EFFORTS)}.")
    return wanted


def main(  # noqa: PLR0913 - the program's options
    *,
    network: Annotated[str, typer.Option(help="Some of digits,resnet50,bert-base.")] = ",".join(EFFORTS),
    batch: Annotated[str, typer.Option(help="Batch sizes, with commas between them.")] = "1,8",
    threads: Annotated[str, typer.Option(help="Threads, with commas between them: a table for each.")] = "1",
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 5,
    aot: Annotated[bool, typer.Option("--aot", help="AOTInductor too; where there is a GPU, always.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few calls, one round: whether it runs, not how fast.")
    ] = False,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "--out", help="Write a report here too: JSON if the name ends in .json, else Markdown."
        ),
    ] = None,
) -> None:
    """Measure each network at each batch size and print a table for each."""
    networks, batches, all_threads = _networks(network), _numbers(batch, "batch sizes"), _numbers(threads, "threads")
    facts, begun = about(f"python -m benchmarks.engines {' '.join(sys.argv[1:])}".strip()), time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left running
    rounds = QUICK.rounds if quick else rounds
    outcomes: list[Outcome] = []
    for name, count in itertools.product(networks, all_threads):
        effort = QUICK if quick else replace(EFFORTS[name], rounds=rounds)
        found = run(name, count, batches, effort, aot=aot)
        Console(width=max(130, console.width)).print(*(table_of(outcome) for outcome in found), sep="\n")
        outcomes += found
        facts["took"] = f"{time.monotonic() - begun:.0f} s, {rounds} rounds, load {os.getloadavg()[0]:.1f} at the end"
        for path in output or ():  # after each network: what was measured is not lost with what comes after it
            write(path, outcomes, facts)


if __name__ == "__main__":
    typer.run(main)
