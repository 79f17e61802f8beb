"""Real small ONNX files, and a real server process over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from served_models import list_models, served

from registry.endpoints.client import InferenceClient
from registry.endpoints.process import start_server, stop_server
from registry.endpoints.serving import Limits, RunningServer, ServedVersion, ServerConfig

if TYPE_CHECKING:
    from pathlib import Path

ConfigFor = Callable[..., ServerConfig]


def _save(path: Path, graph: onnx.GraphProto) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def _classifier(path: Path, seed: int) -> Path:
    """Four numbers in, the probabilities of three classes out."""
    random = np.random.default_rng(seed)
    weights = numpy_helper.from_array(random.normal(size=(4, 3)).astype(np.float32), "weights")
    bias = numpy_helper.from_array(random.normal(size=3).astype(np.float32), "bias")
    nodes = [
        helper.make_node("Gemm", ["x", "weights", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])]
    return _save(path, helper.make_graph(nodes, "classifier", inputs, outputs, [weights, bias]))


def _echo(path: Path) -> Path:
    """Give back one tensor of each datatype: ``echo_INT8`` for ``INT8``."""
    kinds = {
        "BOOL": TensorProto.BOOL,
        **{
            f"{sign}INT{bits}": getattr(TensorProto, f"{sign}INT{bits}")
            for sign in ("", "U")
            for bits in (8, 16, 32, 64)
        },
        "FP16": TensorProto.FLOAT16,
        "FP32": TensorProto.FLOAT,
        "FP64": TensorProto.DOUBLE,
    }
    nodes = [helper.make_node("Identity", [kind], [f"echo_{kind}"]) for kind in kinds]
    inputs = [helper.make_tensor_value_info(kind, number, ["n", 2]) for kind, number in kinds.items()]
    outputs = [helper.make_tensor_value_info(f"echo_{kind}", number, ["n", 2]) for kind, number in kinds.items()]
    return _save(path, helper.make_graph(nodes, "echo", inputs, outputs))


def _logarithm(path: Path) -> Path:
    """Give NaN below zero; its reshape to pairs fails on an odd number of values."""
    pairs = numpy_helper.from_array(np.array([-1, 2], np.int64), "pairs")
    nodes = [helper.make_node("Log", ["x"], ["y"]), helper.make_node("Reshape", ["y", "pairs"], ["z"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])]
    outputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["m", 2])]
    return _save(path, helper.make_graph(nodes, "logarithm", inputs, outputs, [pairs]))


def _split(path: Path) -> Path:
    """A model whose weights lie in a second file beside it, which its own digest does not cover."""
    weights = numpy_helper.from_array(np.ones((4, 400), np.float32), "weights")
    node = helper.make_node("MatMul", ["x", "weights"], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 400])]
    graph = helper.make_graph([node], "split", inputs, outputs, [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path, save_as_external_data=True, location="weights.data")
    return path


def _text(path: Path) -> Path:
    """A model over text, which the endpoint does not serve."""
    node = helper.make_node("Identity", ["words"], ["same"])
    inputs = [helper.make_tensor_value_info("words", TensorProto.STRING, ["n"])]
    outputs = [helper.make_tensor_value_info("same", TensorProto.STRING, ["n"])]
    return _save(path, helper.make_graph([node], "text", inputs, outputs))


def _centred(path: Path) -> Path:
    """Take the mean of all samples from each: what a sample gives depends on what it is computed with."""
    axes = numpy_helper.from_array(np.array([0], np.int64), "axes")
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])]
    return _save(path, helper.make_graph(nodes, "centred", inputs, outputs, [axes]))


def _single(path: Path) -> Path:
    """A model that takes exactly one sample."""
    node = helper.make_node("Neg", ["x"], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])]
    return _save(path, helper.make_graph([node], "single", inputs, outputs))


def _picky(path: Path) -> Path:
    """Look up rows of a table, and fail on an index that it does not have."""
    table = numpy_helper.from_array(np.arange(20, dtype=np.float32).reshape(10, 2), "table")
    node = helper.make_node("Gather", ["table", "row"], ["y"])
    inputs = [helper.make_tensor_value_info("row", TensorProto.INT64, ["n"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])]
    return _save(path, helper.make_graph([node], "picky", inputs, outputs, [table]))


def _patient(path: Path) -> Path:
    """Multiply matrices as often as the largest number says, about 5 us each time, and give the numbers back."""
    matrix = numpy_helper.from_array(np.full((64, 64), 1 / 64, np.float32), "matrix")
    always = numpy_helper.from_array(np.ones((), np.bool_), "always")
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "matrix"], ["next_state"]),
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn_number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [64, 64]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_state", TensorProto.FLOAT, [64, 64]),
        ],
    )
    nothing = numpy_helper.from_array(np.array(0, np.int64), "nothing")
    nodes = [
        helper.make_node("ReduceMax", ["turns"], ["most"], keepdims=0),
        helper.make_node("Loop", ["most", "always", "matrix"], ["state"], body=body),
        helper.make_node("ReduceMin", ["state"], ["least"], keepdims=0),
        helper.make_node("Cast", ["least"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["whole", "nothing"], ["zero"]),
        helper.make_node("Add", ["turns", "zero"], ["same"]),
    ]
    inputs = [helper.make_tensor_value_info("turns", TensorProto.INT64, ["n"])]
    outputs = [helper.make_tensor_value_info("same", TensorProto.INT64, ["n"])]
    return _save(path, helper.make_graph(nodes, "patient", inputs, outputs, [matrix, always, nothing]))


def _hasty(path: Path) -> Path:
    """Take what the patient one takes, and give the numbers back at once."""
    node = helper.make_node("Identity", ["turns"], ["same"])
    inputs = [helper.make_tensor_value_info("turns", TensorProto.INT64, ["n"])]
    outputs = [helper.make_tensor_value_info("same", TensorProto.INT64, ["n"])]
    return _save(path, helper.make_graph([node], "hasty", inputs, outputs))


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The ONNX files by what they hold."""
    folder = tmp_path_factory.mktemp("engines")
    return {
        "first": _classifier(folder / "first.onnx", seed=1),
        "second": _classifier(folder / "second.onnx", seed=2),
        "echo": _echo(folder / "echo.onnx"),
        "logarithm": _logarithm(folder / "logarithm.onnx"),
        "split": _split(folder / "split.onnx"),
        "centred": _centred(folder / "centred.onnx"),
        "single": _single(folder / "single.onnx"),
        "picky": _picky(folder / "picky.onnx"),
        "patient": _patient(folder / "patient.onnx"),
        "hasty": _hasty(folder / "hasty.onnx"),
        "text": _text(folder / "text.onnx"),
    }


