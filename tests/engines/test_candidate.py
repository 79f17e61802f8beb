"""Whatever happens in a candidate's process ends in a report."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx as onnx_package
import psutil
import pytest

from registry.engines.candidate import try_candidate
from registry.engines.key import engine_key, matches_this_machine
from registry.engines.onnx_file import check_onnx
from registry.engines.optimize import Material, build_variants, choose
from registry.engines.records import VariantReport
from registry.engines.scoring import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from registry.engines.job import Job
    from registry.engines.records import OnnxModel
    from registry.engines.spec import EngineName, OptimizeSpec

    JobFor: TypeAlias = Callable[[EngineName], Job]

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each


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
    assert _is_gone(grandchild)


def _is_gone(pid: int) -> bool:
    """Return whether a process ends within 5 s."""
    deadline = time.monotonic() + 5
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not _is_running(pid)


def _is_running(pid: int) -> bool:
    # Killed and not yet reaped (by whoever inherited it) counts as gone.
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


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


def test_a_process_that_takes_too_much_memory_is_stopped_and_both_numbers_are_told(job_for: JobFor) -> None:
    job = _endless(job_for("onnxruntime"))
    job = job.model_copy(update={"spec": job.spec.model_copy(update={"memory_limit_gib": 0.01})})
    report = try_candidate(job)
    assert report.status == "failed"
    told = re.match(r"it took (\d\.\d\d) GiB of memory, 0\.01 GiB are allowed, and was stopped", report.reason)
    assert told, report.reason
    assert 0.01 <= float(told[1]) < 2
    assert (report.file, report.latency) == (None, ())
    assert _processes_of(job) == []


def test_the_memory_of_what_a_candidate_started_counts_as_its_own(job_for: JobFor, tmp_path: Path) -> None:
    job = job_for("onnxruntime")
    job = job.model_copy(update={"spec": job.spec.model_copy(update={"memory_limit_gib": 0.2})})
    # A shell takes a few MB; what it waits for takes 0.3 GB.
    code = "import os, time; taken = bytearray(os.urandom(1 << 20)) * 300; time.sleep(60)"
    python = _interpreter(tmp_path, f'{sys.executable} -c "{code}" & echo $! > "$(dirname "$3")/pid"; wait')
    report = try_candidate(job, python=python)
    assert "0.20 GiB are allowed, and was stopped" in report.reason
    assert _is_gone(int((job.folder / "pid").read_text()))


def test_a_candidate_within_its_memory_is_left_alone(job_for: JobFor) -> None:
    job = job_for("onnxruntime")
    job = job.model_copy(update={"spec": job.spec.model_copy(update={"memory_limit_gib": 2.0})})
    assert try_candidate(job).status == "measured"


def test_an_engine_that_does_not_fit_on_the_disk_is_reported_and_nothing_is_left_running(
    job_for: JobFor, tmp_path: Path
) -> None:
    job = job_for("onnxruntime")
    # 8 blocks, of 512 bytes or of 1024 by the shell: room for the report, none for the ONNX file.
    python = _interpreter(tmp_path, f'ulimit -f 8; exec {sys.executable} "$@"')
    assert (job.onnx.path.stat().st_size, job.samples.stat().st_size) > (8 * 1024, 8 * 1024)
    report = try_candidate(job, python=python)
    assert report.status == "failed"
    assert report.reason == "its files could not be written: File too large"
    assert (report.file, report.size_bytes, report.latency) == (None, None, ())
    assert "session" in report.key_fields
    assert _processes_of(job) == []


def _model_of_one_node(folder: Path, operator: str) -> OnnxModel:
    """Return an ONNX model that applies one operator to rows of four numbers."""
    rows, found = (
        onnx_package.helper.make_tensor_value_info(name, onnx_package.TensorProto.FLOAT, ["batch", 4])
        for name in ("rows", "found")
    )
    graph = onnx_package.helper.make_graph(
        [onnx_package.helper.make_node(operator, ["rows"], ["found"])], operator, [rows], [found]
    )
    opset = onnx_package.helper.make_opsetid("", 20)
    file = folder / "model.onnx"
    onnx_package.save(onnx_package.helper.make_model(graph, opset_imports=[opset], ir_version=10), file)
    return check_onnx(file)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("whose", ["the engine", "the original"])
@pytest.mark.parametrize("operator", ["Log", "Reciprocal"])
def test_outputs_with_nan_or_infinity_are_equal_to_nothing_not_scored_and_not_chosen(
    tmp_path: Path, spec: OptimizeSpec, engine: EngineName, whose: str, operator: str
) -> None:
    rows = np.full((9, 4), 2, dtype=np.float32)
    rows[3, 1] = -1 if operator == "Log" else 0
    with np.errstate(invalid="ignore", divide="ignore"):
        own = np.log(rows) if operator == "Log" else 1 / rows
    # The original of the second case has the same NaN: two that are both undefined are not the same.
    reference = own if whose == "the original" else np.nan_to_num(own, posinf=0.0)
    scored: list[int] = []

    def score(outputs: NDArray[Any]) -> float:
        scored.append(len(outputs))
        return 1.0

    (variant,) = build_variants(
        Material(_model_of_one_node(tmp_path, operator), rows, reference, scorer=Scorer(score)),
        spec=spec.model_copy(update={"engines": (engine,), "batch_sizes": (1,)}),
        folder=tmp_path / "variants",
    )
    assert variant.status == "measured"
    assert variant.reason == f"1 of 36 values that {whose} gives are NaN or infinite"
    assert variant.parity is not None
    assert (variant.parity.passed, variant.parity.cosine, variant.score, variant.score_drop) == (
        False,
        None,
        None,
        None,
    )
    assert variant.objection == f"its outputs differ: {variant.reason}"
    assert not variant.is_fit
    assert len(scored) == 1  # the original's own, and no engine's
    slow = variant.latency[0].model_copy(update={"p50_ms": 1e6})
    choice = choose([variant], spec=spec, baseline=[slow], baseline_score=1.0)
    assert choice.key is None
    assert f"{engine}: its outputs differ: 1 of 36 values" in choice.reason
