"""Build the engines that a spec asks for, hold each against the original, and time the original the same way."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from registry.engines.backends import is_exact
from registry.engines.batches import batch_of
from registry.engines.candidate import try_candidate
from registry.engines.choice import choose, objection_to
from registry.engines.job import Job
from registry.engines.latency import measure
from registry.engines.parity import compare, compare_loosely
from registry.engines.records import Latency, OnnxModel, VariantReport
from registry.engines.scoring import Scorer
from registry.errors import EngineError
from registry.progress import track

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.engines.spec import OptimizeSpec

__all__ = ["BuiltVariant", "Material", "build_variants", "choose", "measure_original"]


class BuiltVariant(VariantReport):
    """A report with the folder that holds its files; None where there are none. The folder is not part of its JSON."""

    folder: Path | None = Field(default=None, exclude=True)


@dataclass(frozen=True)
class Material:
    """What candidates are built from, and what they are held against.

    Args:
        onnx: What to build from, with one input and one output.
        samples: Real inputs, shape (n, ...), n >= 1.
        reference: The original's outputs for them, shape (n, ...).
        calibration: Real inputs, shape (m, ...), m >= 1, that ranges are taken from; the samples where there are no
            others.
        golden: The inputs that were kept with the version, if any.
        scorer: The pipeline's own metric, if there is one.
        program: The torch program that the ONNX was made from, if it was.
    """

    onnx: OnnxModel
    samples: NDArray[Any]
    reference: NDArray[Any]
    calibration: NDArray[Any] | None = None
    golden: NDArray[Any] | None = None
    scorer: Scorer | None = None
    program: Path | None = None

    def check(self) -> None:
        """Check what every candidate relies on.

        Raises:
            EngineError: The model has several inputs or outputs, there are no samples, or the original's score is NaN.
        """
        self.onnx.only_input()
        if len(self.samples) == 0 or len(self.samples) != len(self.reference):
            raise EngineError(
                f"engines are checked on real samples: {len(self.samples)} samples and {len(self.reference)} outputs "
                "of the original were given. Give at least one, and the original's output for each."
            )
        _ = self.baseline_score

    @cached_property
    def baseline_score(self) -> float | None:
        """The metric of the original's outputs, computed once; None without a scorer."""
        return None if self.scorer is None else self.scorer.of_original(self.reference)


@dataclass(frozen=True)
class KeptEngines:
    """The engines that were built before, by their keys; ``bring`` copies one into a folder, and returns its report."""

    keys: frozenset[str] = frozenset()
    bring: Callable[[str, Path], VariantReport] | None = None


NO_ENGINES = KeptEngines()


def build_variants(
    material: Material,
    *,
    spec: OptimizeSpec,
    folder: Path,
    kept: KeptEngines = NO_ENGINES,
    report: Callable[[str], None] = lambda _: None,
) -> list[BuiltVariant]:
    """Try every engine of the spec, each in a process of its own, and return one report for each, in the spec's order.

    A candidate that crashes, hangs, is not installed or cannot run on this machine is reported as such, never fatal.

    Args:
        material: What to build from, and what to hold against.
        spec: The engines, the batch sizes, the tolerances and the limits.
        folder: Where engines are put, each in a folder named by its key; an older one of the same key is replaced.
        kept: What was built before; it is measured, and not built again.
        report: Is told one line at a time what is going on.

    Raises:
        EngineError: The model has several inputs or outputs, there are no samples, or the original's score is NaN.
    """
    material.check()
    folder.mkdir(parents=True, exist_ok=True)
    variants = []
    # Beside the results, so that putting a finished engine in place is one rename.
    with (
        tempfile.TemporaryDirectory(prefix=".trying-", dir=folder) as scratch,
        track("building engines", len(spec.engines), "engines") as advance,
    ):
        for job in _jobs(material, spec, Path(scratch)):
            report(f"{job.engine}: building, checking and measuring")
            tried = _checked(job, _tried(job, kept, report), material)
            variants.append(_kept(job, tried, folder))
            report(f"{job.engine}: {_line(tried)}")
            advance(1)
    return variants


