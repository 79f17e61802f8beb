"""Real deaths on local disk: a forked child kills itself by SIGKILL at every store call, and at every step below one.

The parent looks at what is left, and does the verb again.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeAlias

from registry import ModelRegistry
from registry.store import FileModelStore
from registry.testing.faults import FaultStore
from registry.testing.invariants import outcome, problems
from registry.testing.plans import Fault, Kind, at
from registry.testing.sweep import Attempt, Swept, filled, hurried, world_of
from registry.testing.verbs import ACTOR, Verb

STEPS = frozenset({
    "chmod", "close", "fchmod", "fsync", "fdatasync", "ftruncate", "link", "mkdir", "open", "remove", "rename",
    "replace", "rmdir", "sendfile", "copy_file_range", "truncate", "unlink", "write", "flush",
})  # fmt: skip
"""The calls into the operating system, and on open files, that leave something else on disk than before them."""

_Arm: TypeAlias = Callable[[Path, int], ModelRegistry]
"""Gives the registry on a place that kills its process at the numbered point."""


def kill(verb: Verb) -> Swept:
    """Return what came of killing a child that does ``verb`` at each of its calls and steps, one child for each.

    Raises:
        RuntimeError: A child ended otherwise than by its own hand or by finishing.
    """
    swept = Swept(verb.name)
    with tempfile.TemporaryDirectory(prefix="modelway-") as scratch, hurried():
        bench = _Bench(verb, Path(scratch))
        for what, arm in (("before call", _before_call), ("after call", _after_call), ("at step", _at_step)):
            number = 0
            while True:
                number += 1
                died, found = bench.killed(arm, number)
                if not died:
                    break
                swept.cases += 1
                swept.calls += arm is _before_call
                swept.violations += [f"{verb.name}, killed {what} {number}: {complaint}" for complaint in found]
    return swept


class _Bench:
    def __init__(self, verb: Verb, scratch: Path) -> None:
        self._verb, self._scratch = verb, scratch
        self._world = scratch / "world"
        filled(FileModelStore(self._world), world_of(verb))
        place = self._place("undisturbed")
        right = Attempt.at(verb, ModelRegistry(place, actor=ACTOR), self._folder())
        if right.error is not None:
            raise right.error
        self._right, self._outcome = right, outcome(FileModelStore(place))

    def killed(self, arm: _Arm, number: int) -> tuple[bool, list[str]]:
        """Return whether a child died at its ``number``-th point, and what is wrong with what it left."""
        place, folder = self._place("place"), self._folder()
        died = _in_a_child(lambda: self._verb.do(arm(place, number), folder))
        return died, [*self._complaints(place, folder)] if died else []

    def _complaints(self, place: Path, folder: Path) -> Iterator[str]:
        store = FileModelStore(place)
        yield from problems(store)
        again = Attempt.at(self._verb, ModelRegistry(place, actor=ACTOR), folder)
        if isinstance(again.error, self._verb.already):
            again = self._right
        if again != self._right:
            yield f"the second try ended with {again}"
        if outcome(store) != self._outcome:
            yield "after the second try something else stands there than after an undisturbed run"
        yield from problems(store)

    def _place(self, name: str) -> Path:
        place = self._scratch / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._world, place) if self._world.exists() else place.mkdir()
        return place

    def _folder(self) -> Path:
        folder = self._scratch / "own"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


def _before_call(place: Path, number: int) -> ModelRegistry:
    return _on_faults(place, number, Kind.CRASH_BEFORE)


def _after_call(place: Path, number: int) -> ModelRegistry:
    return _on_faults(place, number, Kind.CRASH_AFTER)


def _on_faults(place: Path, number: int, kind: Kind) -> ModelRegistry:
    return ModelRegistry(store=FaultStore(FileModelStore(place), at(number, Fault(kind)), crash=_die), actor=ACTOR)


def _at_step(place: Path, number: int) -> ModelRegistry:
    registry, left = ModelRegistry(place, actor=ACTOR), number

    def watch(_frame: FrameType, event: str, called: Any) -> None:
        nonlocal left
        # Before each, and so after the one before it; what is still in a buffer is lost then, as it would be.
        if event == "c_call" and called.__name__ in STEPS and _touches_files(called):
            left -= 1
            if left == 0:
                _die()

    threading.setprofile(watch)
    sys.setprofile(watch)
    return registry


def _touches_files(called: Any) -> bool:
    owner = type(getattr(called, "__self__", None)).__module__  # of a method of an open file
    return called.__module__ in {"posix", "_io"} or owner == "_io"


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _in_a_child(work: Callable[[], object]) -> bool:
    """Return whether a child that does ``work`` was killed; False when it came to its end."""
    with warnings.catch_warnings():
        # The child does nothing but this work, and dies: threads that others left in the parent do not matter to it.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _work_and_exit(work)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"a child that was to die or to finish ended with status {status}; see what it printed.")
    return False


def _work_and_exit(work: Callable[[], object]) -> NoReturn:
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        sys.setprofile(None)
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        os._exit(code)
