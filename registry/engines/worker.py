"""Try one candidate in a process of its own: ``python -m registry.engines.worker JOB.json``.

Engines crash: onnxruntime has segfaulted on valid models. Here that costs one candidate, and the flow goes on.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from registry.engines.backends import Backend, Call, backend_of
from registry.engines.batches import batch_of, run_in_batches
from registry.engines.job import GOLDEN_OUTPUTS, Job
from registry.engines.key import EngineKey, engine_key
from registry.engines.latency import measure
from registry.engines.records import Latency, VariantReport
from registry.errors import EngineError, NotHereError

if TYPE_CHECKING:
    from collections.abc import Iterator

GRACE_S = 1


def main(arguments: list[str]) -> int:
    """Try the candidate that the job file describes and write its report; 0 unless there is no report."""
    job = Job.model_validate_json(Path(arguments[0]).read_bytes())
    _end_with_the_time_limit(job.spec.time_limit_s)
    started = job.without_key()
    try:
        report = _tried(job, started)
    except EngineError as refusal:
        report = _failed(job, started, str(refusal))
    except OSError as refusal:  # no space left, above all
        report = _failed(job, started, f"its files could not be written: {refusal.strerror or refusal}")
    except MemoryError:
        report = _failed(job, started, "there was too little memory")
    job.write_result(report)
    return 0


def _end_with_the_time_limit(time_limit_s: float) -> None:
    # The parent kills us in time. If it was itself killed, nobody would: the alarm ends even a native call that hangs.
    if hasattr(signal, "alarm"):
        signal.alarm(math.ceil(time_limit_s) + GRACE_S)


def _tried(job: Job, started: VariantReport) -> VariantReport:
    backend = backend_of(job.engine)
    if lacks := backend.missing(job):
        return started.model_copy(update={"status": "unavailable", "reason": lacks})
    key = backend.key_of(job)
    started = _with_key(job, started, key)
    if job.built is None and started.key in job.known:
        job.was_built.touch()
        return started
    begun = time.perf_counter()
    job.engine_folder.mkdir(exist_ok=True)
    file = backend.build(job, key) if job.built is None else job.built
    built = _built(job, started, file, time.perf_counter() - begun)
    try:
        call = backend.open_engine(job.engine_folder / file, key, threads=job.spec.threads[0])
    except NotHereError as why_not:
        return built.model_copy(update={"status": "built", "reason": str(why_not)})
    samples = np.load(job.samples, allow_pickle=False)
    np.save(job.outputs, run_in_batches(call, samples, batch=job.spec.batch), allow_pickle=False)
    if job.golden is not None:
        golden = run_in_batches(call, np.load(job.golden, allow_pickle=False), batch=job.spec.batch)
        np.save(job.engine_folder / GOLDEN_OUTPUTS, golden, allow_pickle=False)
    latency = tuple(_measured(job, backend, call, file, key))
    return built.model_copy(update={"status": "measured", "latency": latency})


def _measured(job: Job, backend: Backend, call: Call, file: str, key: EngineKey) -> Iterator[Latency]:
    samples, spec = np.load(job.samples, allow_pickle=False), job.spec
    for number, threads in enumerate(spec.threads):
        if number > 0:
            call = backend.open_engine(job.engine_folder / file, key, threads=threads)
        for size in spec.batch_sizes:
            found = measure(call, batch_of(samples, size), warmup=spec.warmup, repetitions=spec.repetitions)
            yield found.model_copy(update={"threads": threads})


def _with_key(job: Job, started: VariantReport, key: EngineKey) -> VariantReport:
    """Write down the key before anything can crash, so that the report of a crash has it."""
    fields = key.model_dump(mode="json")
    keyed = started.model_copy(update={"key_fields": fields, "key": engine_key(fields)})
    job.write_result(keyed)
    return keyed


def _failed(job: Job, started: VariantReport, reason: str) -> VariantReport:
    known = VariantReport.model_validate_json(job.result.read_bytes()) if job.result.exists() else started
    return known.model_copy(update={"reason": reason})


def _built(job: Job, started: VariantReport, file: str, build_s: float) -> VariantReport:
    size = sum(path.stat().st_size for path in job.engine_folder.rglob("*") if path.is_file())
    timings = job.timings.read_text(encoding="utf-8") if job.timings.exists() else None
    found = {"file": file, "size_bytes": size, "build_s": build_s, "timing_cache": timings, "reason": ""}
    return started.model_copy(update=found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
