"""Damaged files of every format are refused with a clear error, or read as they are; nothing crashes or hangs."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from registry.errors import ModelwayError
from registry.frameworks import ModelFramework, load, read_samples, save

Write: TypeAlias = Callable[[Path], str]
Read: TypeAlias = Callable[[Path], object]


def _tensors(folder: Path) -> str:
    save({"w": torch.arange(12.0).reshape(3, 4), "b": torch.ones(4)}, folder)
    return "model.pt"


def _program(folder: Path) -> str:
    module = torch.nn.Linear(3, 2)
    save(torch.export.export(module, (torch.ones(2, 3),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)), folder)
    return "model.pt2"


def _arrays(folder: Path) -> str:
    save({"w": np.arange(12.0), "b": np.ones((2, 2), np.int8)}, folder)
    return "model.safetensors"


def _samples(folder: Path) -> str:
    np.savez(folder / "samples.npz", inputs=np.ones((2, 3)), outputs=np.ones((2, 1)))
    return "samples.npz"


def _graph() -> onnx.ModelProto:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "mul", tensors[:1], tensors[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _onnx(folder: Path) -> str:
    save(_graph(), folder)
    return "model.onnx"


def _onnx_beside(folder: Path) -> str:
    onnx.save(_graph(), folder / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    return "model.onnx"


def _pickle(folder: Path) -> str:
    (folder / "model.pkl").write_bytes(pickle.dumps({"w": np.arange(3.0), "o": np.array([{}], object), "s": {1, "a"}}))
    return "model.pkl"


def _reader(framework: ModelFramework) -> Read:
    return lambda folder: load(folder, framework=framework, info={}, allow_pickle=frozenset())


FORMATS: dict[str, tuple[Write, Read]] = {
    "pt": (_tensors, _reader(ModelFramework.PYTORCH)),
    "pt2": (_program, _reader(ModelFramework.PYTORCH)),
    "safetensors": (_arrays, _reader(ModelFramework.SAFETENSORS)),
    "npz": (_samples, read_samples),
    "onnx": (_onnx, _reader(ModelFramework.ONNX)),
    "onnx with weights beside it": (_onnx_beside, _reader(ModelFramework.ONNX)),
    "pickle": (_pickle, _reader(ModelFramework.CUSTOM)),
}

damages = st.lists(
    st.tuples(
        st.sampled_from(["change", "cut", "insert", "repeat", "remove"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1, max_size=3,
)  # fmt: skip


def damaged(data: bytes, damage: list[tuple[str, float, bytes]]) -> bytes:
    for kind, where, piece in damage:
        at = int(where * len(data))
        match kind:
            case "change":
                data = data[:at] + piece + data[at + len(piece) :]
            case "cut":
                data = data[:at]
            case "insert":
                data = data[:at] + piece + data[at:]
            case "repeat":
                data = data[:at] + data[max(0, at - 40) :]
            case "remove":
                data = data[:at] + data[at + len(piece) :]
    return data


@pytest.fixture(scope="module", params=FORMATS)
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, Read]:
    write, read = FORMATS[request.param]
    folder = tmp_path_factory.mktemp("model")
    name = write(folder)
    read(folder)
    return folder / name, (folder / name).read_bytes(), read


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(damage=damages)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    sound: tuple[Path, bytes, Read], damage: list[tuple[str, float, bytes]]
) -> None:
    file, data, read = sound
    file.write_bytes(damaged(data, damage))
    with contextlib.suppress(ModelwayError):
        read(file.parent)
    assert sorted(path.name for path in file.parent.iterdir()) == sorted({file.name, *_beside(file)})


def _beside(file: Path) -> list[Any]:
    return [path.name for path in file.parent.iterdir() if path.suffix == ".data"]
