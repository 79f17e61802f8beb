"""Start a candidate's process, give it its time, and turn whatever becomes of it into a report."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from pydantic import ValidationError

from registry.engines.key import engine_key
from registry.engines.records import VariantReport

if TYPE_CHECKING:
    from registry.engines.job import Job

LAST_LINES = 6
LOOK_EVERY_S = 0.1
GIB = 1 << 30
SHARE_OF_FREE_MEMORY = 0.9


def try_candidate(job: Job, *, time_limit_s: float | None = None, python: str = sys.executable) -> VariantReport:
    """Build, check and measure one candidate in a process of its own; whatever happens there becomes a report.

    A crash, a hang, a non-zero exit or a result that makes no sense gives ``status="failed"`` with the reason in words
    and the last lines that the process wrote. Its files are in ``job.folder``.

    Args:
        job: What to try; its folder is made if it is not there.
        time_limit_s: Seconds until the process and all that it started are killed; None for the spec's own.
        python: The interpreter to run, which may be another environment's.
    """
    limits = _Limits(
        seconds=job.spec.time_limit_s if time_limit_s is None else time_limit_s,
        memory_bytes=_memory_limit(job.spec.memory_limit_gib),
    )
    job.folder.mkdir(parents=True, exist_ok=True)
    job_file, output = job.folder / "job.json", job.folder / "output.txt"
    job_file.write_text(job.model_dump_json(), encoding="utf-8")
    ended = _run([python, "-m", "registry.engines.worker", str(job_file)], output, limits)
    if ended == 0:
        return _result(job) or _failed(job, "its process ended well but left no result that makes sense", output)
    return _failed(job, ended if isinstance(ended, str) else _ending(ended), output)


@dataclass(frozen=True)
class _Limits:
    """What a candidate's process, with all that it started, may take."""

    seconds: float
    memory_bytes: int


def _memory_limit(gib: float | None) -> int:
    return int(psutil.virtual_memory().available * SHARE_OF_FREE_MEMORY if gib is None else gib * GIB)


def _run(command: list[str], output: Path, limits: _Limits) -> int | str:
    """Return the exit code, or in words which limit was reached; output goes to a file: a pipe could be held open."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        )
    try:
        give_up_at = time.monotonic() + limits.seconds
        while (code := _ended(process)) is None:
            if time.monotonic() > give_up_at:
                _kill_group(process)
                return f"it was not done after {limits.seconds:g} s and was stopped"
            if (taken := _memory_of(process.pid)) > limits.memory_bytes:
                _kill_group(process)
                allowed = f"{limits.memory_bytes / GIB:.2f} GiB are allowed"
                return f"it took {taken / GIB:.2f} GiB of memory, {allowed}, and was stopped"
    except BaseException:
        _kill_group(process)
        raise
    return code


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(LOOK_EVERY_S)
    return None


def _memory_of(pid: int) -> int:
    """Return the resident memory of a process and all that it started, in bytes.

    A limit of the system's own (RLIMIT_AS) counts addresses, of which CUDA and memory maps reserve far more than they
    use.
    """
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ending(code: int) -> str:
    if code > 0:
        return f"its process ended with exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"its process was ended by signal {-code}"
    hint = "; the system may have been out of memory" if number.name == "SIGKILL" else ""
    return f"its process was ended by {number.name} ({signal.strsignal(number)}){hint}"


def _result(job: Job) -> VariantReport | None:
    """Return the report that the process left, if it is one and speaks of this job and of files that are there."""
    try:
        report = VariantReport.model_validate_json(job.result.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    sound = report.engine == job.engine and report.key == engine_key(report.key_fields)
    if report.status in {"measured", "built"}:
        sound = sound and _is_there(job.engine_folder, report.file)
    if report.status == "measured":
        sound = sound and job.outputs.is_file()
    return report if sound else None


def _is_there(folder: Path, file: str | None) -> bool:
    return file is not None and Path(file).name == file and (folder / file).is_file()


def _failed(job: Job, reason: str, output: Path) -> VariantReport:
    lines = output.read_text(encoding="utf-8", errors="replace").split("\n")
    last = "\n".join([line.rstrip() for line in lines if line.strip()][-LAST_LINES:])
    # The process writes its key before it begins to build; without that only the question is known.
    known = _result(job)
    if known is None or known.status != "failed":
        known = job.without_key()
    said = f"; it last said:\n{last}" if last else "; it said nothing"
    return known.model_copy(update={"reason": reason + said})
