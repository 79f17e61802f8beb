"""A model that multiplies: which version answers is seen by the factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from registry.endpoints.client import InferenceClient

if TYPE_CHECKING:
    from registry import Endpoint, ModelRegistry

SAMPLES: NDArray[Any] = np.random.default_rng(5).random((6, 4), dtype=np.float32)


def times(factor: float) -> ModelProto:
    """Return a model that gives its inputs times ``factor``."""
    nodes = [helper.make_node("Mul", ["x", "factor"], ["y"])]
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4])] for name in "xy")
    constant = numpy_helper.from_array(np.array(factor, np.float32), "factor")
    graph = helper.make_graph(nodes, "times", inputs, outputs, [constant])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def only_six_at_once() -> ModelProto:
    """Return a model that answers its golden samples, six at once, and fails with any other number of samples."""
    model = times(3.0)
    shape = numpy_helper.from_array(np.array([6, 4], np.int64), "shape")
    model.graph.initializer.append(shape)
    model.graph.node[0].input[0] = "six"
    model.graph.node.insert(0, helper.make_node("Reshape", ["x", "shape"], ["six"]))
    return model


def answer(endpoint: Endpoint, version: str | None = None) -> NDArray[Any]:
    """Return what an endpoint answers to ``SAMPLES``."""
    assert endpoint.url is not None
    with InferenceClient(endpoint.url) as client:
        found: NDArray[Any] = client.infer("times", {"x": SAMPLES}, version=version)["y"]
        return found


def factor_at(endpoint: Endpoint, version: str | None = None) -> int:
    """Return the factor that answers: 2 for v1, 3 for v2 and so on."""
    return round(float((answer(endpoint, version) / SAMPLES).mean()))


def register_versions(models: ModelRegistry, count: int) -> None:
    """Register versions v1 (times two), v2 (times three) and so on, with golden samples; v1 is put in production."""
    for number in range(1, count + 1):
        models.register("times", model=times(number + 1.0), samples=SAMPLES, metrics={"accuracy": 0.8 + number / 100})
    models.promote("times", 1, "production")
