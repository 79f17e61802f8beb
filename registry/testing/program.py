"""Disturb the registry in every way that the harnesses know, and tell what came of it; ends with 1 if anything did.

``python -m registry.testing`` sweeps, kills and plays contests; ``--help`` tells how to do less, or more, of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pkgutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from registry.store import ModelStore
from registry.testing.contest import play
from registry.testing.kills import kill
from registry.testing.sweep import Ground, Swept, sweep
from registry.testing.verbs import VERBS, Verb

_PARTS = ["sweep", "kills", "contests"]
_SEEDS_AT_ONCE = 100
_SHOWN = 20

_Submit = Callable[[ProcessPoolExecutor], "list[Future[Swept]]"]


@dataclass(frozen=True)
class _Part:
    """One harness: its title, what its cases are called, and how its work is handed to processes."""

    title: str
    counted: str
    submit: _Submit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and return its exit code."""
    asked = _parsed(arguments)
    verbs = [verb for verb in VERBS if not asked.verb or any(word in verb.name for word in asked.verb)]
    parts = [part for name, part in _parts(verbs, asked).items() if name in asked.parts]
    console, violations, begun = Console(), list[str](), time.monotonic()
    with ProcessPoolExecutor(asked.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in parts:
            violations += _run(part, pool, console)
    for violation in violations[:_SHOWN]:
        console.print(f"[red]violation[/] {violation}", highlight=False, soft_wrap=True)
    if len(violations) > _SHOWN:
        console.print(f"and {len(violations) - _SHOWN} more.")
    console.print(f"{len(violations)} violations in {time.monotonic() - begun:.0f} s.")
    return 1 if violations else 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m registry.testing", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=_PARTS, help=f"some of: {', '.join(_PARTS)} (all of them)")
    parser.add_argument("--verb", action="append", help="only verbs whose name contains this; may be repeated")
    parser.add_argument("--storms", type=int, default=70, help="runs of each verb with several faults (%(default)s)")
    parser.add_argument("--seeds", type=int, default=10_000, help="contests of four clients (%(default)s)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many at once (%(default)s)")
    parser.add_argument(
        "--store",
        default="registry.store:InMemoryModelStore",
        help="MODULE:CALLABLE that makes an empty store, for sweep and contests (%(default)s); kills are on local disk",
    )
    asked = parser.parse_args(arguments)
    if unknown := ", ".join(part for part in asked.parts if part not in _PARTS):
        parser.error(f"there is no part {unknown}; there are: {', '.join(_PARTS)}")
    return asked


def _parts(verbs: Iterable[Verb], asked: argparse.Namespace) -> dict[str, _Part]:
    names, seeds, store = [verb.name for verb in verbs], asked.seeds, asked.store
    starts = range(0, seeds, _SEEDS_AT_ONCE)
    return {
        "sweep": _Part(
            "a fault at every call, and storms of them",
            "cases",
            lambda pool: [pool.submit(_swept, name, asked.storms, store) for name in names],
        ),
        "kills": _Part(
            "SIGKILL at every call and every step on local disk",
            "deaths",
            lambda pool: [pool.submit(_killed, name) for name in names],
        ),
        "contests": _Part(
            "four clients in an order by seed, some answers lost",
            "seeds",
            lambda pool: [pool.submit(_played, one, min(one + _SEEDS_AT_ONCE, seeds), store) for one in starts],
        ),
    }


def _run(part: _Part, pool: ProcessPoolExecutor, console: Console) -> list[str]:
    begun, work = time.monotonic(), part.submit(pool)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(part.title, total=len(work))
        for _ in as_completed(work):
            progress.advance(bar)
    results = [future.result() for future in work]
    table = Table("what", "calls", part.counted, "violations", title=part.title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for result in results:
        table.add_row(result.verb, str(result.calls), str(result.cases), str(len(result.violations) or "-"))
    violations = [violation for result in results for violation in result.violations]
    cases, seconds = sum(result.cases for result in results), time.monotonic() - begun
    table.add_section()
    table.add_row(f"all, in {seconds:.0f} s", str(sum(r.calls for r in results)), str(cases), str(len(violations)))
    console.print(table)
    return violations


def _swept(name: str, storms: int, store: str) -> Swept:
    return sweep(_verb(name), Ground(_found(store)), storms=storms)


def _killed(name: str) -> Swept:
    return kill(_verb(name))


def _played(first: int, end: int, store: str) -> Swept:
    swept, new_store = Swept(f"seeds {first} to {end - 1}"), _found(store)
    for seed in range(first, end):
        contest = play(seed, new_store=new_store)
        swept.cases += 1
        swept.calls += len(contest.history)
        swept.violations += [f"seed {seed}: {complaint}" for complaint in contest.complaints]
    return swept


def _verb(name: str) -> Verb:
    return next(verb for verb in VERBS if verb.name == name)


def _found(store: str) -> Callable[[], ModelStore]:
    return pkgutil.resolve_name(store)  # type: ignore[no-any-return]
