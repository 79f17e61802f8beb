"""TensorRT and TensorRT-RTX, in full precision, or typed for less."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast

import numpy as np

from registry.engines import tensorrt
from registry.engines.backends import Call, own_key, precision_of
from registry.engines.backends.onnx_files import digest_of_file
from registry.engines.job import Job
from registry.engines.key import EngineKey, HardwareCompatibility, TensorRtKey, mismatch
from registry.engines.records import OnnxModel
from registry.errors import EngineError, NotHereError

FILE_NAME = "model.plan"


def missing(job: Job) -> str | None:
    """Return in words what is not installed: TensorRT, or what types a model for this precision; or None."""
    if tensorrt.find_tensorrt() is None:
        return str(tensorrt.missing_tensorrt())
    try:
        _typed_by(job)
    except EngineError as lacks:
        return str(lacks)
    return None


def key_of(job: Job) -> TensorRtKey:
    """Return the key of the engine that ``build`` builds.

    Raises:
        EngineError: The model has a free axis other than the batch, or there is no such target.
    """
    options = _options(job)
    return tensorrt.key_of(_found(), job.onnx, batch=job.spec.batch, options=options, typed_by=_typed_by(job))


def build(job: Job, key: EngineKey) -> str:
    """Type the model as its key says, build the engine and write its plan into the engine's folder.

    Raises:
        EngineError: The model cannot be typed, or the parser or the builder refuses it.
    """
    from registry.engines.tensorrt_build import build_engine, timings_of, timings_sha256

    own, backend = own_key(key, TensorRtKey), _found()
    timings = timings_of(backend)
    if began_with := timings_sha256(timings):
        job.timings.write_text(began_with, encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="typed-", dir=job.folder) as scratch:
        plan = build_engine(backend, _typed(job, Path(scratch)), own, timings=timings)
    (job.engine_folder / FILE_NAME).write_bytes(plan)
    return FILE_NAME


def open_engine(file: Path, key: EngineKey, *, threads: int) -> Call:  # noqa: ARG001 - the GPU has its own
    """Open a plan that was checked.

    Raises:
        NotHereError: There is no GPU, or none that it was built for.
        EngineError: TensorRT refuses it.
    """
    from registry.engines.tensorrt_run import TensorRtEngine

    own, backend = own_key(key, TensorRtKey), _found()
    # The key before the plan: another GPU's plan is refused by TensorRT in words that name neither.
    if trouble := tensorrt.why_not_here(backend) or mismatch(own.model_dump(mode="json")):
        raise NotHereError(f"built with {own.package} {own.version}, not run: {trouble}")
    return TensorRtEngine(backend, file.read_bytes())


def _found() -> tensorrt.TensorRt:
    backend = tensorrt.find_tensorrt()
    if backend is None:
        raise EngineError(str(tensorrt.missing_tensorrt()))
    return backend


def _options(job: Job) -> tensorrt.TensorRtOptions:
    asked, precision = job.spec.tensorrt, precision_of(job.engine)
    return tensorrt.TensorRtOptions(
        precision=cast("tensorrt.Precision", precision),
        workspace_bytes=asked.workspace_mib << 20,
        optimization_level=asked.optimization_level,
        hardware_compatibility=cast("HardwareCompatibility", asked.hardware_compatibility.upper()),
        targets=asked.targets,
    )


def _typed_by(job: Job) -> tensorrt.TypedBy | None:
    if precision_of(job.engine) in tensorrt.FULL_PRECISIONS:
        return None
    from registry.engines.tensorrt_types import TypedPrecision, recipe_of

    recipe = recipe_of(cast("TypedPrecision", precision_of(job.engine)), method=job.spec.calibration.method)
    digest = digest_of_file(job.calibration) if recipe.uses_calibration else None
    return tensorrt.TypedBy(recipe=recipe.words, calibration_sha256=digest)


def _typed(job: Job, folder: Path) -> OnnxModel:
    if precision_of(job.engine) in tensorrt.FULL_PRECISIONS:
        return job.onnx
    from registry.engines.tensorrt_types import TypedPrecision, typed

    calibration = np.load(job.calibration, allow_pickle=False)
    precision = cast("TypedPrecision", precision_of(job.engine))
    return typed(job.onnx, precision, calibration, folder, method=job.spec.calibration.method)[0]
