"""Try one candidate in a process of its own: ``python -m registry.engines.worker JOB.json``.

Engines crash: onnxruntime has segfaulted on valid models. Here that costs one candidate, and the flow goes on.
"""

from __future__ import annotations

import math
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.engines.batches import batch_of, run_in_batches
from registry.engines.job import Job
from registry.engines.key import OnnxRuntimeKey, SessionSettings, TensorRtKey, engine_key, this_machine
from registry.engines.latency import measure
from registry.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from registry.engines.records import Latency, VariantReport

GRACE_S = 1


def main(arguments: list[str]) -> int:
    """Try the candidate that the job file describes and write its report; 0 unless there is no report."""
    job = Job.model_validate_json(Path(arguments[0]).read_bytes())
    _end_with_the_time_limit(job.spec.time_limit_s)
    started = job.without_key()
    try:
        report = _onnxruntime(job, started) if job.engine == "onnxruntime" else _tensorrt(job, started)
    except EngineError as refusal:
        report = _reported(job, started).model_copy(update={"reason": str(refusal)})
    job.write_result(report)
    return 0


def _end_with_the_time_limit(time_limit_s: float) -> None:
    # The parent kills us in time. If it was itself killed, nobody would: the alarm ends even a native call that hangs.
    if hasattr(signal, "alarm"):
        signal.alarm(math.ceil(time_limit_s) + GRACE_S)


def _onnxruntime(job: Job, started: VariantReport) -> VariantReport:
    import onnxruntime  # here, because a TensorRT candidate does without

    from registry.engines.session import OnnxSession

    settings, machine = SessionSettings(threads=job.spec.threads), this_machine()
    key = OnnxRuntimeKey(
        onnx_sha256=job.onnx.sha256,
        version=onnxruntime.__version__,
        os=machine.os,
        arch=machine.arch,
        session=settings,
    )
    started = _with_key(job, started, key)
    job.engine_folder.mkdir()
    # External data keeps its name, which stands in the model; the model itself takes the one that servers look for.
    for name, target in zip(job.onnx.files, ("model.onnx", *job.onnx.files[1:]), strict=True):
        (job.engine_folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(job.onnx.path.parent / name, job.engine_folder / target)
    start = time.perf_counter()
    session = OnnxSession(job.engine_folder / "model.onnx", settings=settings)
    built = _built(job, started, "model.onnx", time.perf_counter() - start)
    return built.model_copy(update={"status": "measured", "latency": _run(job, session)})


def _tensorrt(job: Job, started: VariantReport) -> VariantReport:
    from registry.engines import tensorrt, tensorrt_build, tensorrt_run  # here, because an onnxruntime candidate does without

    backend = tensorrt.find_tensorrt()
    if backend is None:
        missing = {"status": "unavailable", "reason": str(tensorrt.missing_tensorrt())}
        return started.model_copy(update=missing)
    key = tensorrt.key_of(backend, job.onnx, batch=job.spec.batch)
    started = _with_key(job, started, key)
    start = time.perf_counter()
    plan = tensorrt_build.build_engine(backend, job.onnx, key)
    build_s = time.perf_counter() - start
    job.engine_folder.mkdir()
    (job.engine_folder / "model.plan").write_bytes(plan)
    built = _built(job, started, "model.plan", build_s)
    if trouble := tensorrt.why_not_here(backend):
        reason = f"built with {backend.package} {backend.version}, not run: {trouble}"
        return built.model_copy(update={"status": "built", "reason": reason})
    latency = _run(job, tensorrt_run.TensorRtEngine(backend, plan))
    return built.model_copy(update={"status": "measured", "latency": latency})


def _with_key(job: Job, started: VariantReport, key: OnnxRuntimeKey | TensorRtKey) -> VariantReport:
    """Write down the key before anything can crash, so that the report of a crash has it."""
    fields = key.model_dump(mode="json")
    keyed = started.model_copy(update={"key_fields": fields, "key": engine_key(fields)})
    job.write_result(keyed)
    return keyed


def _reported(job: Job, started: VariantReport) -> VariantReport:
    return type(started).model_validate_json(job.result.read_bytes()) if job.result.exists() else started


def _built(job: Job, started: VariantReport, file: str, build_s: float) -> VariantReport:
    size = sum(path.stat().st_size for path in job.engine_folder.rglob("*") if path.is_file())
    return started.model_copy(update={"file": file, "size_bytes": size, "build_s": build_s, "reason": ""})


def _run(job: Job, call: Callable[[NDArray[Any]], NDArray[Any]]) -> tuple[Latency, ...]:
    samples = np.load(job.samples, allow_pickle=False)
    spec = job.spec
    np.save(job.outputs, run_in_batches(call, samples, batch=spec.batch), allow_pickle=False)
    return tuple(
        measure(call, batch_of(samples, size), warmup=spec.warmup, repetitions=spec.repetitions)
        for size in spec.batch_sizes
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
