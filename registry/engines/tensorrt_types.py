"""Type an ONNX model for TensorRT, which takes the precision of an engine from the ONNX alone.

Like ``registry.engines.typed``, for a process of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import onnx as onnx_package
import onnxruntime

from registry.base import Record
from registry.engines.modelopt import HOW_TO_GET_IT, converted, modelopt_python, modelopt_versions
from registry.engines.modelopt import METHODS as METHODS_OF_MODELOPT
from registry.engines.onnx_file import check_onnx
from registry.engines.typed import Method, is_large, moved, must_have_changed, quantized, quiet, save, scratch_in
from registry.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel

TypedPrecision = Literal["fp16", "bf16", "int8", "fp8"]


class Recipe(Record):
    """How a model of full precision gets another: ``words`` name the tool with its version, and go into the key."""

    words: str
    by_modelopt: bool
    uses_calibration: bool


def recipe_of(precision: TypedPrecision, *, method: Method = "minmax") -> Recipe:
    """Return how ``typed`` would type a model on this machine, without doing it.

    ModelOpt does it where an environment that has it is named (``MODELWAY_MODELOPT_PYTHON``), else onnxruntime.

    Raises:
        EngineError: Only ModelOpt can, and there is none; or it knows no such method.
    """
    if python := modelopt_python():
        if method not in METHODS_OF_MODELOPT:
            known = " or ".join(METHODS_OF_MODELOPT)
            raise EngineError(f"ModelOpt finds no ranges by {method}. Ask for {known}.")
        how = f"inputs and outputs kept, ranges by {method}"
        return Recipe(
            words=f"{precision} by {modelopt_versions(python)}, {how}", by_modelopt=True, uses_calibration=True
        )
    tool = f"onnxruntime {onnxruntime.__version__}"
    match precision:
        case "fp16":
            return Recipe(words=f"fp16 by {tool}, inputs and outputs kept", by_modelopt=False, uses_calibration=False)
        case "int8":
            return Recipe(words=f"int8 by {tool}, s8s8, ranges by {method}", by_modelopt=False, uses_calibration=True)
    raise EngineError(f"{precision} needs NVIDIA ModelOpt. {HOW_TO_GET_IT}")


def typed(
    onnx: OnnxModel,
    precision: TypedPrecision,
    calibration: NDArray[Any],
    folder: Path,
    *,
    method: Method = "minmax",
) -> tuple[OnnxModel, str]:
    """Return a model for TensorRT that computes in another precision, and how it was made, in words for the key.

    Args:
        onnx: The model in full precision, with one input and one output; both stay as they are.
        precision: What its arithmetic becomes, where the tool finds that it can.
        calibration: Real inputs, shape (n, ...), n >= 1.
        folder: Where ``model.onnx`` is written, with ``model.onnx.data`` where the weights are large; made if missing.
        method: How ranges are found for int8 and fp8.

    Raises:
        EngineError: There is no tool for it here, or it refuses the model; the message says why, and what to do.
    """
    recipe = recipe_of(precision, method=method)
    if not recipe.by_modelopt and precision == "int8":
        return quantized(onnx, calibration, folder, scheme="s8s8", method=method), recipe.words
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_in(folder) as scratch:
        if recipe.by_modelopt:
            found = converted(onnx, precision, calibration, scratch, method=method)
        else:
            found = _float16(onnx, scratch)
        if found.signature != onnx.signature:
            raise EngineError(f"{onnx.path.name} has other inputs or outputs once it is {precision}; leave that out.")
        must_have_changed(found, onnx, precision)
        return moved(found, folder), recipe.words


def _float16(onnx: OnnxModel, scratch: Path) -> OnnxModel:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel as Graph

    given, result = scratch / "given.onnx", scratch / "model.onnx"
    try:
        with quiet():
            # By files, for shapes are inferred in memory up to 2 GB only.
            model = onnx_package.load(str(onnx.path))
            save(model, given, large=is_large(onnx))
            onnx_package.shape_inference.infer_shapes_path(str(given), str(given))
            model = onnx_package.load(str(given))
            model = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
            Graph(model).topological_sort()  # it puts the casts of inputs last
            save(model, result, large=is_large(onnx))
    except Exception as refusal:
        why = " ".join(str(refusal).split()) or type(refusal).__name__
        raise EngineError(f"onnxruntime cannot make {onnx.path.name} fp16: {why}. Leave fp16 out.") from refusal
    return check_onnx(result)
