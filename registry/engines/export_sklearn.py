"""Turn a scikit-learn estimator into an ONNX file that gives what its ``predict``, else its ``transform``, gives."""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from registry.engines.onnx_writing import write_onnx
from registry.engines.session import open_onnx
from registry.errors import EngineError, MissingExtraError
from registry.frameworks.sklearn import predictor

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel
    from registry.engines.spec import OptimizeSpec

_ML_OPSET = 3
"""Of the operators for classical models; onnxruntime runs those of later ones for fewer types."""


def export_sklearn(model: Any, samples: NDArray[Any], path: Path, *, spec: OptimizeSpec, full_name: str) -> OnnxModel:
    """Export an estimator or a pipeline that takes one array of numbers, with a free first axis named ``batch``.

    Of a classifier the labels are exported, as ``predict`` gives them, and no probabilities. The input has the dtype
    of the samples. Where skl2onnx or onnxruntime has no such operators in it (most trees know float32 alone, as
    scikit-learn's own do inside), the ONNX casts to float32 first; hold it against the estimator.

    Args:
        model: A fitted estimator.
        samples: Real inputs, shape (n, features), n >= 1.
        path: The file to write; an existing one is replaced.
        spec: Its ``opset``, at most that which skl2onnx writes.
        full_name: Name and version, for messages.

    Raises:
        EngineError: It does not take one array (columns that are asked for by name), gives texts as labels, or holds an
            estimator that skl2onnx cannot convert, which is named.
        MissingExtraError: skl2onnx is not installed.
    """
    try:
        importlib.import_module("skl2onnx")
    except ImportError as error:
        raise MissingExtraError("skl2onnx", "sklearn", "an ONNX file of a scikit-learn model") from error
    answers = _answers(model, samples[:2], full_name)
    refusals: list[Exception] = []
    for dtype in dict.fromkeys((samples.dtype, np.dtype(np.float32))):
        try:
            converted = _converted(model, samples[:2], dtype, spec.opset)
            _like_predict(converted, samples[:2], answers)
            written = write_onnx(converted, path)
            if open_onnx(path)(samples[:2]).shape == answers.shape:
                return written
            refusals.append(EngineError(f"what skl2onnx made of it gives another shape than {answers.shape}."))
        except Exception as refusal:  # noqa: BLE001 - skl2onnx raises anything; what it was is told below
            refusals.append(refusal)
        path.unlink(missing_ok=True)
    raise _refused(model, refusals[-1], full_name) from refusals[-1]


def _answers(model: Any, rows: NDArray[Any], full_name: str) -> NDArray[Any]:
    try:
        answers = predictor(model)(rows)
    except Exception as error:
        # A pipeline may hold the user's own estimators, which may raise anything.
        raise EngineError(
            f"{full_name} cannot be exported to ONNX: its {type(model).__name__} does not take one array of shape "
            f"{rows.shape} and dtype {rows.dtype} ({_first_line(error)}). Columns that are asked for by name, or "
            "inputs of several types, do not go into one array: fit it on an array, with columns by number."
        ) from error
    if answers.dtype.kind not in "fiub":
        shown = ", ".join(str(label) for label in np.unique(answers)[:3])
        raise EngineError(
            f"{full_name} cannot be exported to ONNX: its {type(model).__name__} gives texts as labels ({shown}, ...), "
            "and engines give numbers. Fit it on numbers (sklearn.preprocessing.LabelEncoder), and keep the names in "
            "the version's parameters."
        )
    return answers


def _converted(model: Any, rows: NDArray[Any], dtype: np.dtype[Any], opset: int) -> onnx.ModelProto:
    skl2onnx = importlib.import_module("skl2onnx")
    data_types = importlib.import_module("skl2onnx.common.data_types")
    opsets = {"": min(opset, skl2onnx.get_latest_tested_opset_version()), "ai.onnx.ml": _ML_OPSET}
    typed = type(data_types.guess_data_type(rows.astype(dtype))[0][1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skl2onnx reads attributes that scikit-learn 1.9 calls deprecated
        converted: onnx.ModelProto = skl2onnx.convert_sklearn(
            model,
            name="model",
            initial_types=[("input", typed([None, *rows.shape[1:]]))],
            target_opset=opsets,
            custom_conversion_functions=_without_booleans(),
        )
    return converted


def _without_booleans() -> dict[type, Callable[..., None]]:
    """Return converters for the two whose leaves skl2onnx 1.20 marks with False, which protobuf 7 refuses."""
    ensembles = importlib.import_module("sklearn.ensemble")
    registered = importlib.import_module("skl2onnx.common._registration")

    def fixed(kind: str) -> Callable[..., None]:
        def convert(scope: Any, operator: Any, container: Any) -> None:
            add_node = container.add_node

            def add(*arguments: Any, **attributes: Any) -> None:
                name = "nodes_missing_value_tracks_true"
                if name in attributes:
                    attributes[name] = [int(one) for one in attributes[name]]
                add_node(*arguments, **attributes)

            container.add_node = add
            try:
                registered.get_converter(f"Sklearn{kind}")(scope, operator, container)
            finally:
                container.add_node = add_node

        return convert

    kinds = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
    return {getattr(ensembles, kind): fixed(kind) for kind in kinds}


def _like_predict(model: onnx.ModelProto, rows: NDArray[Any], answers: NDArray[Any]) -> None:
    """Leave the first output alone, of as many axes as the estimator's own, and take the dtype of ``rows``."""
    graph = model.graph
    if len(graph.input) != 1:
        raise EngineError(f"it takes {len(graph.input)} inputs, and one array is asked for.")
    given, taken = graph.input[0].type.tensor_type, onnx.helper.np_dtype_to_tensor_dtype(rows.dtype)
    if given.elem_type != taken:
        name = graph.input[0].name
        graph.node.insert(0, onnx.helper.make_node("Cast", ["as_given"], [name], to=given.elem_type))
        graph.input[0].name, given.elem_type = "as_given", taken
    # Labels and numbers come first; what else there is (scores, a ZipMap of probabilities) nothing asks for any more.
    del graph.output[1:]
    first = graph.output[0]
    if answers.ndim == 1 and len(first.type.tensor_type.shape.dim) > 1:  # (n, 1) where predict gives (n,)
        # Not Squeeze: skl2onnx writes the lowest opset that its operators need, and Squeeze changed in 13.
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), "one_axis"))
        graph.node.append(onnx.helper.make_node("Reshape", [first.name, "one_axis"], ["flat"]))
        first.CopyFrom(onnx.helper.make_tensor_value_info("flat", first.type.tensor_type.elem_type, [None]))


def _refused(model: Any, refusal: BaseException, full_name: str) -> EngineError:
    while refusal.__cause__ is not None:  # skl2onnx puts all attributes of a node into the error around the cause
        refusal = refusal.__cause__
    return EngineError(
        f"{full_name} cannot be exported to ONNX: skl2onnx {importlib.metadata.version('skl2onnx')} does not convert "
        f"its {type(model).__name__}: {_first_line(refusal)} Use estimators that it knows "
        "(skl2onnx.supported_converters()), or register an ONNX file."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
