"""The lifecycle in a process that kills itself with SIGKILL after the step that the file ``die-after`` names.

``register`` dies after what that step tells first, ``approval 2`` after what it tells second in one process. With the
file ``hang-after`` it goes no further, and waits to be killed. The file is removed before, so that the next one lives.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from flows.lifecycle import lifecycle
from tasks import gate_steps, run_steps, steps

__all__ = ["lifecycle"]

_told: Counter[str] = Counter()


def _mortal(tell: Callable[[str, str], None]) -> Callable[[str, str], None]:
    def told(step: str, line: str) -> None:
        tell(step, line)
        _told[step] += 1
        if _is_meant(Path("die-after"), step):
            os.kill(os.getpid(), signal.SIGKILL)
        if _is_meant(Path("hang-after"), step):
            time.sleep(600)

    return told


def _is_meant(mark: Path, step: str) -> bool:
    if not mark.exists() or mark.read_text() not in {f"{step} {_told[step]}", step if _told[step] == 1 else ""}:
        return False
    mark.unlink()
    return True


for module in (gate_steps, run_steps, steps):
    module.tell = _mortal(module.tell)  # type: ignore[attr-defined]
