"""Start a candidate's process, give it its time, and turn whatever becomes of it into a report."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from registry.engines.key import engine_key
from registry.engines.records import VariantReport

if TYPE_CHECKING:
    from registry.engines.job import Job

LAST_LINES = 6


def try_candidate(job: Job, *, time_limit_s: float | None = None, python: str = sys.executable) -> VariantReport:
    """Build, check and measure one candidate in a process of its own; whatever happens there becomes a report.

    A crash, a hang, a non-zero exit or a result that makes no sense gives ``status="failed"`` with the reason in words
    and the last lines that the process wrote. Its files are in ``job.folder``.

    Args:
        job: What to try; its folder is made if it is not there.
        time_limit_s: Seconds until the process and all that it started are killed; None for the spec's own.
        python: The interpreter to run, which may be another environment's.
    """
    limit_s = job.spec.time_limit_s if time_limit_s is None else time_limit_s
    job.folder.mkdir(parents=True, exist_ok=True)
    job_file, output = job.folder / "job.json", job.folder / "output.txt"
    job_file.write_text(job.model_dump_json(), encoding="utf-8")
    code = _run([python, "-m", "registry.engines.worker", str(job_file)], output, limit_s)
    if code == 0:
        return _result(job) or _failed(job, "its process ended well but left no result that makes sense", output)
    if code is None:
        return _failed(job, f"it was not done after {limit_s:g} s and was stopped", output)
    return _failed(job, _ending(code), output)


def _run(command: list[str], output: Path, limit_s: float) -> int | None:
    """Return the exit code, or None if the time was up; output goes to a file, as a pipe could be held open."""
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
        return process.wait(limit_s)
    except BaseException as interruption:
        _kill_group(process)
        if isinstance(interruption, subprocess.TimeoutExpired):
            return None
        raise


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
