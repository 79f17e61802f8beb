"""Which framework an object or a file is of; ONNX models, bytes and golden samples."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from registry.errors import ArtifactNotFoundError, InvalidInputError, RefusedError
from registry.frameworks import ModelFramework, guess, load, read_samples, save


def doubling(*, weight: TensorProto | None = None) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [weight or helper.make_tensor("w", TensorProto.FLOAT, [1], [2.0])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def outside(location: str) -> onnx.ModelProto:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    return doubling(weight=weight)


def test_importing_the_package_imports_no_framework() -> None:
    program = "import sys, registry.frameworks; print({'torch', 'onnx', 'numpy', 'prefect'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "framework"),
    [
        ("model.onnx", "onnx"), ("model.PT", "pytorch"), ("model.pth", "pytorch"), ("model.pt2", "pytorch"),
        ("model.safetensors", "safetensors"),
        ("model.keras", "tensorflow"), ("model.joblib", "sklearn"), ("model.skops", "sklearn"), ("model.bin", "custom"),
        ("model", "custom"), ("model.pkl", "custom"),
    ],
)  # fmt: skip
def test_a_files_suffix_tells_its_framework(name: str, framework: str) -> None:
    assert guess(Path(name)) is ModelFramework(framework)


@pytest.mark.parametrize("model", [object(), {}, {"a": 1}, [1, 2], "model.pt", len, None])
def test_what_no_framework_can_save_is_refused_with_what_can_be(tmp_path: Path, model: object) -> None:
    with pytest.raises(InvalidInputError, match=r"torch\.nn\.Module.*ModelProto.*bytes.*register its path"):
        save(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_object_of_another_framework_than_the_named_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"ModelProto, which is of onnx \(framework pytorch was asked for\)"):
        save(doubling(), tmp_path, framework=ModelFramework.PYTORCH)
    assert list(tmp_path.iterdir()) == []


def test_an_onnx_model_comes_back_with_its_signature_and_golden_samples(tmp_path: Path) -> None:
    rows = np.arange(210, dtype=np.float32).reshape(70, 3)
    saved = save(doubling(), tmp_path, samples=rows)
    assert saved.framework is ModelFramework.ONNX
    assert saved.signature is not None
    assert [(one.name, one.dtype, one.shape) for one in saved.signature.inputs] == [("x", "float32", (-1, 3))]
    assert load(tmp_path, framework=ModelFramework.ONNX, info=saved.info) == doubling()
    kept = read_samples(tmp_path)
    assert kept is not None
    assert np.array_equal(kept[0], rows[:64])
    assert np.array_equal(kept[1], 2 * rows[:64])


def test_the_same_onnx_model_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    save(doubling(), tmp_path)
    save(doubling(), tmp_path / "again")
    assert (tmp_path / "model.onnx").read_bytes() == (tmp_path / "again" / "model.onnx").read_bytes()


def test_samples_that_an_onnx_model_does_not_take_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot be registered"):
        save(doubling(), tmp_path, samples=np.zeros((2, 9), np.float32))


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "missing.bin"])
def test_an_onnx_model_that_reaches_for_other_files_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 4)
    with pytest.raises(InvalidInputError, match="no valid ONNX model"):
        save(outside(location), folder)
    (folder / "model.onnx").write_bytes(outside(location).SerializeToString())
    with pytest.raises(RefusedError, match=r"model\.onnx was not loaded"):
        load(folder, framework=ModelFramework.ONNX, info={})


def test_onnx_weights_that_lie_beside_the_model_are_loaded_with_it(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(np.float32(5).tobytes())
    (tmp_path / "net.onnx").write_bytes(outside("weights.bin").SerializeToString())
    loaded = load(tmp_path, framework=ModelFramework.ONNX, info={})
    assert onnx.numpy_helper.to_array(loaded.graph.initializer[0]).tolist() == [5.0]


def test_bytes_come_back_as_bytes(tmp_path: Path) -> None:
    saved = save(b"anything", tmp_path)
    assert saved.framework is ModelFramework.CUSTOM
    assert load(tmp_path, framework=saved.framework, info=saved.info) == b"anything"


def test_samples_cannot_go_with_bytes(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="leave samples out"):
        save(b"anything", tmp_path, samples=np.zeros(3))
    assert list(tmp_path.iterdir()) == []


def test_a_kind_without_a_reader_gives_one_file_as_bytes_and_several_as_the_folder(tmp_path: Path) -> None:
    framework = ModelFramework.CUSTOM
    with pytest.raises(ArtifactNotFoundError):
        load(tmp_path, framework=framework, info={})
    (tmp_path / "model.pkl").write_bytes(b"never unpickled")
    assert load(tmp_path, framework=framework, info={}) == b"never unpickled"
    (tmp_path / "more").write_bytes(b"")
    assert load(tmp_path, framework=framework, info={}) == tmp_path


def _with_objects(file: Path) -> None:
    np.savez(file, inputs=np.array([{}], dtype=object), outputs=np.zeros(1))


def _compressed(file: Path) -> None:
    np.savez_compressed(file, inputs=np.zeros(10**6), outputs=np.zeros(1))


def _claiming(file: Path) -> None:
    header: dict[str, Any] = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    with zipfile.ZipFile(file, "w") as archive, archive.open("inputs.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)


def _without_outputs(file: Path) -> None:
    np.savez(file, inputs=np.zeros(1))


def _junk(file: Path) -> None:
    file.write_bytes(b"junk")


@pytest.mark.parametrize("write", [_with_objects, _compressed, _claiming, _without_outputs, _junk])
def test_golden_samples_that_are_not_safe_or_not_whole_are_refused(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "samples.npz")
    with pytest.raises(RefusedError, match=r"samples\.npz holds no golden samples"):
        read_samples(tmp_path)


def test_golden_samples_are_not_given_room_for_more_than_they_hold(tmp_path: Path) -> None:
    _claiming(tmp_path / "samples.npz")
    with pytest.raises(RefusedError, match=r"inputs\.npy claims 1000000000000 elements of float64, and has \d+ bytes"):
        read_samples(tmp_path)
