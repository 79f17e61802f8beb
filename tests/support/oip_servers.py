"""The models ``network`` (versions 1 and 2) and ``echo`` (version 1) at our own server and at the real Triton.

Requests to ``network`` that name no version are answered by version 2.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import onnx
import tritonclient.grpc
from google.protobuf import text_format
from oip_clients import Form, OipClient, each_datatype
from onnx import helper
from small_network import network
from triton_server import running_triton
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import np_to_triton_dtype

from registry.encoding import digest_of
from registry.endpoints.process import start_server, stop_server
from registry.endpoints.serving import ServedModels, ServedVersion, ServerConfig

SEEDS = {"1": 5, "2": 6}
"""Of the weights of each version of ``network``."""


@dataclass(frozen=True)
class Served:
    """A running server, its addresses as ``host:port``, and what it demands of those who load models.

    ``models_file`` and ``pid`` are those of ours.
    """

    name: Literal["ours", "triton"]
    http: str
    grpc: str
    token: str = ""
    models_file: Path | None = None
    pid: int = 0

    def client(self, form: Form) -> OipClient:
        """Return a client of this server, which ``with`` closes."""
        return OipClient(form, http=self.http, grpc=self.grpc, token=self.token)


@contextlib.contextmanager
def our_server(folder: Path, **more: Any) -> Iterator[Served]:
    """Run our own server as a process of its own; ``more`` is for its ``ServerConfig``."""
    models = _written(folder / "models")
    versions = [
        _version("network", "v2", models["network", "2"], role="stable", share=1.0),
        _version("network", "v1", models["network", "1"], role="canary", share=0.0),
        _version("echo", "v1", models["echo", "1"], role="stable", share=1.0),
    ]
    config = ServerConfig(
        endpoint="trial", models_file=folder / "models.json", state_file=folder / "state.json", **more
    )
    config.models_file.write_text(ServedModels(generation=1, versions=tuple(versions)).model_dump_json())
    running = start_server(config, folder=folder)
    try:
        state = json.loads(config.state_file.read_bytes())
        http = urlsplit(running.url).netloc
        yield Served("ours", http, state["grpc"], state["token"], config.models_file, running.pid)
    finally:
        stop_server(running)


@contextlib.contextmanager
def triton_server(folder: Path) -> Iterator[Served]:
    """Run the real Triton over a repository with both models, both loaded."""
    repository = folder / "repository"
    for (model, version), path in _written(folder / "models").items():
        place = repository / model / version
        place.mkdir(parents=True)
        (place / "model.onnx").write_bytes(path.read_bytes())
    # One configuration as TritonTarget writes it for a model with a free first axis, and one with whole shapes.
    (repository / "network/config.pbtxt").write_text(_network_config())
    (repository / "echo/config.pbtxt").write_text(_echo_config())
    with running_triton(repository) as addresses:
        with tritonclient.grpc.InferenceServerClient(addresses.grpc) as control:
            for model in ("network", "echo"):
                control.load_model(model)
        yield Served("triton", addresses.http, addresses.grpc)


def echo(*, without: Collection[str] = ()) -> onnx.ModelProto:
    """Return a model that gives back one tensor of each datatype, (n, 2): ``echo_INT8`` for ``INT8``."""
    nodes, inputs, outputs = [], [], []
    for name, array in each_datatype().items():
        if name in without:
            continue
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        nodes.append(helper.make_node("Identity", [name], [f"echo_{name}"]))
        inputs.append(helper.make_tensor_value_info(name, kind, ["n", 2]))
        outputs.append(helper.make_tensor_value_info(f"echo_{name}", kind, ["n", 2]))
    graph = helper.make_graph(nodes, "echo", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _written(folder: Path) -> dict[tuple[str, str], Path]:
    folder.mkdir(parents=True)
    models = {("network", version): network(seed) for version, seed in SEEDS.items()} | {("echo", "1"): echo()}
    paths = {}
    for (model, version), proto in models.items():
        paths[model, version] = folder / f"{model}-{version}.onnx"
        onnx.save(proto, paths[model, version])
    return paths


def _version(model: str, label: str, path: Path, **more: Any) -> ServedVersion:
    return ServedVersion(model=model, version=label, engine=path, digest=digest_of(path.read_bytes()), **more)


def _network_config() -> str:
    config = _config("network", max_batch_size=32)
    config.input.add(name="x", data_type="TYPE_FP32", dims=[16])
    config.output.add(name="y", data_type="TYPE_FP32", dims=[4])
    config.version_policy.specific.versions.extend([1, 2])
    return str(text_format.MessageToString(config))


def _echo_config() -> str:
    config = _config("echo", max_batch_size=0)
    for name, array in each_datatype().items():
        data_type = f"TYPE_{np_to_triton_dtype(array.dtype)}"
        config.input.add(name=name, data_type=data_type, dims=[-1, 2])
        config.output.add(name=f"echo_{name}", data_type=data_type, dims=[-1, 2])
    return str(text_format.MessageToString(config))


def _config(name: str, *, max_batch_size: int) -> Any:
    return ModelConfig(name=name, backend="onnxruntime", max_batch_size=max_batch_size)
