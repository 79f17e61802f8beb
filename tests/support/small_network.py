"""A small network as ONNX, with samples and what is right for each: small enough to be optimised in a second."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

FEATURES, HIDDEN, CLASSES = 16, 64, 4


def network(seed: int = 5) -> ModelProto:
    """Return a network of two layers, (n, 16) to (n, 4), float32, with weights drawn from a seed."""
    draw = np.random.default_rng(seed)
    weights = {
        "w1": draw.normal(size=(FEATURES, HIDDEN)).astype(np.float32),
        "w2": draw.normal(size=(HIDDEN, CLASSES)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "network", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def samples(count: int = 200, seed: int = 6) -> NDArray[np.float32]:
    """Return inputs, shape (count, 16)."""
    return np.random.default_rng(seed).normal(size=(count, FEATURES)).astype(np.float32)


def answers(inputs: NDArray[Any], seed: int = 5) -> NDArray[Any]:
    """Return the network's own outputs for inputs, computed by numpy, shape (n, 4)."""
    weights = {one.name: numpy_helper.to_array(one) for one in network(seed).graph.initializer}
    found: NDArray[Any] = np.maximum(inputs @ weights["w1"], 0) @ weights["w2"]
    return found


def accuracy(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the share of samples whose largest output is the label."""
    return float(np.mean(outputs.argmax(axis=1) == labels))
