"""ONNX as the pivot: one ONNX file from whatever framework, and the proof that it gives what its source gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from registry.engines.batches import run_in_batches
from registry.engines.onnx_file import check_onnx
from registry.engines.parity import compare
from registry.engines.session import open_onnx
from registry.errors import EngineError, InvalidInputError
from registry.frameworks import ModelFramework, read_samples
from registry.frameworks.objects import framework_of

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel, Parity
    from registry.engines.spec import OptimizeSpec
    from registry.records import ModelVersion
    from registry.signature import TensorSpec

GIVEN = "given"
RECORDED = "recorded with the version"
GENERATED = "generated from the signature"

_SEED = 20
_BATCH = 8
_FREE_SIZE = 8


def to_onnx(  # noqa: PLR0913 - each is one thing that the caller has at hand
    loaded: object, source: Path, samples: NDArray[Any], path: Path, *, spec: OptimizeSpec, full_name: str
) -> OnnxModel:
    """Return a checked ONNX file with one input and one output that computes what ``predictor_of(loaded)`` computes.

    That it does is for ``source_parity`` to show. A registered ONNX file is used where it lies, external data and all.

    Args:
        loaded: What ``load`` gave: a torch module, a scikit-learn estimator, a TensorFlow model, an ONNX ModelProto.
        source: The folder with the version's files; only read, and only for an ONNX model.
        samples: Real inputs, shape (n, ...), n >= 1, in the dtype that the model takes.
        path: The file to write, except for an ONNX model; weights above 2 GB go beside it.
        spec: Its ``opset`` is the highest asked for (the record says which it became), ``batch`` the free axis' range.
        full_name: Name and version, for messages.

    Raises:
        EngineError: It cannot be exported, or has several inputs or outputs; or the registered file is not valid ONNX,
            or reaches for data outside its folder.
        MissingExtraError: What converts from its framework is not installed.
    """
    match framework_of(loaded):
        case ModelFramework.PYTORCH if callable(loaded):
            from registry.engines.export import export_torch

            onnx = export_torch(cast("torch.nn.Module", loaded), samples, path, spec=spec)
        case ModelFramework.SKLEARN:
            from registry.engines.export_sklearn import export_sklearn

            onnx = export_sklearn(loaded, samples, path, spec=spec, full_name=full_name)
        case ModelFramework.TENSORFLOW:
            from registry.engines.export_tensorflow import export_tensorflow

            onnx = export_tensorflow(loaded, samples, path, spec=spec, full_name=full_name)
        case ModelFramework.ONNX:
            onnx = check_onnx(_only_onnx(source, full_name))
        case _:
            raise EngineError(
                f"{full_name} was loaded as {type(loaded).__name__}, and engines are built from torch modules, "
                "scikit-learn estimators, TensorFlow models and ONNX models: register it as one of them."
            )
    onnx.only_input()
    return onnx


def source_parity(
    onnx: OnnxModel, call: Callable[[NDArray[Any]], NDArray[Any]], samples: NDArray[Any], *, spec: OptimizeSpec
) -> Parity:
    """Compare what onnxruntime gives for the samples with what the source framework gives for them.

    Numbers pass within the tolerances of ``spec``; labels and other whole numbers only if all are equal.

    Args:
        onnx: The file, as ``to_onnx`` returned it.
        call: The source, as ``predictor_of`` returns it.
        samples: Real inputs, shape (n, ...), n >= 1.
        spec: The tolerances, the range of batch sizes.

    Raises:
        EngineError: onnxruntime cannot load or run the file.
    """
    onnx.only_input()
    return onnx_parity(onnx, run_in_batches(call, samples, batch=spec.batch), samples, spec=spec)


def onnx_parity(onnx: OnnxModel, reference: NDArray[Any], samples: NDArray[Any], *, spec: OptimizeSpec) -> Parity:
    """Compare what onnxruntime gives for the samples with ``reference``, as ``source_parity`` does.

    Raises:
        EngineError: onnxruntime cannot load or run the file.
    """
    found = run_in_batches(open_onnx(onnx.path), samples, batch=spec.batch)
    if reference.dtype.kind in "iub":
        return compare(reference, found, atol=0.0, rtol=0.0)
    return compare(reference, found, atol=spec.atol, rtol=spec.rtol)


def samples_for(version: ModelVersion, folder: Path, given: NDArray[Any] | None) -> tuple[NDArray[Any], str]:
    """Return the samples to hold engines against, and in words where they are from.

    Those that were given; else those kept with the version (at most 64); else made up from its signature, the same ones
    each time: 8 of them, free axes beside the first of length 8 too. Made-up floats are standard normal. Made-up whole
    numbers are 0 and 1 alone, since they may be rows of an embedding, which has as few as two: they say little of what
    the model does with others.

    Args:
        version: Whose samples.
        folder: Where its files lie.
        given: Shape (n, ...), n >= 1, or None.

    Returns:
        The samples, shape (n, ...), and ``given``, ``recorded with the version`` or ``generated from the signature``.

    Raises:
        InvalidInputError: None were given or kept, and there is no signature of one input to make any from.
        RefusedError: Those kept with the version are damaged.
    """
    if given is not None:
        return given, GIVEN
    kept = read_samples(folder)
    if kept is not None:
        return kept[0], RECORDED
    if version.signature is None or not version.signature.inputs:
        raise InvalidInputError(
            f"{version.full_name} was registered without samples, and engines are checked on real ones: give samples=."
        )
    inputs = version.signature.inputs
    if len(inputs) > 1 or not inputs[0].shape or _dtype(inputs[0]) is None:
        shown = ", ".join(f"{one.name} ({one.dtype}, shape {one.shape})" for one in inputs)
        raise InvalidInputError(
            f"{version.full_name} was registered without samples, and none can be made up: its signature has the "
            f"inputs {shown}, and one array of numbers whose first axis is the batch is asked for. Give samples=."
        )
    return _generated(inputs[0]), GENERATED


def _generated(spec: TensorSpec) -> NDArray[Any]:
    rows, *rest = spec.shape
    shape = (_BATCH if rows < 0 else rows, *(_FREE_SIZE if size < 0 else size for size in rest))
    random, dtype = np.random.default_rng(_SEED), _dtype(spec)
    if dtype is not None and dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)


def _dtype(spec: TensorSpec) -> np.dtype[Any] | None:
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:
        return None
    return dtype if dtype.kind in "fiub" else None


def _only_onnx(source: Path, full_name: str) -> Path:
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() == ".onnx")
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.relative_to(source).as_posix() for path in found) or "none"
    raise EngineError(
        f"{full_name} was loaded as an ONNX model, and one .onnx file is asked for; its folder has {names}."
    )
