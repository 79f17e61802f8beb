"""Judge engines: try every candidate, measure the original beside them, choose, and put the evidence together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.encoding import digest_of
from registry.engines.backends import Call
from registry.engines.batches import run_in_batches
from registry.engines.choice import choose
from registry.engines.judgement import (
    JudgedSamples,
    Judgement,
    Pivot,
    describe_machine,
)
from registry.engines.optimize import (
    NO_ENGINES,
    BuiltVariant,
    KeptEngines,
    Material,
    build_variants,
    measure_original,
)
from registry.engines.pivot import onnx_parity, samples_for, to_onnx
from registry.engines.records import Interval, Latency, OnnxModel, Parity, VariantReport
from registry.engines.scoring import Scorer
from registry.errors import EngineError
from registry.frameworks.kinds import ModelFramework
from registry.frameworks.predict import predictor_of
from registry.records import EngineChoice, ModelVersion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.engines.spec import OptimizeSpec


@dataclass(frozen=True)
class Original:
    """The model as it was registered: how to call it, the ONNX that engines are built from, and what to judge by.

    ``source`` says in words where the samples, shape (n, ...), came from; ``golden`` are the inputs kept with the
    version; ``program`` is the torch program for AOTInductor, where it was asked for and there is one. ``in_torch``
    says that torch computes it, which can be told how many threads to use; any other original is measured as it is.
    """

    call: Call
    onnx: OnnxModel
    samples: NDArray[Any]
    source: str
    golden: NDArray[Any] | None = None
    program: Path | None = None
    in_torch: bool = False

    @classmethod
    def of(  # noqa: PLR0913 - each is one thing that the caller has at hand
        cls,
        loaded: object,
        version: ModelVersion,
        folder: Path,
        *,
        samples: NDArray[Any] | None,
        scratch: Path,
        spec: OptimizeSpec,
    ) -> Original:
        """Return the original of a version, its ONNX made in ``scratch``.

        Args:
            loaded: The model, as ``load`` gives it.
            version: What it is.
            folder: The version's files.
            samples: What to judge by; None for those kept with the version, or made up from its signature.
            scratch: A folder for what is made.
            spec: The opset, the batch sizes and the engines.

        Raises:
            EngineError: It cannot be exported.
            InvalidInputError: There are no samples, and no signature to make some from.
        """
        from registry import frameworks

        given, source = samples_for(version, folder, samples)
        kept = frameworks.read_samples(folder)
        onnx = to_onnx(loaded, folder, given, scratch / "onnx" / "model.onnx", spec=spec, full_name=version.full_name)
        return cls(
            call=_call(loaded, onnx, version, spec),
            onnx=onnx,
            samples=given,
            source=source,
            golden=None if kept is None else kept[0],
            program=_program(loaded, given, scratch / "program", spec),
            in_torch=version.framework is ModelFramework.PYTORCH,
        )


def _call(loaded: object, onnx: OnnxModel, version: ModelVersion, spec: OptimizeSpec) -> Call:
    if version.framework is ModelFramework.ONNX:
        from registry.engines.session import open_onnx

        # With the threads that the engines get: otherwise it would be slower than it is.
        return open_onnx(onnx.path, threads=spec.threads[0])
    return predictor_of(loaded, version.full_name)


def _program(loaded: object, samples: NDArray[Any], folder: Path, spec: OptimizeSpec) -> Path | None:
    if "aotinductor" not in spec.engines:
        return None
    import torch

    if not isinstance(loaded, torch.nn.Module):
        return None
    from registry.engines.program import export_program

    try:
        return export_program(loaded, samples, folder, spec=spec)
    except EngineError:  # one candidate fewer; the ONNX of the same module was made
        return None


@dataclass(frozen=True)
class Judged:
    """What came of judging: a report for each engine asked for, the choice, and what they were held against."""

    original: Original
    parity: Parity
    variants: tuple[BuiltVariant, ...]
    baseline: tuple[Latency, ...]
    baseline_score: float | None
    baseline_interval: Interval | None
    choice: EngineChoice

    def evidence(self, version: ModelVersion, spec: OptimizeSpec, *, by: str, at: datetime) -> Judgement:
        """Return the whole evidence, as it is kept."""
        onnx, samples = self.original.onnx, np.ascontiguousarray(self.original.samples)
        return Judgement(
            model=version.name,
            version=version.version,
            at=at,
            by=by,
            machine=describe_machine(),
            spec=spec.model_dump(mode="json"),
            onnx=Pivot(
                sha256=onnx.sha256,
                opset=onnx.opset,
                ir_version=onnx.ir_version,
                files=onnx.files,
                parity=self.parity,
            ),
            samples=JudgedSamples(count=len(samples), source=self.original.source, digest=digest_of(samples.tobytes())),
            baseline=self.baseline,
            baseline_score=self.baseline_score,
            baseline_interval=self.baseline_interval,
            candidates=tuple(VariantReport.model_validate(one.model_dump()) for one in self.variants),
            chosen=self.choice.key,
            reason=self.choice.reason,
        )


def picture_of(judgement: Judgement) -> bytes:
    """Return the evidence as a plot, accuracy against latency, as PNG."""
    from registry.engines.plot import pareto_plot

    accuracy = "cosine with the original (worst sample)" if judgement.baseline_score is None else "score"
    title = f"Engines of {judgement.model}:{judgement.version}"
    return pareto_plot(judgement.points(), title=title, accuracy=accuracy)


def judge(  # noqa: PLR0913 - each is one thing that the caller has at hand
    original: Original,
    spec: OptimizeSpec,
    folder: Path,
    *,
    scorer: Scorer | None = None,
    calibration: NDArray[Any] | None = None,
    kept: KeptEngines = NO_ENGINES,
    report: Callable[[str], None] = lambda _line: None,
) -> Judged:
    """Try every engine of the spec, hold it against the original, and choose.

    Args:
        original: The model and the samples.
        spec: What to build, how to measure, and how to choose.
        folder: Where finished engines are put.
        scorer: The pipeline's own metric.
        calibration: Inputs, shape (m, ...), that the ranges of int8 come from; the samples without.
        kept: What was built before; it is measured, and not built again.
        report: Is told one line at a time what is going on.

    Raises:
        EngineError: The model has several inputs or outputs, there are no samples, or its score is NaN.
    """
    _check_batches(original.onnx, spec)
    reference = run_in_batches(original.call, original.samples, batch=spec.batch)
    parity = onnx_parity(original.onnx, reference, original.samples, spec=spec)
    report(f"onnx: {_parity_words(parity)}, on {len(original.samples)} samples {original.source}")
    material = Material(
        original.onnx,
        original.samples,
        reference,
        calibration=calibration,
        golden=original.golden,
        scorer=scorer,
        program=original.program,
    )
    variants = build_variants(material, spec=spec, folder=folder, kept=kept, report=report)
    timed = spec if original.in_torch else spec.model_copy(update={"threads": spec.threads[:1]})
    baseline = measure_original(original.call, original.samples, spec=timed)
    score = material.baseline_score
    choice = choose(variants, spec=spec, baseline=baseline, baseline_score=score)
    return Judged(
        original=original,
        parity=parity,
        variants=tuple(variants),
        baseline=baseline,
        baseline_score=score,
        baseline_interval=None if scorer is None else scorer.interval(reference, spec=spec),
        choice=EngineChoice(
            key=choice.key, reason=choice.reason, speedup=choice.speedup, baseline=baseline, baseline_score=score
        ),
    )


def _check_batches(onnx: OnnxModel, spec: OptimizeSpec) -> None:
    tensor = onnx.only_input()
    fixed = tensor.shape[0] if tensor.shape else None
    if fixed not in {-1, None} and {spec.batch.min, spec.batch.max} != {fixed}:
        only = f"batch: {{min: {fixed}, opt: {fixed}, max: {fixed}}} and batch_sizes: [{fixed}]"
        raise EngineError(
            f"the model takes batches of {fixed} and no others (input {tensor.name!r}, shape {tensor.shape}), and the "
            f"spec asks for {spec.batch.min} to {spec.batch.max}. Set {only}, or register it with a free batch."
        )


def _parity_words(parity: Parity) -> str:
    if parity.passed:
        return f"it computes what the model computes (largest difference {parity.max_abs:.2g})"
    return f"it does not compute what the model computes: {parity.reason}"
