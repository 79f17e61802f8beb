"""Whatever happens in a candidate's process ends in a report."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import psutil
import pytest

from registry.engines.candidate import try_candidate
from registry.engines.key import engine_key, matches_this_machine
from registry.engines.records import VariantReport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from registry.engines.job import Job
    from registry.engines.spec import EngineName

    JobFor: TypeAlias = Callable[[EngineName], Job]


def _endless(job: Job) -> Job:
    """Return the job with more repetitions than anybody waits for."""
    return job.model_copy(update={"spec": job.spec.model_copy(update={"repetitions": 10**8})})


def _processes_of(job: Job) -> list[psutil.Process]:
    """Return the processes below this one that were started for the job."""
    return [process for process in psutil.Process().children() if str(job.folder / "job.json") in process.cmdline()]


def _signal_when_measuring(job: Job, number: signal.Signals) -> threading.Thread:
    """Send a signal to the job's real process as soon as it has written its outputs."""

    def send() -> None:
        deadline = time.monotonic() + 30
        while not job.outputs.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in _processes_of(job):
            process.send_signal(number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def _interpreter(folder: Path, script: str) -> str:
    """Return a program that stands in the interpreter's place; ``$3`` is the job file."""
    path = folder / "interpreter"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_onnxruntime_runs_every_sample_and_is_measured_at_every_batch_size(
    job_for: JobFor, reference: NDArray[np.float32]
) -> None:
    job = job_for("onnxruntime")
    report = try_candidate(job)
    assert (report.status, report.reason, report.file) == ("measured", "", "model.onnx")
    assert [latency.batch for latency in report.latency] == [1, 8]
    np.testing.assert_allclose(np.load(job.outputs, allow_pickle=False), reference, atol=1e-5)
    assert report.key == engine_key(report.key_fields)
    assert matches_this_machine(report.key_fields)
    assert report.size_bytes == (job.engine_folder / "model.onnx").stat().st_size


def test_tensorrt_is_built_and_says_why_it_was_not_run(job_for: JobFor) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the wheel exists for Linux x86-64 and Windows only")
    job = job_for("tensorrt")
    report = try_candidate(job)
    assert report.status in {"built", "measured"}
    assert report.file == "model.plan"
    assert (job.engine_folder / "model.plan").stat().st_size == report.size_bytes
    if report.status == "built":
        assert report.reason.startswith("built with tensorrt_rtx")
        assert ", not run: " in report.reason
        assert not matches_this_machine(report.key_fields)


@pytest.mark.usefixtures("without_tensorrt")
def test_tensorrt_that_is_not_installed_is_unavailable_with_the_extra_to_install(job_for: JobFor) -> None:
    report = try_candidate(job_for("tensorrt"))
    assert report.status == "unavailable"
    assert "pip install 'modelway[tensorrt-rtx]'" in report.reason
    assert report.file is None


def test_a_process_that_is_killed_is_reported_with_the_signal_and_the_key(job_for: JobFor) -> None:
    job = _endless(job_for("onnxruntime"))
    thread = _signal_when_measuring(job, signal.SIGKILL)
    report = try_candidate(job)
    thread.join()
    assert report.status == "failed"
    assert report.reason.startswith("its process was ended by SIGKILL (Killed); the system may have been out of memory")
    assert "session" in report.key_fields


def test_a_native_crash_is_reported_with_the_stack_that_it_left(job_for: JobFor) -> None:
    job = _endless(job_for("onnxruntime"))
    thread = _signal_when_measuring(job, signal.SIGSEGV)
    report = try_candidate(job)
    thread.join()
    assert report.reason.startswith("its process was ended by SIGSEGV (Segmentation fault); it last said:\n")
    assert "in main" in report.reason


def test_a_process_that_hangs_is_stopped_when_its_time_is_up(job_for: JobFor) -> None:
    job = _endless(job_for("onnxruntime"))
    thread = _signal_when_measuring(job, signal.SIGSTOP)
    report = try_candidate(job, time_limit_s=3)
    thread.join()
    assert report.status == "failed"
    assert report.reason.startswith("it was not done after 3 s and was stopped")
    assert _processes_of(job) == []


def test_what_a_candidate_started_is_stopped_with_it(job_for: JobFor, tmp_path: Path) -> None:
    job = job_for("onnxruntime")
    python = _interpreter(tmp_path, 'sleep 60 & echo $! > "$(dirname "$3")/pid"; wait')
    report = try_candidate(job, time_limit_s=1, python=python)
    assert report.reason == "it was not done after 1 s and was stopped; it said nothing"
    grandchild = int((job.folder / "pid").read_text())
    deadline = time.monotonic() + 5
    while _is_running(grandchild) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_running(grandchild)


def _is_running(pid: int) -> bool:
    # Killed and not yet reaped (by whoever inherited it) counts as gone.
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_worker_whose_parent_is_gone_ends_by_itself(job_for: JobFor) -> None:
    job = _endless(job_for("onnxruntime"))
    job = job.model_copy(update={"spec": job.spec.model_copy(update={"time_limit_s": 0.5})})
    job.folder.mkdir()
    (job.folder / "job.json").write_text(job.model_dump_json())
    command = [sys.executable, "-m", "registry.engines.worker", str(job.folder / "job.json")]
    ended = subprocess.run(command, check=False, timeout=60, capture_output=True)
    assert ended.returncode == -signal.SIGALRM


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo starting; echo no licence >&2; exit 3", "exit code 3; it last said:\nstarting\nno licence"),
        ("seq 20; exit 1", "exit code 1; it last said:\n15\n16\n17\n18\n19\n20"),
        ("exit 0", "left no result that makes sense; it said nothing"),
        ('echo garbage > "$(dirname "$3")/result.json"', "left no result that makes sense; it said nothing"),
        ('echo "{}" > "$(dirname "$3")/result.json"', "left no result that makes sense"),
        ("kill -TERM $$", "ended by SIGTERM (Terminated); it said nothing"),
        ("kill -40 $$", "its process was ended by"),
    ],
)
def test_every_other_bad_ending_is_reported_in_words(job_for: JobFor, tmp_path: Path, script: str, words: str) -> None:
    job = job_for("onnxruntime")
    report = try_candidate(job, python=_interpreter(tmp_path, script))
    assert report.status == "failed"
    assert words in report.reason
    assert report.key_fields["onnx_sha256"] == job.onnx.sha256


