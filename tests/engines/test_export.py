"""From torch to ONNX, and what is known of an ONNX file before anything runs it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx as onnx_package
import pytest
import torch

from registry.engines.export import check_onnx, export_torch
from registry.engines.session import open_onnx
from registry.engines.spec import BatchRange, OptimizeSpec
from registry.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel


class Branching(torch.nn.Module):
    """Decides by what is in the data, which no ONNX graph of ours can."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + 1 if images.sum() > 0 else images - 1


class TwoHeads(torch.nn.Module):
    """Gives two tensors."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images + 1, images - 1


class NamedHeads(torch.nn.Module):
    """Gives two tensors by name."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"boxes": images + 1, "scores": images - 1}


class Wordy(torch.nn.Module):
    """Gives no tensor."""

    def forward(self, images: torch.Tensor) -> str:
        return f"{images.ndim} axes"


@pytest.mark.parametrize("size", [1, 5, 64])
def test_the_exported_model_gives_torchs_answers_at_every_batch_size(
    onnx: OnnxModel, torch_call: Callable[[NDArray[Any]], NDArray[Any]], samples: NDArray[np.float32], size: int
) -> None:
    found = open_onnx(onnx.path)(samples[:size])
    assert found.shape == (size, 10)
    np.testing.assert_allclose(found, torch_call(samples[:size]), atol=1e-5)


def test_the_file_says_what_goes_in_and_out_and_names_the_free_axis(onnx: OnnxModel) -> None:
    assert (onnx.input_names, onnx.output_names) == (("input",), ("output",))
    assert onnx.only_input().shape == (-1, 1, 8, 8)
    assert onnx.signature.outputs[0].shape == (-1, 10)
    assert onnx.only_input().dtype == "float32"
    assert onnx.opset == 20
    first = onnx_package.load(onnx.path).graph.input[0].type.tensor_type.shape.dim[0]
    assert first.dim_param == "batch"


def test_the_same_model_gives_the_same_bytes_and_none_of_this_machines_paths(
    net: torch.nn.Module, samples: NDArray[np.float32], spec: OptimizeSpec, onnx: OnnxModel, tmp_path: Path
) -> None:
    again = export_torch(net, samples[3:9], tmp_path / "elsewhere" / "other.onnx", spec=spec)
    assert again.sha256 == onnx.sha256
    assert again.path.read_bytes() == onnx.path.read_bytes()
    assert b".py" not in again.path.read_bytes()
    assert [path.name for path in again.path.parent.iterdir()] == ["other.onnx"]


def test_other_weights_give_another_digest(
    net: torch.nn.Module, samples: NDArray[np.float32], spec: OptimizeSpec, onnx: OnnxModel, tmp_path: Path
) -> None:
    other = type(net)().eval()
    assert export_torch(other, samples, tmp_path / "model.onnx", spec=spec).sha256 != onnx.sha256


def test_exporting_says_nothing_and_leaves_the_module_in_its_modes(
    net: torch.nn.Module,
    samples: NDArray[np.float32],
    spec: OptimizeSpec,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    training = type(net)().train()
    training.get_submodule("norm").eval()
    before = [part.training for part in training.modules()]
    export_torch(training, samples, tmp_path / "model.onnx", spec=spec)
    assert [part.training for part in training.modules()] == before
    assert capfd.readouterr() == ("", "")


def test_a_batch_range_of_one_size_gives_a_fixed_axis(
    net: torch.nn.Module, samples: NDArray[np.float32], tmp_path: Path
) -> None:
    spec = OptimizeSpec(batch=BatchRange(min=3, opt=3, max=3), batch_sizes=(3,))
    assert export_torch(net, samples[:1], tmp_path / "model.onnx", spec=spec).only_input().shape == (3, 1, 8, 8)


def test_several_outputs_are_named_and_cannot_be_optimised(
    samples: NDArray[np.float32], spec: OptimizeSpec, tmp_path: Path
) -> None:
    model = export_torch(TwoHeads(), samples, tmp_path / "two.onnx", spec=spec)
    assert model.output_names == ("output_0", "output_1")
    assert export_torch(NamedHeads(), samples, tmp_path / "named.onnx", spec=spec).output_names == ("boxes", "scores")
    with pytest.raises(EngineError, match=r"outputs output_0, output_1\. Deploy it as it is"):
        model.only_input()


@pytest.mark.parametrize(
    ("module", "words"),
    [(Branching(), "Branching cannot be exported to ONNX: "), (Wordy(), "it returns str; a tensor")],
)
def test_a_module_that_cannot_be_exported_is_named_and_leaves_no_file(
    module: torch.nn.Module, words: str, samples: NDArray[np.float32], spec: OptimizeSpec, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=words):
        export_torch(module, samples, tmp_path / "model.onnx", spec=spec)
    assert list(tmp_path.iterdir()) == []


def test_no_samples_are_refused(net: torch.nn.Module, samples: NDArray[np.float32], tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="at least one is needed"):
        export_torch(net, samples[:0], tmp_path / "model.onnx", spec=OptimizeSpec())


def test_the_digest_covers_weights_that_lie_in_a_file_of_their_own(onnx: OnnxModel, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = onnx_package.load(onnx.path)
    onnx_package.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = check_onnx(path)
    assert before.files == ("model.onnx", "weights.bin")
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    assert check_onnx(path).sha256 != before.sha256


@pytest.mark.parametrize("location", ["../outside.bin", "missing.bin"])
def test_weights_outside_the_folder_or_missing_are_refused(onnx: OnnxModel, tmp_path: Path, location: str) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(1 << 16))
    model = onnx_package.load(onnx.path)
    onnx_package.save(model, folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    moved = onnx_package.load(folder / "model.onnx", load_external_data=False)
    for tensor in moved.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    (folder / "model.onnx").write_bytes(moved.SerializeToString())
    with pytest.raises(EngineError, match=r"model\.onnx is no valid ONNX model"):
        open_onnx(folder / "model.onnx")


@pytest.mark.parametrize("data", [b"no protobuf at all", None])
def test_a_file_that_is_no_onnx_or_not_there_is_refused(data: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(EngineError, match=r"model\.onnx is no valid ONNX model: .*Export it again"):
        check_onnx(path)


def test_records_spec_and_choice_load_without_numpy() -> None:
    names = ("records", "spec", "choice", "key", "gpu", "job", "candidate")
    code = "".join(f"import registry.engines.{name};" for name in names)
    code += "import sys; sys.exit(bool({'numpy', 'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
