"""Build the engines that a spec asks for, hold each against the original, and time the original the same way."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from registry.engines.batches import batch_of
from registry.engines.candidate import try_candidate
from registry.engines.choice import choose
from registry.engines.job import Job
from registry.engines.latency import measure
from registry.engines.parity import compare
from registry.engines.records import Latency, OnnxModel, VariantReport
from registry.errors import EngineError
from registry.progress import track

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.engines.spec import OptimizeSpec

__all__ = ["BuiltVariant", "build_variants", "choose", "measure_original"]

Score = Callable[["NDArray[Any]"], float]


class BuiltVariant(VariantReport):
    """A report with the folder that holds its files; None where there are none. The folder is not part of its JSON."""

    folder: Path | None = Field(default=None, exclude=True)


def build_variants(  # noqa: PLR0913 - each is one thing that the caller has at hand
    onnx: OnnxModel,
    samples: NDArray[Any],
    reference: NDArray[Any],
    *,
    spec: OptimizeSpec,
    folder: Path,
    score: Score | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> list[BuiltVariant]:
    """Try every engine of the spec, each in a process of its own, and return one report for each, in the spec's order.

    A candidate that crashes, hangs, is not installed or cannot run on this machine is reported as such, never fatal.

    Args:
        onnx: What to build from, with one input and one output.
        samples: Real inputs, shape (n, ...), n >= 1.
        reference: The original's outputs for them, shape (n, ...).
        spec: The engines, the batch sizes, the tolerances and the time limit.
        folder: Where engines are put, each in a folder named by its key; an older one of the same key is replaced.
        score: Gives the pipeline's own metric for outputs of shape (n, ...), higher is better.
        report: Is told one line at a time what is going on.

    Raises:
        EngineError: The model has several inputs or outputs, there are no samples, or the original's score is NaN.
    """
    onnx.only_input()
    if len(samples) == 0 or len(samples) != len(reference):
        raise EngineError(
            f"engines are checked on real samples: {len(samples)} samples and {len(reference)} outputs of the original "
            "were given. Give at least one, and the original's output for each."
        )
    baseline_score = _baseline_score(score, reference)
    folder.mkdir(parents=True, exist_ok=True)
    variants = []
    # Beside the results, so that putting a finished engine in place is one rename.
    with (
        tempfile.TemporaryDirectory(prefix=".trying-", dir=folder) as scratch,
        track("building engines", len(spec.engines), "engines") as advance,
    ):
        samples_file = Path(scratch, "samples.npy")
        np.save(samples_file, np.ascontiguousarray(samples), allow_pickle=False)
        for engine in spec.engines:
            report(f"{engine}: building, checking and measuring")
            job = Job(engine=engine, onnx=onnx, samples=samples_file, folder=Path(scratch, engine), spec=spec)
            tried = _checked(job, try_candidate(job), reference, score=score, baseline_score=baseline_score)
            variants.append(_kept(job, tried, folder))
            report(f"{engine}: {_line(tried)}")
            advance(1)
    return variants


def _baseline_score(score: Score | None, reference: NDArray[Any]) -> float | None:
    if score is None:
        return None
    found = float(score(reference))
    if not math.isfinite(found):
        raise EngineError(f"the score of the original's outputs is {found}: a number is needed there.")
    return found


def _checked(
    job: Job, tried: VariantReport, reference: NDArray[Any], *, score: Score | None, baseline_score: float | None
) -> VariantReport:
    if tried.status != "measured":
        return tried
    outputs = np.load(job.outputs, allow_pickle=False)
    parity = compare(reference, outputs, atol=job.spec.atol, rtol=job.spec.rtol)
    found: dict[str, Any] = {"parity": parity, "reason": parity.reason}
    # Outputs of another shape, or with NaN in them, are nothing that a score function must cope with.
    if score is not None and baseline_score is not None and parity.max_abs is not None:
        value = float(score(outputs))
        found |= {"score": value, "score_drop": baseline_score - value}
    return tried.model_copy(update=found)


def _kept(job: Job, tried: VariantReport, folder: Path) -> BuiltVariant:
    if tried.status not in {"measured", "built"}:
        return BuiltVariant(**dict(tried))
    place = folder / tried.key
    if place.exists():
        shutil.rmtree(place)
    job.engine_folder.replace(place)
    return BuiltVariant(**dict(tried), folder=place)


def _line(tried: VariantReport) -> str:
    if tried.status == "built":
        return tried.reason
    if tried.status != "measured" or tried.parity is None:
        return f"{tried.status}: {tried.reason}"
    times = ", ".join(f"{latency.p50_ms:.3g} ms for a batch of {latency.batch}" for latency in tried.latency)
    verdict = "equal to the original" if tried.parity.passed else f"not equal: {tried.parity.reason}"
    return f"{times} (p50); {verdict}"


def measure_original(
    call: Callable[[NDArray[Any]], object], samples: NDArray[Any], *, spec: OptimizeSpec
) -> tuple[Latency, ...]:
    """Time the original in this process as the engines are timed: the same batches, repetitions and threads.

    Args:
        call: Takes (b, ...); for a torch module in evaluation mode and without gradients, as it would serve.
        samples: Real inputs, shape (n, ...), n >= 1.
        spec: The batch sizes, the repetitions and the threads.
    """
    with _torch_threads(spec.threads):
        return tuple(
            measure(call, batch_of(samples, size), warmup=spec.warmup, repetitions=spec.repetitions)
            for size in spec.batch_sizes
        )


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    # A call into torch has torch imported already; any other call is left as it is.
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