def _jobs(material: Material, spec: OptimizeSpec, scratch: Path) -> Iterator[Job]:
    calibration = material.samples if material.calibration is None else material.calibration
    arrays = {"samples": material.samples, "calibration": calibration[: spec.calibration.samples]}
    if material.golden is not None:
        arrays["golden"] = material.golden
    files = {}
    for name, array in arrays.items():
        files[name] = scratch / f"{name}.npy"
        np.save(files[name], np.ascontiguousarray(array), allow_pickle=False)
    for engine in spec.engines:
        yield Job(
            engine=engine,
            onnx=material.onnx,
            folder=scratch / engine,
            spec=spec,
            program=material.program,
            samples=files["samples"],
            calibration=files["calibration"],
            golden=files.get("golden"),
        )


def _tried(job: Job, kept: KeptEngines, report: Callable[[str], None]) -> VariantReport:
    """Try a candidate; its process says by the key whether it was built before, because its libraries are there."""
    tried = try_candidate(job.model_copy(update={"known": tuple(sorted(kept.keys))}))
    if kept.bring is None or not job.was_built.exists():
        return tried
    report(f"{job.engine}: it was built before, and is only measured")
    before = kept.bring(tried.key, job.engine_folder)
    again = try_candidate(job.model_copy(update={"built": before.file}))
    return again.model_copy(update={"build_s": before.build_s})


def _checked(job: Job, tried: VariantReport, material: Material) -> VariantReport:
    if tried.status != "measured":
        return tried
    spec, reference, scorer = job.spec, material.reference, material.scorer
    outputs = np.load(job.outputs, allow_pickle=False)
    if is_exact(job.engine):
        parity = compare(reference, outputs, atol=spec.atol, rtol=spec.rtol)
    else:
        parity = compare_loosely(reference, outputs, min_cosine=spec.min_cosine, min_agreement=spec.min_agreement)
    found: dict[str, Any] = {"parity": parity, "reason": parity.reason}
    baseline_score = material.baseline_score
    # Outputs of another shape, or with NaN in them, are nothing that a score function must cope with; and a score that
    # is NaN is none: nothing can be said to be better than it, and the candidate would pass.
    if (
        scorer is not None
        and baseline_score is not None
        and parity.max_abs is not None
        and math.isfinite(score := scorer.of(outputs))
    ):
        found |= {
            "score": score,
            "score_drop": baseline_score - score,
            "score_interval": scorer.interval(outputs, spec=spec),
            "drop_interval": scorer.drop_interval(reference, outputs, spec=spec),
        }
    judged = tried.model_copy(update=found)
    return judged.model_copy(update={"objection": objection_to(judged, spec=spec, scored=scorer is not None)})


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
    times = ", ".join(
        f"{latency.p50_ms:.3g} ms for a batch of {latency.batch}"
        for latency in tried.latency
        if latency.threads == tried.latency[0].threads
    )
    same = "equal to the original" if is_exact(tried.engine) else "close to the original"
    return f"{times} (p50); {same if tried.parity.passed else f'not equal: {tried.parity.reason}'}"


def measure_original(
    call: Callable[[NDArray[Any]], object], samples: NDArray[Any], *, spec: OptimizeSpec
) -> tuple[Latency, ...]:
    """Time the original in this process as the engines are timed: the same batches, repetitions and threads.

    Args:
        call: Takes (b, ...); for a torch module in evaluation mode and without gradients, as it would serve.
        samples: Real inputs, shape (n, ...), n >= 1.
        spec: The batch sizes, the repetitions and the threads.
    """
    # Torch alone can be told how many threads to use: whoever calls asks for several only where torch computes.
    found = []
    for threads in spec.threads:
        with _torch_threads(threads):
            for size in spec.batch_sizes:
                once = measure(call, batch_of(samples, size), warmup=spec.warmup, repetitions=spec.repetitions)
                found.append(once.model_copy(update={"threads": threads}))
    return tuple(found)


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
