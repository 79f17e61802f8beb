"""One engine in a process of its own: opened once, then timed whenever it is asked: a crash costs one row."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Call = Callable[["NDArray[Any]"], "NDArray[Any]"]

Kind = Literal["eager", "compile", "onnxruntime", "openvino", "kept", "chosen"]
"""How it is opened: torch's own ways, a kept file by its library alone, a kept engine or what was chosen by us."""

NAME, VERSION = "network", 1
SAMPLES, OUTPUTS = "samples.npy", "outputs.npy"
LEAST_CALLS, MOST_CALLS = 2, 2000


@dataclass(frozen=True)
class Task:
    """What one process opens: ``folder`` is its own, ``samples`` a file of inputs, ``key`` that of a kept engine."""

    kind: Kind
    network: str
    threads: int
    batches: tuple[int, ...]
    folder: str
    samples: str
    registry: str = ""
    key: str = ""

    def as_argument(self) -> str:
        """Return it as the one argument of this program."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_argument(cls, argument: str) -> Task:
        """Return what ``as_argument`` wrote."""
        fields = json.loads(argument)
        return cls(**{**fields, "batches": tuple(fields["batches"])})


def opened(task: Task) -> tuple[Call, str]:
    """Return how to call what the task names, and what is to be said of it."""
    match task.kind:
        case "eager":
            return _torch(task, compiled=False), ""
        case "compile":
            return _torch(task, compiled=True), ""
        case "chosen":
            from registry import ModelRegistry

            engine = ModelRegistry(task.registry).load_engine(NAME, VERSION, threads=task.threads)
            return engine.call, f"load_engine opens {engine.name or 'the original'}"
    return _kept(task)


def _torch(task: Task, *, compiled: bool) -> Call:
    import torch

    from benchmarks.networks import BY_NAME

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(task.threads)
    module: Any = BY_NAME[task.network]().to(device)
    if compiled:
        # One program for each batch size, as fast as it gets; the second would else be one for all sizes.
        module = torch.compile(module, dynamic=False)

    def call(batch: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            found: NDArray[Any] = module(torch.from_numpy(batch).to(device)).cpu().numpy()
        return found

    return call


def _kept(task: Task) -> tuple[Call, str]:
    """Return an engine that the registry keeps, opened by its library alone where that is simple."""
    from registry import ModelRegistry
    from registry.engines.backends import backend_of
    from registry.engines.key import parse_key

    models, folder = ModelRegistry(task.registry), Path(task.folder, "engine")
    report = next(one.report for one in models.get_variants(NAME, VERSION) if one.key == task.key)
    models.download_variant(NAME, VERSION, task.key, folder)
    file = folder / str(report.file)
    match task.kind:
        case "onnxruntime":
            return _onnxruntime(file, task.threads), ""
        case "openvino":
            return _openvino(file, task.threads, str(report.key_fields["precision"])), ""
    call = backend_of(report.engine).open_engine(file, parse_key(report.key_fields), threads=task.threads)
    return call, f"built in {report.build_s or 0:.0f} s"


def _onnxruntime(file: Path, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def call(batch: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = session.run(None, {name: batch})[0]
        return found

    return call


def _openvino(file: Path, threads: int, precision: str) -> Call:
    import openvino

    wanted = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    model = openvino.Core().compile_model(str(file), "CPU", wanted)

    def call(batch: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = model(batch)[0]
        return found

    return call


def timed(call: Call, batch: NDArray[Any], seconds: float) -> dict[str, float]:
    """Return p50 (wall) and mean CPU time of a call, in milliseconds, from calls one after another.

    Args:
        call: Takes (b, ...) and returns when the answer is there.
        batch: Shape (b, ...).
        seconds: How long to go on, at least ``LEAST_CALLS`` calls.
    """
    call(batch)  # others had the caches since the last time
    taken_ms: list[float] = []
    begun, cpu = time.perf_counter(), time.process_time()
    while len(taken_ms) < LEAST_CALLS or (time.perf_counter() - begun < seconds and len(taken_ms) < MOST_CALLS):
        start_ns = time.perf_counter_ns()
        call(batch)
        taken_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    cpu_ms = 1e3 * (time.process_time() - cpu) / len(taken_ms)
    return {"p50_ms": float(np.median(taken_ms)), "cpu_ms": cpu_ms, "calls": len(taken_ms)}


def main(argument: str) -> None:
    """Open, answer the samples, say so, and then time a batch for each line ``{"batch": b, "seconds": s}``."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that greets on standard output must not garble the answers

    def say(answer: dict[str, Any]) -> None:
        channel.write(json.dumps(answer) + "\n")
        channel.flush()

    task = Task.from_argument(argument)
    samples: NDArray[Any] = np.load(task.samples, allow_pickle=False)
    batches = {size: np.ascontiguousarray(samples[np.arange(size) % len(samples)]) for size in task.batches}
    begun = time.perf_counter()
    call, words = opened(task)
    for batch in batches.values():
        call(batch)
    open_s, rows = time.perf_counter() - begun, max(batches)
    # In one of the sizes that are known already: torch.compile would compile again for another.
    pieces = [samples[np.arange(start, start + rows) % len(samples)] for start in range(0, len(samples), rows)]
    outputs = np.concatenate([call(np.ascontiguousarray(piece)) for piece in pieces])[: len(samples)]
    np.save(Path(task.folder, OUTPUTS), outputs, allow_pickle=False)
    say({"open_s": open_s, "words": words})
    for line in sys.stdin:
        wish = json.loads(line)
        say(timed(call, batches[wish["batch"]], wish["seconds"]))


if __name__ == "__main__":
    main(sys.argv[1])
