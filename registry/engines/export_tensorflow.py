"""Turn a Keras model or a SavedModel into an ONNX file by way of tf2onnx."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import logging
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from registry.engines.onnx_writing import write_onnx
from registry.errors import EngineError, MissingExtraError
from registry.frameworks.tensorflow import served_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel
    from registry.engines.spec import OptimizeSpec

_LARGEST_BYTES = (1 << 31) - (1 << 24)
"""Protobuf ends at 2 GiB, and TensorFlow's frozen graph is one message: weights, and some room for the graph."""


def export_tensorflow(
    model: Any, samples: NDArray[Any], path: Path, *, spec: OptimizeSpec, full_name: str
) -> OnnxModel:
    """Export a model that takes one tensor, as it infers (``training=False``), with a free first axis named ``batch``.

    For ResNet-50 it takes half a minute and 6.5 GB of memory: tf2onnx copies the graph again and again.

    Args:
        model: A Keras model, or what ``tf.saved_model.load`` gave.
        samples: Real inputs, shape (n, ...), n >= 1, in the dtype that the model takes.
        path: The file to write; an existing one is replaced.
        spec: Its ``opset``, at most the 18 that tf2onnx writes.
        full_name: Name and version, for messages.

    Raises:
        EngineError: It holds operations that tf2onnx cannot convert, which are named; more than 2 GB of weights; or not
            one input and one output.
        InvalidInputError: A SavedModel that serves nothing, or not one input and one output.
        MissingExtraError: TensorFlow or tf2onnx is not installed.
    """
    for package in ("tensorflow", "tf2onnx.convert"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            missing = package.partition(".")[0]
            raise MissingExtraError(missing, "tensorflow", "an ONNX file of a TensorFlow model") from error
    run = _as_function(model)
    try:
        with _quiet():
            converted = _converted(run, samples, spec.opset)
            _check_operations(converted)
            return write_onnx(converted, path)
    except Exception as refusal:
        # call() is the user's own code, and tf2onnx raises anything.
        raise _refused(model, refusal, full_name) from refusal


def _as_function(model: Any) -> Callable[[Any], Any]:
    if hasattr(model, "get_config"):
        return lambda inputs: model(inputs, training=False)
    served = served_function(model)
    (name,) = served.structured_input_signature[1]
    return lambda inputs: next(iter(served(**{name: inputs}).values()))


def _converted(run: Callable[[Any], Any], samples: NDArray[Any], opset: int) -> onnx.ModelProto:
    tensorflow, tf2onnx = (importlib.import_module(name) for name in ("tensorflow", "tf2onnx"))
    # tf2onnx.convert.from_function takes constants that the model holds (those of keras.layers.Normalization) for
    # further inputs. Frozen by TensorFlow itself first, they are constants of the graph.
    freezing = importlib.import_module("tensorflow.python.framework.convert_to_constants")
    taken = tensorflow.TensorSpec((None, *samples.shape[1:]), tensorflow.as_dtype(samples.dtype), name="input")
    concrete = tensorflow.function(run, input_signature=[taken]).get_concrete_function()
    _check_size(concrete)
    frozen = freezing.convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)
    converted, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(add_shapes=True),
        name="model",
        input_names=[tensor.name for tensor in frozen.inputs],
        output_names=[tensor.name for tensor in frozen.outputs],
        opset=min(opset, max(tf2onnx.constants.OPSET_TO_IR_VERSION)),
        custom_op_handlers={"Erfc": (_erfc, [])},
    )
    model: onnx.ModelProto = converted
    return model


def _check_size(concrete: Any) -> None:
    size = sum(math.prod(weight.shape) * weight.dtype.size for weight in concrete.variables)
    if size > _LARGEST_BYTES:
        raise EngineError(
            f"its weights are {size / 1e9:.2f} GB, and TensorFlow freezes a graph into one message of at most 2.1 GB."
        )


def _erfc(graph: Any, node: Any, name: str, _arguments: Any) -> None:
    """Write 1 - erf(x): Keras' exact GELU asks for erfc, which ONNX and tf2onnx 1.17 do not have."""
    utils = importlib.import_module("tf2onnx.utils")
    shape, dtype = graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    graph.remove_node(name)
    one = graph.make_const(utils.make_name("one"), np.array(1, utils.map_onnx_to_numpy_type(dtype)))
    erf = graph.make_node("Erf", node.input, shapes=[shape], dtypes=[dtype])
    graph.make_node(
        "Sub", [one.output[0], erf.output[0]], outputs=node.output, name=name, shapes=[shape], dtypes=[dtype]
    )


def _check_operations(model: onnx.ModelProto) -> None:
    """Raise for what tf2onnx could not convert: it leaves TensorFlow's own operation where it was, and logs a line."""
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    strange = {node.op_type for node in _nodes(model.graph) if not _known(node, opset)}
    if strange:
        version = importlib.metadata.version("tf2onnx")
        raise EngineError(f"tf2onnx {version} does not convert the operations {', '.join(sorted(strange))}.")


def _known(node: onnx.NodeProto, opset: int) -> bool:
    return node.domain != "" or onnx.defs.has(node.op_type, opset, "")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for part in (attribute.g, *attribute.graphs):
                yield from _nodes(part)


def _refused(model: Any, refusal: Exception, full_name: str) -> EngineError:
    why = " ".join(line.strip() for line in str(refusal).splitlines() if line.strip())[:400] or type(refusal).__name__
    return EngineError(
        f"{full_name} cannot be exported to ONNX: {type(model).__name__}: {why} Build that part of other layers, or "
        "register an ONNX file."
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep tf2onnx's lines and TensorFlow's own deprecations away."""
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
