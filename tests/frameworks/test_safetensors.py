"""safetensors: tensors by name, mapped from the file, and a header that is believed only as far as it is true."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch

from registry.errors import InvalidInputError, RefusedError
from registry.frameworks import ModelFramework, SavedModel, load, save

SAFETENSORS = ModelFramework.SAFETENSORS
F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def written(folder: Path, header: Any, data: bytes = bytes(8)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


def loaded(folder: Path, info: Any = None) -> Any:
    return load(folder, framework=SAFETENSORS, info=info or {})


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint16", "int64", "bool", "complex64"])
def test_arrays_come_back_with_their_types_and_shapes(tmp_path: Path, dtype: str) -> None:
    arrays = {"a": np.arange(6).reshape(2, 3).astype(dtype), "b.c": np.ones((), dtype), "empty": np.ones((0, 4), dtype)}
    saved = save(arrays, tmp_path)
    assert saved == SavedModel(framework=SAFETENSORS, info={"tensors": "numpy"})
    found = loaded(tmp_path, saved.info)
    assert {name: (array.dtype, array.shape) for name, array in found.items()} == {
        name: (array.dtype, array.shape) for name, array in arrays.items()
    }
    for name, array in arrays.items():
        assert np.array_equal(found[name], array)


def test_torch_tensors_are_written_as_safetensors_when_asked_and_come_back_as_tensors(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    tensors = {
        "a": whole[:3],
        "same": whole[:3],
        "half": torch.ones(3, dtype=torch.bfloat16),
        "t": whole.reshape(2, 3).T,
    }
    saved = save(tensors, tmp_path, framework=SAFETENSORS)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    found = loaded(tmp_path, saved.info)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert found["half"].dtype is torch.bfloat16


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save(
            {"b": np.ones(3), "a": np.zeros(2)} if name == "one" else {"a": np.zeros(2), "b": np.ones(3)},
            tmp_path / name,
        )
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_file_registered_by_its_path_comes_back_as_arrays_also_in_types_that_numpy_has_not(tmp_path: Path) -> None:
    data = np.array([1.5, -2], ml_dtypes.bfloat16).tobytes()
    found = loaded(written(tmp_path, {"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, data))
    assert found["w"].dtype == ml_dtypes.bfloat16
    assert found["w"].astype(np.float32).tolist() == [1.5, -2]


def test_the_file_is_mapped_and_writing_into_an_array_leaves_it_alone(tmp_path: Path) -> None:
    saved = save({"w": np.ones(1000, np.float32)}, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").chmod(0o444)
    array = loaded(tmp_path, saved.info)["w"]
    assert not array.flags.owndata
    assert array.flags.writeable
    array[:] = 7
    assert (tmp_path / "model.safetensors").read_bytes() == before
    (tmp_path / "model.safetensors").unlink()
    assert array.sum() == 7000


def test_what_the_library_writes_is_read_with_its_metadata(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"w": np.ones(2, np.float32)}, tmp_path / "model.safetensors", metadata={"by": "hand"})
    assert loaded(tmp_path)["w"].tolist() == [1, 1]


def test_a_folder_of_shards_is_given_as_it_is(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        safetensors.numpy.save_file({"w": np.ones(2, np.float32)}, tmp_path / name)
    assert loaded(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("header", "why"),
    [
        pytest.param(b'{"w": %s, "w": %s}' % ((json.dumps(F32).encode(),) * 2), "it names 'w' twice", id="twin names"),
        pytest.param(b'{"w": {"dtype": "F32", "dtype": "I32"}}', "it names 'dtype' twice", id="twin keys"),
        pytest.param({"../x": F32}, "leads out of a folder", id="a way out"),
        pytest.param({"a/../../x": F32}, "leads out of a folder", id="a way out on the way"),
        pytest.param({"/etc/passwd": F32}, "leads out of a folder", id="absolute"),
        pytest.param({"a\\b": F32}, "leads out of a folder", id="backslash"),
        pytest.param({"a\nb": F32}, "a control character", id="control character"),
        pytest.param({"": F32}, "it has 0 characters", id="no name"),
        pytest.param({"w": {**F32, "shape": [10**12]}}, r"claims 4000000000000 bytes, and the file holds", id="bomb"),
        pytest.param({"w": {**F32, "shape": [1]}}, "claims 4 bytes, and the file holds 8", id="too few"),
        pytest.param({"w": {**F32, "shape": [2**62, 2**62]}}, "which no tensor has|claims", id="overflow"),
        pytest.param({"w": {**F32, "shape": [-2]}}, "which no tensor has", id="negative"),
        pytest.param({"w": {**F32, "shape": [True, 2]}}, "which no tensor has", id="boolean size"),
        pytest.param({"w": {**F32, "shape": [1] * 99 + [2]}}, "which no tensor has", id="many axes"),
        pytest.param({"w": {**F32, "data_offsets": [8, 16]}}, "begins at byte", id="a hole before it"),
        pytest.param({"w": {**F32, "data_offsets": [-8, 0]}}, "which no tensor has", id="before the file"),
        pytest.param({"w": {**F32, "shape": [4], "data_offsets": [0, 16]}}, "tensors end at byte", id="beyond it"),
        pytest.param({"w": F32, "v": F32}, "the one before it ends at", id="overlap"),
        pytest.param({"w": {**F32, "shape": [1], "data_offsets": [0, 4]}}, "tensors end at byte", id="nobody's"),
        pytest.param({"w": {**F32, "dtype": "object"}}, "of the type 'object'", id="unknown type"),
        pytest.param({"w": {**F32, "more": 1}}, "is not its dtype, shape and data_offsets", id="unknown key"),
        pytest.param({"w": F32, "__metadata__": {"a": 1}}, "__metadata__ is not strings", id="metadata"),
        pytest.param([F32], "no JSON object", id="a list"),
        pytest.param(b"\xff\xfe", "cannot be read", id="no text"),
        pytest.param(b"[" * 100_000, "cannot be read", id="nested"),
        pytest.param(b'{"w": NaN}', "holds NaN", id="no JSON"),
    ],
)  # fmt: skip
def test_a_header_that_is_not_true_is_refused(tmp_path: Path, header: Any, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        loaded(written(tmp_path, header))


@pytest.mark.parametrize("data", [b"", b"short", struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 99) + b"{}"])
def test_a_header_that_claims_more_than_the_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(RefusedError, match=r"no header fits|its header claims"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ({"../x": np.ones(2)}, "leads out of a folder"),
        ({"a\x00b": np.ones(2)}, "a control character"),
        ({1: np.ones(2)}, "it is no string"),
        ({"w": np.array([{}, None], dtype=object)}, "cannot be written as safetensors"),
        ({"w": np.array(["a"])}, "cannot be written as safetensors"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, model: Any, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        save(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_samples_cannot_go_with_bare_tensors(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="leave samples out"):
        save({"w": np.ones(2)}, tmp_path, samples=np.ones((2, 2)))
