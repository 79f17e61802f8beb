"""What takes part in a comparison: a command, a worker that is asked again and again, or processes that race."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from benchmarks.sides.answering import Sizes, as_argument

ROOT = Path(__file__).parents[1]

Numbers = dict[str, float]
"""What one round gave: ``wall_s``, ``cpu_s`` and whatever else a side counts."""


class SideFailed(Exception):  # noqa: N818 - what happened, not what it is
    """One side ended where it should have answered; the message holds the last lines that it wrote to stderr."""


class Contestant(Protocol):
    """Anything that can be measured once more."""

    def measure(self) -> Numbers:
        """Do it once.

        Raises:
            SideFailed: It did not come to its end.
        """


@dataclass(frozen=True)
class Place:
    """Where a side runs: its interpreter, the folder that is its own, and what its environment says."""

    python: Path
    folder: Path
    environment: Mapping[str, str]

    def program(self, name: str) -> str:
        """Return the path of a program that was installed beside the interpreter."""
        return str(self.python.with_name(name))


class Command:
    """A command that is started anew each time; what it and its children take is measured from outside."""

    def __init__(self, command: Sequence[str], place: Place) -> None:
        """Take the command and where it runs."""
        self._command, self._place = command, place

    def measure(self) -> Numbers:
        """Run it once.

        Raises:
            SideFailed: It ended with a status.
        """
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        ran = subprocess.run(
            self._command,
            cwd=self._place.folder,
            env={**os.environ, **self._place.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        if ran.returncode:
            raise SideFailed(f"{self._command[0]} ended with {ran.returncode}: {_last_lines(ran.stderr)}")
        cpu_s = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
        return {"wall_s": wall_s, "cpu_s": cpu_s}


class Worker:
    """A process that has imported and prepared everything, and does one action each time it is asked."""

    def __init__(self, module: str, action: str, place: Place, sizes: Sizes, *, times: int = 1) -> None:
        """Start it; ``times`` is how often it does the operation for one measurement, of which it tells the mean."""
        self._log = place.folder / f"{action}.log"
        self._name = f"{module} {action}"
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [
                    *(place.python, "-m", f"benchmarks.sides.{module}"),
                    *(action, place.folder, str(times), as_argument(sizes)),
                ],
                cwd=ROOT,  # ``-m`` puts it on the path: a side is measured as it lies in this tree
                env={**os.environ, **place.environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._to, self._from = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)

    def measure(self) -> Numbers:
        """Have it prepare, and then do the action.

        Raises:
            SideFailed: It has ended.
        """
        self.prepare()
        self.go()
        return self.answer()

    def prepare(self) -> None:
        """Have it prepare the next measurement, and wait until it has."""
        self._tell("prepare")
        self._hear()

    def go(self) -> None:
        """Have it do the action, without waiting."""
        self._tell("go")

    def answer(self) -> Numbers:
        """Wait for what it measured."""
        numbers: Numbers = json.loads(self._hear())
        return numbers

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._process.__exit__(None, None, None)  # closes its pipes, at which it ends, and waits

    def _tell(self, word: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended: what it said last is told when it is heard
            self._to.write(word + "\n")
            self._to.flush()

    def _hear(self) -> str:
        if not (line := self._from.readline()):
            raise SideFailed(f"{self._name}: {_last_lines(self._log.read_text(encoding='utf-8'))}")
        return line


class Race:
    """Processes that do the same to one model at once, and one that looks on."""

    def __init__(self, module: str, place: Place, sizes: Sizes) -> None:
        """Start them all; they wait for the first measurement."""
        self._place, self._cycles, self._rounds = place, sizes.processes * sizes.cycles, 0
        self._watcher = Worker(module, "look_on", place, sizes)
        self._racers = [Worker(module, "cycle", place, sizes) for _ in range(sizes.processes)]

    def measure(self) -> Numbers:
        """Let them run once, each its cycles, on a model that nobody has touched yet.

        Raises:
            SideFailed: One of them ended.
        """
        for worker in (self._watcher, *self._racers):
            worker.prepare()
        self._watcher.go()
        started = time.perf_counter()
        for racer in self._racers:
            racer.go()
        told = [racer.answer() for racer in self._racers]
        wall_s = time.perf_counter() - started
        (self._place.folder / f"stop-{self._rounds}").touch()
        self._rounds += 1
        failed = sum(numbers["failed"] for numbers in told)
        seen = self._watcher.answer()
        done_per_s = (self._cycles - failed) / wall_s
        return {**seen, "wall_s": wall_s, "cpu_s": sum(n["cpu_s"] for n in told), "per_s": done_per_s, "failed": failed}

    def close(self) -> None:
        """End them all."""
        for worker in (self._watcher, *self._racers):
            worker.close()


@contextlib.contextmanager
def closing_all(contestants: Mapping[str, Contestant]) -> Iterator[None]:
    """End, at the end, every contestant that keeps processes."""
    try:
        yield
    finally:
        for contestant in contestants.values():
            if isinstance(contestant, Worker | Race):
                contestant.close()


def _last_lines(text: str, count: int = 5) -> str:
    return "\n".join(text.strip().splitlines()[-count:]) or "it said nothing"
