"""The servers that are compared: one network behind each, every one a process tree that listens on 127.0.0.1."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import onnx
import onnxruntime
import psutil
from onnx import TensorProto, helper, numpy_helper

from benchmarks.contestants import ROOT, Numbers, SideFailed
from benchmarks.sides.serving_load import Load
from registry.encoding import digest_of
from registry.endpoints.process import start_server, stop_server
from registry.endpoints.serving import ServedModels, ServedVersion, ServerConfig

KSERVE, MLSERVER, TRITON = "kserve", "mlserver", "triton"
PEERS = {KSERVE: "kserve==0.21.0", MLSERVER: "mlserver==1.7.1", TRITON: "nvidia-pytriton==0.7.0"}
STARTS_WITHIN_S = 60.0

_INPUTS, _HIDDEN, _OUTPUTS = 64, 256, 10
_ATOL = 1e-4
_CONFIG = """
name: "mlp" backend: "onnxruntime" max_batch_size: 32 dynamic_batching {}
input [{ name: "x" data_type: TYPE_FP32 dims: [64] }] output [{ name: "y" data_type: TYPE_FP32 dims: [10] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""


@dataclass(frozen=True)
class Address:
    """Where a server listens: ports of 127.0.0.1, ``grpc`` None where it has none; ``pid`` is the tree's root."""

    http: int
    grpc: int | None
    pid: int


class Question(NamedTuple):
    """What is asked: one sample, in which form, over how many connections at once."""

    form: str  # binary, json or grpc
    connections: int


def write_network(file: Path) -> None:
    """Write a multilayer perceptron, 64 -> 256 -> 10, whose weights come from a seed."""
    random = np.random.default_rng(0)
    shapes = {"w1": (_INPUTS, _HIDDEN), "b1": (_HIDDEN,), "w2": (_HIDDEN, _OUTPUTS), "b2": (_OUTPUTS,)}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["sums"]),
            helper.make_node("Relu", ["sums"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "w2", "b2"], ["y"]),
        ],
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", _INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", _OUTPUTS])],
        [numpy_helper.from_array(random.normal(size=shape).astype(np.float32), n) for n, shape in shapes.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)


def sample() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the sample that is sent, shape (1, 64), float32."""
    return np.random.default_rng(1).normal(size=(1, _INPUTS)).astype(np.float32)


def body_of(form: str) -> tuple[bytes, dict[str, str]]:
    """Return a request's body and headers, as the Open Inference Protocol has them."""
    tensor: dict[str, Any] = {"name": "x", "shape": [1, _INPUTS], "datatype": "FP32"}
    if form == "json":
        asked = json.dumps({"inputs": [{**tensor, "data": sample().ravel().tolist()}]}).encode()
        return asked, {"Content-Type": "application/json"}
    tensor["parameters"] = {"binary_data_size": sample().nbytes}
    asked = json.dumps(
        {"inputs": [tensor], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}, separators=(",", ":")
    ).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(asked))}
    return asked + sample().tobytes(), headers