@pytest.mark.parametrize(
    "forged",
    [
        {"engine": "tensorrt"},
        {"key": "0" * 64},
        {"status": "built", "file": "model.onnx"},
        {"status": "built", "file": "../job.json"},
        {"status": "measured", "file": None},
    ],
)
def test_a_result_that_speaks_of_something_else_is_not_believed(
    job_for: JobFor, tmp_path: Path, forged: dict[str, str]
) -> None:
    job = job_for("onnxruntime")
    report = VariantReport.model_validate({**job.without_key().model_dump(), **forged})
    (tmp_path / "forged.json").write_text(report.model_dump_json())
    script = f'cp "{tmp_path}/forged.json" "$(dirname "$3")/result.json"; mkdir "$(dirname "$3")/engine"'
    found = try_candidate(job, python=_interpreter(tmp_path, script))
    assert found.status == "failed"
    assert "left no result that makes sense" in found.reason
    assert found.key == job.without_key().key


@pytest.mark.parametrize("engine", ["onnxruntime", "tensorrt"])
def test_a_damaged_model_is_reported_with_what_the_engine_said(
    job_for: JobFor, tmp_path: Path, engine: EngineName
) -> None:
    if engine == "tensorrt":
        pytest.importorskip("tensorrt_rtx", reason="the wheel exists for Linux x86-64 and Windows only")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no protobuf at all")
    job = job_for(engine)
    job = job.model_copy(update={"onnx": job.onnx.model_copy(update={"path": damaged, "files": (damaged.name,)})})
    report = try_candidate(job)
    assert report.status == "failed"
    assert "cannot load" in report.reason or "cannot read damaged.onnx" in report.reason
    assert "version" in report.key_fields


def test_an_interrupted_caller_leaves_no_process_behind(job_for: JobFor) -> None:
    job = _endless(job_for("onnxruntime"))

    def interrupt() -> None:
        deadline = time.monotonic() + 30
        while not job.outputs.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        if job.outputs.exists():
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        try_candidate(job)
    thread.join()
    assert _processes_of(job) == []


def test_an_onnxruntime_candidate_starts_without_torch() -> None:
    code = "import registry.engines.worker, registry.engines.session, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
