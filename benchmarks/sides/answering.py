"""How one side of a comparison is asked: it prepares, says so, and times one operation for each word to go.

Nothing but the standard library is imported here: this runs in the environments of the peers as well.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FEW = "digits"
"""The model with a few versions, one of them in production."""

MANY = "many"
"""The model with ``Sizes.versions`` versions."""

FEW_VERSIONS = 10


@dataclass(frozen=True)
class Sizes:
    """How much of everything there is; bytes, counts."""

    versions: int = 10_000
    models: int = 100
    small_bytes: int = 1_000_000
    large_bytes: int = 1 << 30
    processes: int = 8
    cycles: int = 100


@dataclass(frozen=True)
class Job:
    """Where a side works, in a folder of its own, and how much of everything there is."""

    folder: Path
    sizes: Sizes

    @property
    def small_file(self) -> Path:
        """A file of ``small_bytes``, the same for all sides."""
        return self.folder.parent / "small.bin"

    @property
    def large_file(self) -> Path:
        """A file of ``large_bytes``, the same for all sides."""
        return self.folder.parent / "large.bin"


Steps = Iterator[Mapping[str, float] | None]
"""Yields twice for each operation: when all is ready for it, and when it is done. Only what lies between is timed.

With the second yield an operation may hand out further numbers of its own.
"""

Action = Callable[[Job], Steps]


def answer(actions: Mapping[str, Action]) -> None:
    """Answer on standard output what is asked on standard input, until that ends.

    The arguments of the process are an action's name, the folder, how often the operation is done for one answer, and
    the sizes as JSON. The lines that come in mean by turns "prepare" and "go"; the answers are ``ready`` and JSON with
    ``wall_s`` and ``cpu_s``, the mean of one operation.
    """
    name, folder, times, sizes = sys.argv[1:]
    steps = actions[name](Job(Path(folder), Sizes(**json.loads(sizes))))
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that greets on standard output must not garble the answers
    for _prepare in sys.stdin:
        next(steps)
        channel.write("ready\n")
        channel.flush()
        if not sys.stdin.readline():
            return
        channel.write(json.dumps(_timed(steps, int(times))) + "\n")
        channel.flush()


def _timed(steps: Steps, times: int) -> dict[str, float]:
    wall_s = cpu_s = 0.0
    own: Mapping[str, float] | None = None
    for done in range(times):
        if done:
            next(steps)
        wall, cpu = time.perf_counter(), time.process_time()
        own = next(steps)
        wall_s += time.perf_counter() - wall
        cpu_s += time.process_time() - cpu
    return {"wall_s": wall_s / times, "cpu_s": cpu_s / times, **(own or {})}


def expect(found: object, wanted: object) -> None:
    """Raise where an operation gave something else than it should have: its time would mean nothing.

    Raises:
        ValueError: It did; names both.
    """
    if found != wanted:
        raise ValueError(f"wanted {wanted!r}, found {found!r}")


def as_argument(sizes: Sizes) -> str:
    """Return sizes as the argument that ``answer`` takes."""
    return json.dumps(dataclasses.asdict(sizes))


def watch(job: Job, count_in_production: Callable[[str], int]) -> Steps:
    """Look on while others race, until the file ``stop-N`` is there; the most versions in production at one look.

    Args:
        job: Where the race is.
        count_in_production: Given a model, looks once; its failures count as no look.
    """
    number = -1
    while True:
        number += 1
        looks, most = 0, 0
        yield None
        while not (job.folder / f"stop-{number}").exists():
            found = count_in_production(race_model(number))
            looks, most = looks + 1, max(most, found)
            time.sleep(
                0.02
            )  # a reader in earnest does something with what it saw; one that spins only slows the others
        yield {"looks": looks, "most_in_production": most}


def race_model(number: int) -> str:
    """Return the model that the processes race for in a round."""
    return f"race-{number}"
