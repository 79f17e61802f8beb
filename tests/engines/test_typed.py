"""What is written into an ONNX file so that an engine computes in fewer bits, and how little that changes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, get_args

import numpy as np
import onnx as onnx_package
import pytest

from registry.engines.export import export_torch
from registry.engines.session import open_onnx
from registry.engines.spec import BatchRange, OptimizeSpec
from registry.engines.typed import Method, Scheme, quantized
from registry.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
METHODS: tuple[Method, ...] = get_args(Method)


def _operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx_package.load(str(path)).graph.node}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_int8_names_the_same_class_and_adds_only_its_two_operators(
    onnx: OnnxModel, samples: NDArray[np.float32], tmp_path: Path, scheme: Scheme, method: Method
) -> None:
    found = quantized(onnx, samples, tmp_path / "int8", scheme=scheme, method=method)
    assert _operators(found.path) - _operators(onnx.path) == {"QuantizeLinear", "DequantizeLinear"}
    assert found.signature == onnx.signature
    assert [path.name for path in (tmp_path / "int8").iterdir()] == ["model.onnx"]
    exact, close = open_onnx(onnx.path)(samples), open_onnx(found.path)(samples)
    assert (exact.argmax(axis=1) == close.argmax(axis=1)).mean() >= 0.98
    assert np.abs(exact - close).max() < 0.02


def test_only_signed_and_symmetric_numbers_are_left_for_tensorrt(
    onnx: OnnxModel, samples: NDArray[np.float32], tmp_path: Path
) -> None:
    graph = onnx_package.load(str(quantized(onnx, samples, tmp_path, scheme="s8s8").path)).graph
    weights = {tensor.name: onnx_package.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    zero_points = [weights[node.input[2]] for node in pairs]
    assert zero_points
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zero_points)
    assert not any(array.dtype == np.int32 for array in weights.values())  # a bias stays as it was


def test_the_weights_for_a_cpu_leave_room_for_its_16_bit_sums(
    onnx: OnnxModel, samples: NDArray[np.float32], tmp_path: Path
) -> None:
    graph = onnx_package.load(str(quantized(onnx, samples, tmp_path, scheme="u8s8").path)).graph
    arrays = [onnx_package.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    weights = [array for array in arrays if array.dtype == np.int8 and array.any()]
    assert len(weights) == 2
    assert max(int(np.abs(array.astype(int)).max()) for array in weights) <= 64


def test_the_same_input_gives_the_same_bytes_in_every_process(
    onnx: OnnxModel, samples: NDArray[np.float32], tmp_path: Path
) -> None:
    np.save(tmp_path / "samples.npy", samples)
    code = (
        "import sys, numpy; from pathlib import Path\n"
        "from registry.engines.onnx_file import check_onnx\n"
        "from registry.engines.typed import quantized\n"
        "model, samples = check_onnx(sys.argv[1]), numpy.load(sys.argv[2])\n"
        "print(quantized(model, samples, Path(sys.argv[3]), scheme='u8s8').sha256)\n"
    )
    command = [sys.executable, "-c", code, str(onnx.path), str(tmp_path / "samples.npy")]
    digests = {quantized(onnx, samples, tmp_path / "here", scheme="u8s8").sha256}
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [*command, str(tmp_path / seed)], env=environment, check=True, capture_output=True, text=True
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_fixed_batch_is_calibrated_with_batches_of_that_size(
    net: torch.nn.Module, samples: NDArray[np.float32], tmp_path: Path, method: Method
) -> None:
    fixed = OptimizeSpec(batch=BatchRange(min=4, opt=4, max=4), batch_sizes=(4,))
    model = export_torch(net, samples, tmp_path / "fixed.onnx", spec=fixed)
    found = quantized(model, samples, tmp_path / "int8", scheme="u8s8", method=method)
    assert found.signature.inputs[0].shape == (4, 1, 8, 8)


def test_external_data_stays_beside_the_model(
    onnx: OnnxModel, samples: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.engines.typed.SINGLE_FILE_BYTES", 1)
    found = quantized(onnx, samples, tmp_path / "int8", scheme="s8s8")
    assert found.files == ("model.onnx", "model.onnx.data")
    assert sorted(path.name for path in (tmp_path / "int8").iterdir()) == ["model.onnx", "model.onnx.data"]
    assert open_onnx(found.path)(samples).shape == (70, 10)


def test_samples_that_do_not_fit_are_refused_and_leave_nothing(
    onnx: OnnxModel, samples: NDArray[np.float32], tmp_path: Path
) -> None:
    folder, before = tmp_path / "int8", tempfile.tempdir
    with pytest.raises(EngineError, match=r"onnxruntime cannot quantise digits\.onnx to u8s8 \(minmax\): .*INVALID"):
        quantized(onnx, samples[:, :, :4], folder, scheme="u8s8")
    with pytest.raises(EngineError, match=r"digits\.onnx cannot be quantised without samples"):
        quantized(onnx, samples[:0], folder, scheme="u8s8")
    assert list(folder.iterdir()) == []
    assert tempfile.tempdir == before