def _request_of(form: str) -> bytes:
    if form == "grpc":
        from tritonclient.grpc import InferInput, service_pb2

        given = InferInput("x", [1, _INPUTS], "FP32").set_data_from_numpy(sample())
        asked = service_pb2.ModelInferRequest(model_name="mlp", inputs=[given._get_tensor()])  # noqa: SLF001
        asked.raw_input_contents.append(sample().tobytes())
        return bytes(asked.SerializeToString())
    body, headers = body_of(form)
    lines = [
        "POST /v2/models/mlp/infer HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Served:
    """A running server that one question is put to for some seconds, each time it is measured."""

    def __init__(self, address: Address, question: Question, *, seconds: float) -> None:
        """Take the server; nothing is sent yet."""
        port = address.grpc if question.form == "grpc" else address.http
        if port is None:
            raise SideFailed("it has no gRPC service")
        request = base64.b64encode(_request_of(question.form)).decode()
        self._load = Load(port, request, question.connections, seconds, grpc=question.form == "grpc")
        self._root = address.pid

    def measure(self) -> Numbers:
        """Put the question, and count what the server's processes took for it.

        Raises:
            SideFailed: It did not answer to the end.
        """
        before = self._cpu_s()
        ran = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks/sides/serving_load.py")],
            input=json.dumps(self._load._asdict()),
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise SideFailed(ran.stderr.strip().splitlines()[-1])
        counted: Numbers = json.loads(ran.stdout)
        tree = self._tree()
        return {
            **counted,
            "cpu_s": (self._cpu_s() - before) / counted["requests"],
            "memory_bytes": sum(process.memory_full_info().pss for process in tree),
        }

    def _tree(self) -> list[psutil.Process]:
        root = psutil.Process(self._root)
        return [root, *root.children(recursive=True)]

    def _cpu_s(self) -> float:
        return sum(times.user + times.system for times in (process.cpu_times() for process in self._tree()))


@contextlib.contextmanager
def ours(file: Path, folder: Path, **settings: Any) -> Iterator[Address]:
    """Run our endpoint; ``settings`` are those of its ``ServerConfig``."""
    folder.mkdir()
    models, state = folder / "models.json", folder / "state.json"
    served = ServedVersion(model="mlp", version="v1", engine=file, digest=digest_of(file.read_bytes()))
    models.write_text(ServedModels(versions=(served,)).model_dump_json(), encoding="utf-8")
    config = ServerConfig(endpoint="benchmark", models_file=models, state_file=state, **settings)
    running = start_server(config, folder=folder)
    grpc = None if running.grpc is None else int(running.grpc.rpartition(":")[2])
    try:
        yield Address(int(running.url.rpartition(":")[2]), grpc, running.pid)
    finally:
        stop_server(running)


@contextlib.contextmanager
def side(name: str, file: Path, cache: Path, folder: Path) -> Iterator[Address]:
    """Run a server that is a script of ``sides``, in an environment of its own where it is a peer's."""
    folder.mkdir()
    http, grpc = _free_port(), _free_port()
    words = [str(http)] if name == "floor" else [str(file), str(http), str(grpc)]
    script = ROOT / "benchmarks" / "sides" / f"serving_{name}.py"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [_python_of(name, cache), script, *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_until_listening(name, http, process, folder / "log")
        yield Address(http, None if name == "floor" else grpc, process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def triton(file: Path, folder: Path) -> Iterator[Address]:
    """Run the real Triton, as the tests set it up."""
    sys.path.append(str(ROOT / "tests" / "support"))
    from triton_server import running_triton

    version_folder = folder / "mlp" / "1"
    version_folder.mkdir(parents=True)
    (version_folder / "model.onnx").write_bytes(file.read_bytes())
    (folder / "mlp" / "config.pbtxt").write_text(_CONFIG, encoding="utf-8")
    with running_triton(folder) as found:
        http, grpc = (int(address.rpartition(":")[2]) for address in (found.http, found.grpc))
        from tritonclient.grpc import InferenceServerClient

        with contextlib.closing(InferenceServerClient(found.grpc)) as client:
            client.load_model("mlp")
        yield Address(http, grpc, found.pid)


def check_answer(address: Address, form: str, file: Path) -> None:
    """Check that a server answers as onnxruntime does.

    Raises:
        SideFailed: It does not.
    """
    if form == "grpc":
        return  # the same bytes come out of the same network; the errors are counted
    body, headers = body_of(form)
    answer = httpx.post(f"http://127.0.0.1:{address.http}/v2/models/mlp/infer", content=body, headers=headers)
    if answer.status_code != httpx.codes.OK:
        raise SideFailed(f"{form}: {answer.status_code} {answer.text[:200]}")
    length = int(answer.headers.get("inference-header-content-length", 0))
    told = json.loads(answer.content[:length] if length else answer.content)["outputs"][0]
    found = np.frombuffer(answer.content[length:], np.float32) if length else np.array(told["data"], np.float32)
    (right,) = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x": sample()})
    if not np.allclose(found.ravel(), right.ravel(), atol=_ATOL):
        raise SideFailed(f"{form}: it answers {found[:3]}..., and onnxruntime {right.ravel()[:3]}...")


def _python_of(name: str, cache: Path) -> Path:
    if name not in PEERS:
        return Path(sys.executable)
    packages = [PEERS[name], f"onnxruntime=={version('onnxruntime')}"]
    folder = cache / "environments" / "-".join(packages).replace("==", "-")
    python, finished = folder / "bin" / "python", folder / "finished"
    if not finished.exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "-q", "install", *packages], check=True)
        finished.touch()
    return python


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_listening(name: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < give_up_at and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/v2/health/live", timeout=5)
            return
        time.sleep(0.1)
    said = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
    raise SideFailed(f"the server of {name} does not listen:\n{said}")
