"""One ONNX file from whatever was registered, and the proof that it gives what its source gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx as onnx_package
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from registry import ModelRegistry
from registry.engines.pivot import samples_for, source_parity, to_onnx
from registry.engines.session import open_onnx
from registry.engines.spec import BatchRange, OptimizeSpec
from registry.errors import EngineError, InvalidInputError
from registry.frameworks.predict import predictor_of
from registry.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel


class TwoHeads(torch.nn.Module):
    """Gives two tensors."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images + 1, images - 1


class Unexportable(torch.nn.Module):
    """Asks for an operation that ONNX has no words for."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.special.bessel_j0(images)
        return found


@pytest.fixture
def models(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(tmp_path / "registry", actor="ada@example.com")


def _registered(folder: Path, onnx: OnnxModel, *, location: str | None = None) -> Any:
    """Put the network's ONNX into a folder as a version's files lie there, and return it as ``load`` gives it."""
    folder.mkdir()
    loaded, copy = onnx_package.load(onnx.path), onnx_package.load(onnx.path)
    path = folder / "net.onnx"
    onnx_package.save(copy, path, save_as_external_data=location is not None, location="weights.bin")
    if location:
        moved = onnx_package.load(folder / "net.onnx", load_external_data=False)
        for tensor in moved.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        (folder / "net.onnx").write_bytes(moved.SerializeToString())
    return loaded


def test_a_torch_module_and_a_classifier_each_become_a_file_that_gives_the_same(
    net: torch.nn.Module, samples: NDArray[np.float32], spec: OptimizeSpec, tmp_path: Path
) -> None:
    rows = samples.reshape(len(samples), -1)
    classifier = LogisticRegression().fit(rows, np.arange(len(rows)) % 3)
    for model, inputs in ((net, samples), (classifier, rows)):
        path = tmp_path / type(model).__name__ / "model.onnx"
        exported = to_onnx(model, tmp_path, inputs, path, spec=spec, full_name="net:v1")
        parity = source_parity(exported, predictor_of(model, "net:v1"), inputs, spec=spec)
        assert (exported.path, parity.passed, parity.samples) == (path, True, 70)


@pytest.mark.parametrize("location", [None, "weights.bin"])
def test_a_registered_onnx_is_used_where_it_lies(
    onnx: OnnxModel, samples: NDArray[np.float32], spec: OptimizeSpec, tmp_path: Path, location: str | None
) -> None:
    folder = tmp_path / "version"
    loaded = _registered(folder, onnx, location=location)
    found = to_onnx(loaded, folder, samples, tmp_path / "scratch" / "model.onnx", spec=spec, full_name="net:v1")
    assert found.path == folder / "net.onnx"
    assert found.files == (("net.onnx", "weights.bin") if location else ("net.onnx",))
    assert not (tmp_path / "scratch").exists()
    parity = source_parity(found, predictor_of(loaded, "net:v1"), samples, spec=spec)
    assert (parity.passed, parity.max_abs) == (True, 0.0)


@pytest.mark.parametrize("location", ["../outside.bin", "missing.bin", "/etc/hostname"])
def test_a_registered_onnx_that_reaches_outside_its_folder_is_refused(
    onnx: OnnxModel, samples: NDArray[np.float32], spec: OptimizeSpec, tmp_path: Path, location: str
) -> None:
    (tmp_path / "outside.bin").write_bytes(bytes(1 << 16))
    loaded = _registered(tmp_path / "version", onnx, location=location)
    with pytest.raises(EngineError, match=r"net\.onnx is no valid ONNX model: .*register it as custom"):
        to_onnx(loaded, tmp_path / "version", samples, tmp_path / "model.onnx", spec=spec, full_name="net:v1")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("names", [(), ("a.onnx", "b.ONNX")])
def test_a_folder_without_exactly_one_onnx_file_is_refused(
    onnx: OnnxModel, samples: NDArray[np.float32], spec: OptimizeSpec, tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(onnx.path.read_bytes())
    loaded = onnx_package.load(onnx.path)
    with pytest.raises(EngineError, match=rf"net:v1 .* one \.onnx file .* its folder has {', '.join(names) or 'none'}"):
        to_onnx(loaded, tmp_path, samples, tmp_path / "new" / "model.onnx", spec=spec, full_name="net:v1")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (TwoHeads(), r"one input and one output are asked for, .* outputs output_0, output_1"),
        (Unexportable(), r"Unexportable cannot be exported to ONNX: .*bessel_j0"),
        ({"weight": torch.ones(2)}, "net:v1 was loaded as dict, and engines are built from torch modules"),
        (b"bytes", "net:v1 was loaded as bytes"),
    ],
)
def test_what_cannot_become_one_onnx_file_is_told_by_name(
    model: object, words: str, samples: NDArray[np.float32], spec: OptimizeSpec, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=words):
        to_onnx(model, tmp_path, samples, tmp_path / "model.onnx", spec=spec, full_name="net:v1")


def test_another_models_file_is_found_out(
    onnx: OnnxModel, torch_call: Callable[[NDArray[Any]], NDArray[Any]], samples: NDArray[np.float32]
) -> None:
    spec = OptimizeSpec(batch=BatchRange(max=16), batch_sizes=(1,))
    assert source_parity(onnx, torch_call, samples, spec=spec).passed
    other = source_parity(onnx, lambda batch: torch_call(batch) + 0.5, samples, spec=spec)
    assert not other.passed
    assert other.max_abs == pytest.approx(0.5, abs=1e-3)
    assert "are further from the original" in other.reason


def test_labels_must_be_equal_whatever_the_tolerance(spec: OptimizeSpec, tmp_path: Path) -> None:
    rows = np.arange(60, dtype=np.float32).reshape(60, 1)
    classifier = LogisticRegression(C=1e5, max_iter=10_000).fit(rows, 5000 + (rows[:, 0] > 30))
    exported = to_onnx(classifier, tmp_path, rows, tmp_path / "model.onnx", spec=spec, full_name="net:v1")
    call = predictor_of(classifier, "net:v1")
    assert source_parity(exported, call, rows, spec=spec).passed
    # One label of 5000 beside 5001 is within a relative 1e-3.
    wrong = source_parity(exported, lambda batch: np.minimum(call(batch), 5000), rows, spec=spec)
    assert (wrong.passed, wrong.max_abs) == (False, 1.0)


def test_samples_that_are_given_come_first_then_those_of_the_version(
    models: ModelRegistry, samples: NDArray[np.float32], tmp_path: Path
) -> None:
    classifier = LogisticRegression().fit(samples.reshape(70, -1), np.arange(70) % 3)
    version = models.register("net", model=classifier, samples=samples.reshape(70, -1))
    folder = models.download("net", 1, tmp_path / "files")
    given = samples.reshape(70, -1)[3:5]
    assert samples_for(version, folder, given) == (given, "given")
    recorded, words = samples_for(version, folder, None)
    assert words == "recorded with the version"
    np.testing.assert_array_equal(recorded, samples.reshape(70, -1)[:64])


@pytest.mark.parametrize(
    ("spec", "shape", "values"),
    [
        (TensorSpec(name="images", dtype="float32", shape=(-1, 1, 8, 8)), (8, 1, 8, 8), None),
        (TensorSpec(name="rows", dtype="float64", shape=(3, 4)), (3, 4), None),
        (TensorSpec(name="words", dtype="int64", shape=(-1, -1)), (8, 8), {0, 1}),
        (TensorSpec(name="mask", dtype="bool", shape=(-1, 40)), (8, 40), {False, True}),
    ],
)
def test_samples_are_made_up_from_the_signature_and_it_is_said(
    models: ModelRegistry, tmp_path: Path, spec: TensorSpec, shape: tuple[int, ...], values: set[int] | None
) -> None:
    version = models.register("net", model=b"weights", signature=Signature(inputs=(spec,)))
    made, words = samples_for(version, tmp_path, None)
    assert (words, made.shape, made.dtype.name) == ("generated from the signature", shape, spec.dtype)
    assert values is None or set(made.flat) == values
    np.testing.assert_array_equal(made, samples_for(version, tmp_path, None)[0])


ROWS = TensorSpec(name="rows", dtype="float32", shape=(-1, 4))


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        (None, r"net:v1 was registered without samples, and engines are checked on real ones: give samples="),
        (Signature(), "engines are checked on real ones"),
        (Signature(inputs=(ROWS, ROWS)), r"its signature has the inputs rows \(float32, shape \(-1, 4\)\), rows"),
        (Signature(inputs=(TensorSpec(name="text", dtype="unknown", shape=(-1,)),)), r"none can be made up.*unknown"),
        (Signature(inputs=(TensorSpec(name="one", dtype="float32", shape=()),)), "first axis is the batch"),
    ],
)
def test_without_samples_and_a_signature_of_one_array_there_are_none(
    models: ModelRegistry, tmp_path: Path, signature: Signature | None, words: str
) -> None:
    version = models.register("net", model=b"weights", signature=signature)
    with pytest.raises(InvalidInputError, match=words):
        samples_for(version, tmp_path, None)


@pytest.mark.heavy
def test_weights_above_two_gigabytes_are_one_artifact_of_two_files(tmp_path: Path) -> None:
    # 32 s and 7.3 GB of memory where it was written.
    module = torch.nn.Linear(24_000, 24_000, bias=False)
    torch.nn.init.zeros_(module.weight)
    with torch.no_grad():
        module.weight[7, 3] = 2.0
    samples = np.random.default_rng(7).random((2, 24_000), dtype=np.float32)
    spec = OptimizeSpec(batch=BatchRange(opt=2))
    onnx = to_onnx(module, tmp_path, samples, tmp_path / "model.onnx", spec=spec, full_name="net:v1")
    assert onnx.files == ("model.onnx", "model.onnx.data")
    sizes = [(tmp_path / name).stat().st_size for name in onnx.files]
    assert sizes[0] < 10_000
    assert sizes[1] >= 24_000 * 24_000 * 4
    found = open_onnx(onnx.path)(samples)
    np.testing.assert_allclose(found[:, 7], 2 * samples[:, 3], rtol=1e-6)
    (tmp_path / "model.onnx.data").unlink()  # pytest keeps the folders of three runs
