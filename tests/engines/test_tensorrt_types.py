"""What TensorRT is given to compute in fewer bits: typed by onnxruntime, or by ModelOpt in a process of its own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx as onnx_package
import pytest
from onnx import TensorProto, helper

from registry.engines.modelopt import VARIABLE, modelopt_python
from registry.engines.onnx_file import check_onnx
from registry.engines.session import open_onnx
from registry.engines.tensorrt import TensorRt, TensorRtOptions, TypedBy, key_of
from registry.engines.tensorrt_build import build_engine
from registry.engines.tensorrt_types import TypedPrecision, recipe_of, typed
from registry.engines.typed import quantized
from registry.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel
    from registry.engines.spec import OptimizeSpec


@pytest.fixture(autouse=True)
def without_modelopt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave everything to onnxruntime."""
    monkeypatch.delenv(VARIABLE, raising=False)


WORDS: dict[TypedPrecision, str] = {"fp16": "inputs and outputs kept", "int8": "s8s8, ranges by minmax"}


@pytest.mark.parametrize("precision", WORDS)
def test_onnxruntime_types_a_model_that_tensorrt_builds(
    onnx: OnnxModel, samples: NDArray[np.float32], spec: OptimizeSpec, tmp_path: Path, precision: TypedPrecision
) -> None:
    module = pytest.importorskip("tensorrt_rtx", reason="the wheel exists for Linux x86-64 and Windows only")
    found, recipe = typed(onnx, precision, samples, tmp_path / "typed")
    assert recipe.startswith(f"{precision} by onnxruntime 1.")
    assert recipe.endswith(WORDS[precision])
    assert recipe == recipe_of(precision).words
    assert found.signature == onnx.signature
    assert [path.name for path in (tmp_path / "typed").iterdir()] == ["model.onnx"]
    exact, close = open_onnx(onnx.path)(samples), open_onnx(found.path)(samples)
    assert 0 < np.abs(exact - close).max() < 0.02
    assert typed(onnx, precision, samples, tmp_path / "again")[0].sha256 == found.sha256

    rtx = TensorRt(module=module, package="tensorrt_rtx", version=module.__version__, gpu=None)
    typed_by = TypedBy(recipe=recipe, calibration_sha256=None)
    key = key_of(rtx, onnx, batch=spec.batch, options=TensorRtOptions(precision=precision), typed_by=typed_by)
    assert (key.precision, key.recipe, key.onnx_sha256) == (precision, recipe, onnx.sha256)
    assert build_engine(rtx, found, key).nbytes > 10_000


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_what_only_modelopt_can_do_says_how_to_get_it(
    onnx: OnnxModel, samples: NDArray[np.float32], tmp_path: Path, precision: TypedPrecision
) -> None:
    with pytest.raises(
        EngineError, match=rf"^{precision} needs NVIDIA ModelOpt\. Make a virtual environment .* {VARIABLE}"
    ):
        typed(onnx, precision, samples, tmp_path / "typed")
    assert not (tmp_path / "typed").exists()


def test_a_python_without_modelopt_is_no_modelopt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, sys.executable)
    with pytest.raises(
        EngineError, match=rf"{VARIABLE} names {sys.executable}, which has no ModelOpt\. Make a virtual"
    ):
        recipe_of("fp16")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(EngineError, match=rf"names {tmp_path}/gone, which cannot be run: .*No such file"):
        recipe_of("fp16")


def test_modelopt_is_not_asked_for_a_method_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, sys.executable)
    with pytest.raises(EngineError, match=r"ModelOpt finds no ranges by percentile\. Ask for minmax or entropy\."):
        recipe_of("int8", method="percentile")


def test_an_empty_variable_names_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    assert modelopt_python() is None


def test_a_model_without_anything_to_type_is_refused(tmp_path: Path) -> None:
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])
    found = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["output"], name="relu")], "one", [given], [found])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx_package.save(model, tmp_path / "relu.onnx")
    checked, samples = check_onnx(tmp_path / "relu.onnx"), np.ones((4, 4), dtype=np.float32)
    for precision in ("fp16", "int8"):
        with pytest.raises(EngineError, match=rf"nothing in relu\.onnx can be {precision}: it has no operator"):
            typed(checked, precision, samples, tmp_path / "typed")
    with pytest.raises(EngineError, match=r"nothing in relu\.onnx can be int8"):
        quantized(checked, samples, tmp_path / "typed", scheme="u8s8")
    assert list((tmp_path / "typed").iterdir()) == []


def test_large_weights_stay_in_a_file_of_their_own(
    onnx: OnnxModel, samples: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.engines.typed.SINGLE_FILE_BYTES", 1)
    found, _ = typed(onnx, "fp16", samples, tmp_path / "typed")
    assert found.files == ("model.onnx", "model.onnx.data")
    assert sorted(path.name for path in (tmp_path / "typed").iterdir()) == ["model.onnx", "model.onnx.data"]
    assert open_onnx(found.path)(samples).shape == (70, 10)
