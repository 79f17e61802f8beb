"""Measure the registry beside named floors and peers, in one run, interleaved round by round."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.console import Console

from benchmarks.contestants import Contestant, Numbers, Place, SideFailed, closing_all
from benchmarks.places import FLOOR, OURS, PEERS, mlflow_server, place_of
from benchmarks.report import Outcome, tables_of, write
from benchmarks.sides.answering import Sizes
from benchmarks.trials import MLFLOW, SERVER, Trial, all_trials

QUICK = Sizes(versions=30, models=3, small_bytes=10_000, large_bytes=1 << 21, processes=2, cycles=2)

console = Console(stderr=True)


def measure(trial: Trial, places: Mapping[str, Place], sizes: Sizes, *, rounds: int) -> Outcome:
    """Return what was measured of everybody whose place is there, ``rounds`` times, in turn."""
    contestants: dict[str, Contestant] = {
        entry.who: entry.open(places, sizes) for entry in trial.entries if entry.place in places
    }
    measured: dict[str, list[Numbers]] = {who: [] for who in contestants}
    failed: dict[str, str] = {}
    with closing_all(contestants):
        for taken in range(rounds + trial.warm_up):
            # There and back: nobody is always measured in the wake of the same other.
            order = list(contestants) if taken % 2 else list(reversed(contestants))
            for who in order:
                if who in failed:
                    continue
                try:
                    numbers = contestants[who].measure()
                except SideFailed as failure:  # one side's trouble must not cost the others' results
                    failed[who] = str(failure)
                    continue
                if taken or not trial.warm_up:  # the first round fills caches
                    measured[who].append(numbers)
    return Outcome(trial, measured, failed)


@contextlib.contextmanager
def all_places(wanted: Sequence[str], cache: Path, sizes: Sizes) -> Iterator[dict[str, Place]]:
    """Give the places that are wanted, filled, and mlflow's server running, for as long as the context lasts."""
    # In the cache folder, not among temporary files: those may lie in memory, where fsync costs nothing.
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=cache) as name, contextlib.ExitStack() as servers:
        scratch = Path(name)
        piece = random.Random(0).randbytes(min(1 << 20, sizes.large_bytes))  # noqa: S311 - bytes that do not compress
        (scratch / "small.bin").write_bytes(piece[: sizes.small_bytes])
        with (scratch / "large.bin").open("wb") as large:
            large.writelines([piece] * (sizes.large_bytes // len(piece)))
        places: dict[str, Place] = {}
        for side in (OURS, FLOOR, *PEERS):
            if side in wanted:
                console.print(f"setting up {side} ...")
                try:
                    places[side] = place_of(side, cache, scratch, sizes)
                except (SideFailed, subprocess.CalledProcessError) as failure:
                    if side not in PEERS:
                        raise
                    console.print(f"{side} takes no part: {failure}", markup=False)
        if SERVER in wanted and MLFLOW in places:
            places[SERVER] = servers.enter_context(mlflow_server(places[MLFLOW]))
        yield places


def about(sides: Sequence[str], rounds: int) -> dict[str, str]:
    """Return what the numbers depend on."""
    return {
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {rounds} rounds",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f} at the start",
        "versions": ", ".join(
            [f"Python {platform.python_version()}", f"modelway {version('modelway')}", *(PEERS[side] for side in sides)]
        ),
    }


def _sides(peers: str) -> list[str]:
    wanted = {"all": list(PEERS), "none": []}.get(peers, peers.split(","))
    if unknown := [side for side in wanted if side not in PEERS]:
        raise typer.BadParameter(f"no peer {', '.join(unknown)}; there are: all, none, {', '.join(PEERS)}.")
    return wanted


def main(  # noqa: PLR0913 - the program's options
    *,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 5,
    peers: Annotated[str, typer.Option(help="all, none, or some of: mlflow,modelstore,bentoml.")] = "all",
    only: Annotated[str, typer.Option(help="Only the rows whose title holds these words.")] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes, one round: whether it runs, not how fast.")
    ] = False,
    output: Annotated[
        list[Path] | None, typer.Option(help="Write a report here too: JSON if the name ends in .json, else Markdown.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where the peers' environments and filled registries are kept.")
    ] = None,
) -> None:
    """Measure each row and print the table."""
    sizes, rounds = (QUICK, 1) if quick else (Sizes(), rounds)
    sides = _sides(peers)
    facts = about(sides, rounds)
    folder = cache or platformdirs.user_cache_path("modelway") / "benchmarks"
    outcomes = []
    chosen = [trial for trial in all_trials(sizes) if any(only in row.title for row in trial.rows)]
    wanted = {entry.place for trial in chosen for entry in trial.entries} & {OURS, FLOOR, SERVER, *sides}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left running
    with all_places(sorted(wanted), folder.absolute(), sizes) as places:
        for trial in chosen:
            started = time.monotonic()
            outcomes.append(measure(trial, places, sizes, rounds=max(1, round(rounds * trial.share))))
            console.print(f"{trial.rows[0].title}: measured in {time.monotonic() - started:.0f} s")
    Console().print(*tables_of(outcomes), sep="\n")
    for path in output or ():
        write(path, outcomes, facts)


if __name__ == "__main__":
    typer.run(main)