@pytest.fixture(scope="session")
def config_for() -> ConfigFor:
    """Return a maker of configs and models files: ``config_for(folder, served("iris", "v1", path), limits=...)``."""

    def make(folder: Path, *versions: ServedVersion, **settings: Any) -> ServerConfig:
        config = ServerConfig(
            endpoint="trial", models_file=folder / "models.json", state_file=folder / "state.json", **settings
        )
        list_models(config, *versions)
        return config

    return make


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, engines: dict[str, Path], config_for: ConfigFor
) -> Iterator[RunningServer]:
    """A server of two versions of ``iris``, an ``echo`` of every datatype, and a ``logarithm``; with small limits."""
    folder = tmp_path_factory.mktemp("server")
    config = config_for(
        folder,
        served("iris", "v1", engines["first"], role="canary", share=0.0),
        served("iris", "v2", engines["second"]),
        served("echo", "1.0.0", engines["echo"]),
        served("logarithm", "v1", engines["logarithm"]),
        limits=Limits(max_body_bytes=100_000, max_json_bytes=20_000, max_rank=4, max_elements=5_000),
    )
    running = start_server(config, folder=folder)
    yield running
    stop_server(running)


@pytest.fixture
def client(server: RunningServer) -> Iterator[InferenceClient]:
    """Our own client of that server."""
    with InferenceClient(server.url) as client:
        yield client
