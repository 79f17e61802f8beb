"""Measure our endpoint beside KServe's and MLServer's servers, the real Triton and an empty uvicorn, interleaved."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.console import Console

from benchmarks.contestants import ROOT, Contestant, Place, SideFailed
from benchmarks.registry import measure
from benchmarks.report import Outcome, tables_of, write
from benchmarks.serving_servers import (
    KSERVE,
    MLSERVER,
    PEERS,
    TRITON,
    Address,
    Question,
    Served,
    check_answer,
    ours,
    side,
    triton,
    write_network,
)
from benchmarks.sides.answering import Sizes
from benchmarks.trials import CPU, MB, MS, PER_S, WE, Entry, Goal, Row, Trial, Unit

FLOOR = "floor"
ALONE = f"{WE}, one by one"
WAITING = f"{WE}, waits 1 ms"
WAYS: dict[str, dict[str, float]] = {WE: {}, ALONE: {"max_batch": 1}, WAITING: {"max_delay_ms": 1.0}}
"""Our endpoint as it comes (what is there together is answered together), without batches, and with a wait for them."""

US, ERRORS = Unit(" us", 1e6), Unit(" errors")

console = Console(stderr=True)


def all_trials(addresses: Mapping[str, Address], *, seconds: float) -> tuple[Trial, ...]:
    """Return what is asked, of those who are there and speak that form."""
    everybody = list(addresses)
    no_mlserver = [who for who in everybody if who != MLSERVER]
    two = [who for who in everybody if who not in {ALONE, WAITING}]
    services = [who for who in two if addresses[who].grpc is not None]
    asked = (
        (Question("binary", 8), no_mlserver, "MLServer takes no binary tensors over HTTP"),
        (Question("binary", 1), no_mlserver, "MLServer takes no binary tensors over HTTP"),
        (Question("json", 8), two, "the floor answers with as many bytes as for a binary request"),
        (Question("grpc", 1), services, "by one caller in Python, grpcio's"),
    )
    return tuple(_trial(question, who, addresses, note, seconds) for question, who, note in asked)


def _trial(
    question: Question, names: Sequence[str], addresses: Mapping[str, Address], note: str, seconds: float
) -> Trial:
    connections = f"{question.connections} connection{'s' if question.connections > 1 else ''}"
    title = f"{question.form}, {connections}"
    goals = (Goal(KSERVE, 2),) if question.form == "binary" and question.connections > 1 else ()
    cpu_goals = (Goal(TRITON, 0.5),) if goals else ()
    rows = [
        Row(f"{title}: requests", PER_S, goals, note, key="per_s"),
        Row(f"{title}: p50", MS, key="p50_s"),
        Row(f"{title}: p99", MS, key="p99_s"),
        Row(f"{title}: server's CPU for a request", US, cpu_goals, key=CPU),
        Row(f"{title}: requests that failed", ERRORS, (Goal(at_most=0),), key="errors"),
    ]
    if goals:
        rows.append(Row("memory after it", MB, note="shared pages are divided among their users", key="memory_bytes"))

    entries = tuple(
        Entry(who, who, partial(_running, Served(addresses[who], question, seconds=seconds))) for who in names
    )
    return Trial(tuple(rows), entries)


def _running(served: Served, _places: Mapping[str, Place], _sizes: Sizes) -> Contestant:
    """Return a contestant that runs already, whatever places there are."""
    return served


@contextlib.contextmanager
def all_servers(peers: Sequence[str], cache: Path) -> Iterator[dict[str, Address]]:
    """Give all servers running, each checked for right answers; a peer that does not start is left out."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="serving-") as name, contextlib.ExitStack() as running:
        scratch = Path(name)
        file = scratch / "model.onnx"
        write_network(file)
        addresses: dict[str, Address] = {}
        for who in (FLOOR, *WAYS, *peers):
            console.print(f"starting {who} ...")
            folder = scratch / who.replace(" ", "-").replace(",", "")
            try:
                addresses[who] = running.enter_context(_server(who, file, cache, folder))
                if who != FLOOR:
                    check_answer(addresses[who], "json" if who == MLSERVER else "binary", file)
            except SideFailed as failure:
                if who not in PEERS:
                    raise
                addresses.pop(who, None)
                console.print(f"{who} takes no part: {failure}", markup=False)
        yield addresses


