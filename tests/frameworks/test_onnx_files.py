"""ONNX models whose weights lie in files of their own: those of the version are read, no others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from registry.errors import ArtifactNotFoundError, InvalidInputError, RefusedError
from registry.frameworks import ModelFramework, examine, load

Spoil: TypeAlias = Callable[[Path], None]
ONNX = ModelFramework.ONNX


def model(location: str, **entries: str) -> onnx.ModelProto:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        "scaling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def written(folder: Path, location: str = "weights.bin", **entries: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "net.onnx").write_bytes(model(location, **entries).SerializeToString())
    (folder / "weights.bin").write_bytes(np.array([5, 7], np.float32).tobytes())
    return folder


def loaded(folder: Path, files: tuple[str, ...] | None = None) -> Any:
    return load(folder, files=files, framework=ONNX, info={})


def weights(proto: onnx.ModelProto) -> list[float]:
    numbers: list[float] = onnx.numpy_helper.to_array(proto.graph.initializer[0]).tolist()
    return numbers


def test_a_model_is_loaded_with_the_weights_beside_it_from_a_folder_that_holds_more(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "metadata.json").write_bytes(b"{}")
    (tmp_path / "variants").mkdir()
    (tmp_path / "variants" / "other.onnx").write_bytes(b"junk")
    assert weights(loaded(tmp_path, ("net.onnx", "weights.bin"))) == [5, 7]


def test_weights_in_a_folder_below_are_read(tmp_path: Path) -> None:
    written(tmp_path, "parts/w.bin")
    (tmp_path / "parts").mkdir()
    (tmp_path / "weights.bin").rename(tmp_path / "parts" / "w.bin")
    assert weights(loaded(tmp_path)) == [5, 7]


def test_weights_in_a_file_that_is_not_of_the_version_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"'weights\.bin', which is no file of this version"):
        loaded(written(tmp_path), ("net.onnx",))


def _linked(folder: Path) -> None:
    (folder / "weights.bin").unlink()
    (folder.parent / "secret").write_bytes(bytes(8))
    (folder / "weights.bin").symlink_to(folder.parent / "secret")


def _folder_linked(folder: Path) -> None:
    written(folder, "below/weights.bin")
    (folder.parent / "elsewhere").mkdir()
    (folder / "weights.bin").rename(folder.parent / "elsewhere" / "weights.bin")
    (folder / "below").symlink_to(folder.parent / "elsewhere")


def _hard_linked(folder: Path) -> None:
    os.link(folder / "weights.bin", folder.parent / "secret")


def _escaping(folder: Path) -> None:
    written(folder, "../secret")
    (folder.parent / "secret").write_bytes(bytes(8))


def _absolute(folder: Path) -> None:
    written(folder, str(folder.parent / "secret"))
    (folder.parent / "secret").write_bytes(bytes(8))


def _missing(folder: Path) -> None:
    (folder / "weights.bin").unlink()


def _short(folder: Path) -> None:
    written(folder, length="8000000000000")


def _beyond(folder: Path) -> None:
    written(folder, offset="4")


ATTACKS: dict[str, Spoil] = {
    "a link": _linked, "a linked folder": _folder_linked, "a way out": _escaping, "an absolute name": _absolute,
    "a missing file": _missing, "more than there is": _short, "beyond the end": _beyond,
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_weights_that_reach_further_than_the_versions_files_are_refused(tmp_path: Path, attack: str) -> None:
    folder = written(tmp_path / "model")
    ATTACKS[attack](folder)
    with pytest.raises((RefusedError, ArtifactNotFoundError)):
        loaded(folder)
    with pytest.raises((RefusedError, ArtifactNotFoundError)):
        loaded(folder, ("net.onnx", "weights.bin"))


@pytest.mark.parametrize("attack", [*ATTACKS, "a hard link"])
def test_such_a_model_is_refused_when_its_path_is_registered(tmp_path: Path, attack: str) -> None:
    folder = written(tmp_path / "model")
    {**ATTACKS, "a hard link": _hard_linked}[attack](folder)
    for path in (folder, folder / "net.onnx"):
        with pytest.raises(InvalidInputError, match="cannot be registered as ONNX"):
            examine(path, framework=ONNX)


def test_a_version_whose_files_have_a_second_name_in_the_store_is_loaded_from_a_copy(tmp_path: Path) -> None:
    # A store may keep equal files once. Their digests were checked, and onnx itself refuses any file of two names.
    folder = written(tmp_path / "model")
    _hard_linked(folder)
    assert weights(loaded(folder)) == [5, 7]


def test_a_model_that_is_registered_by_its_path_brings_its_weights_and_its_signature(tmp_path: Path) -> None:
    folder = written(tmp_path / "model")
    found = examine(folder / "net.onnx")
    assert (found.framework, found.beside) == (ONNX, ("weights.bin",))
    assert found.signature is not None
    assert [(one.name, one.shape) for one in found.signature.inputs] == [("x", (-1, 2))]
    whole = examine(folder, framework=ONNX)
    assert (whole.signature, whole.beside) == (found.signature, ())


@pytest.mark.parametrize("data", [b"", b"bytes", bytes(100), b"\xff" * 100])
def test_a_file_that_is_no_model_is_registered_as_what_it_is_and_refused_when_loaded(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "net.onnx").write_bytes(data)
    found = examine(tmp_path / "net.onnx")
    assert (found.framework, found.signature, found.beside) == (ONNX, None, ())
    with pytest.raises(RefusedError, match=r"net\.onnx was not loaded"):
        loaded(tmp_path)


def test_a_weight_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    proto = model("weights.bin")
    weight = proto.graph.initializer[0]
    weight.ClearField("external_data")
    weight.ClearField("data_location")
    weight.dims[:] = [10**12]
    weight.raw_data = bytes(8)
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(RefusedError, match=r"net\.onnx was not loaded"):
        loaded(tmp_path)