def _server(who: str, file: Path, cache: Path, folder: Path) -> contextlib.AbstractContextManager[Address]:
    if who in WAYS:
        return ours(file, folder, **WAYS[who])
    return triton(file, folder) if who == TRITON else side(who, file, cache, folder)


def about(peers: Sequence[str], rounds: int, seconds: float) -> dict[str, str]:
    """Return what the numbers depend on."""
    load = os.getloadavg()[0]
    return {
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {rounds} rounds of {seconds:g} s for each",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, load {load:.1f} at the start",
        "network": "multilayer perceptron, 64 -> 256 -> 10, float32, one thread, one sample in a request",
        "versions": ", ".join(
            [
                f"Python {platform.python_version()}",
                f"modelway {version('modelway')}",
                f"onnxruntime {version('onnxruntime')}",
                f"uvicorn {version('uvicorn')}",
                *(PEERS[peer] for peer in peers),
            ]
        ),
    }


def _caller(outcomes: Sequence[Outcome]) -> str:
    """Return in words what the caller itself took, so that nobody needs to believe that it was quick enough."""
    busiest = [
        (statistics.median(outcome.samples(entry.who, "client_cpu_s")), entry.who)
        for outcome in outcomes
        if not outcome.trial.rows[0].title.startswith("grpc")
        for entry in outcome.trial.entries
        if outcome.samples(entry.who, "client_cpu_s")
    ]
    least, most = min(busiest)[0], max(busiest)[0]
    return f"one process of its own, {1e6 * least:.0f} to {1e6 * most:.0f} us of CPU for a request over HTTP"


def _peers(wanted: str) -> list[str]:
    chosen = {"all": list(PEERS), "none": []}.get(wanted, wanted.split(","))
    if unknown := [peer for peer in chosen if peer not in PEERS]:
        raise typer.BadParameter(f"no peer {', '.join(unknown)}; there are: all, none, {', '.join(PEERS)}.")
    return chosen


def main(  # noqa: PLR0913 - the program's options
    *,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.05, help="How long each is asked in a round.")] = 3.0,
    peers: Annotated[str, typer.Option(help=f"all, none, or some of: {','.join(PEERS)}.")] = "all",
    only: Annotated[str, typer.Option(help="Only the trials whose rows' titles hold these words.")] = "",
    output: Annotated[
        list[Path] | None, typer.Option(help="Write a report here too: JSON if the name ends in .json, else Markdown.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Where the peers' environments are kept.")] = None,
) -> None:
    """Measure each trial and print its tables."""
    chosen = _peers(peers)
    facts = about(chosen, rounds, seconds)
    folder = cache or platformdirs.user_cache_path("modelway") / "benchmarks"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left running
    outcomes = []
    with all_servers(chosen, folder.absolute()) as addresses:
        trials = [
            trial for trial in all_trials(addresses, seconds=seconds) if any(only in row.title for row in trial.rows)
        ]
        places = dict.fromkeys(addresses, Place(Path(sys.executable), ROOT, {}))
        for trial in trials:
            started = time.monotonic()
            outcomes.append(measure(trial, places, Sizes(), rounds=rounds))
            console.print(f"{trial.rows[0].title}: measured in {time.monotonic() - started:.0f} s")
    if any(outcome.measured for outcome in outcomes):
        facts["caller"] = _caller(outcomes)
    Console().print(*tables_of(outcomes), sep="\n")
    for path in output or ():
        write(path, outcomes, facts)


if __name__ == "__main__":
    typer.run(main)
