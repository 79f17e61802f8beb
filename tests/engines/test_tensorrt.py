"""Real TensorRT-RTX engines, built with or without a GPU."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx as onnx_package
import pytest
from onnx import TensorProto, helper

from registry.engines.gpu import Gpu, find_gpu
from registry.engines.onnx_file import check_onnx
from registry.engines.tensorrt import (
    RTX_TARGETS,
    TensorRt,
    TensorRtEngine,
    build_engine,
    find_tensorrt,
    key_of,
    missing_tensorrt,
    why_not_here,
)
from registry.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel
    from registry.engines.spec import OptimizeSpec


@pytest.fixture
def rtx() -> TensorRt:
    """Return TensorRT-RTX as on a machine without a GPU; its wheel exists for Linux x86-64 and Windows only."""
    module = pytest.importorskip("tensorrt_rtx", reason="the wheel exists for Linux x86-64 and Windows only")
    return TensorRt(module=module, package="tensorrt_rtx", version=module.__version__, gpu=None)


def _gpu(compute_capability: str) -> Gpu:
    return Gpu(name="a GPU", compute_capability=compute_capability, memory_bytes=1 << 34, driver="13.0")


def _model(path: Path, node: onnx_package.NodeProto, *shape: str | int) -> OnnxModel:
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    found = helper.make_tensor_value_info("output", TensorProto.FLOAT, shape[:1] if node.op_type == "Det" else shape)
    graph = helper.make_graph([node], "one node", [given], [found])
    opset = helper.make_opsetid("", 20)
    onnx_package.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return check_onnx(path)


def test_an_engine_is_built_for_every_rtx_generation_without_a_gpu(
    rtx: TensorRt, onnx: OnnxModel, spec: OptimizeSpec
) -> None:
    key = key_of(rtx, onnx, batch=spec.batch)
    assert key.compute_capabilities == RTX_TARGETS
    assert key.profiles[0].model_dump() == {
        "input": "input",
        "min": (1, 1, 8, 8),
        "opt": (4, 1, 8, 8),
        "max": (64, 1, 8, 8),
    }
    assert key.version.count(".") == 3
    assert (key.gpu_name, key.gpu_memory_bytes) == (None, None)
    assert build_engine(rtx, onnx, key).nbytes > 10_000


def test_an_engine_is_built_for_the_gpu_at_hand_where_it_is_one_of_the_targets(rtx: TensorRt) -> None:
    def targets(package: str, gpu: Gpu | None) -> tuple[str, ...]:
        return TensorRt(module=rtx.module, package=package, version=rtx.version, gpu=gpu).targets

    assert targets("tensorrt_rtx", _gpu("8.9")) == ("8.9",)
    assert targets("tensorrt_rtx", _gpu("9.0")) == RTX_TARGETS
    assert targets("tensorrt_rtx", None) == RTX_TARGETS
    assert targets("tensorrt", _gpu("9.0")) == ("9.0",)


def test_the_full_tensorrt_names_its_gpu_in_the_key(onnx: OnnxModel, rtx: TensorRt, spec: OptimizeSpec) -> None:
    full = TensorRt(module=rtx.module, package="tensorrt", version="11.4.0.1", gpu=_gpu("9.0"))
    key = key_of(full, onnx, batch=spec.batch)
    assert (key.gpu_name, key.gpu_memory_bytes, key.compute_capabilities) == ("a GPU", 1 << 34, ("9.0",))


def test_a_node_that_tensorrt_does_not_know_is_named(rtx: TensorRt, spec: OptimizeSpec, tmp_path: Path) -> None:
    node = helper.make_node("Det", ["input"], ["output"], name="determinant")
    model = _model(tmp_path / "model.onnx", node, "batch", 4, 4)
    with pytest.raises(EngineError, match=r"cannot read model\.onnx: node 'determinant' \(Det\): UNSUPPORTED_NODE"):
        build_engine(rtx, model, key_of(rtx, model, batch=spec.batch))


def test_what_the_builder_says_is_passed_on(rtx: TensorRt, onnx: OnnxModel, spec: OptimizeSpec) -> None:
    turing = key_of(rtx, onnx, batch=spec.batch).model_copy(update={"compute_capabilities": ("7.5",)})
    with pytest.raises(EngineError, match=r"could not build digits\.onnx: .*FP32 GEMM is not supported"):
        build_engine(rtx, onnx, turing)


def test_a_free_axis_other_than_the_batch_is_refused(rtx: TensorRt, spec: OptimizeSpec, tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["input"], ["output"], name="relu")
    model = _model(tmp_path / "model.onnx", node, "batch", "length")
    with pytest.raises(EngineError, match=r"input 'input' has shape \(-1, -1\): only its first axis"):
        key_of(rtx, model, batch=spec.batch)


def test_a_model_of_fixed_shapes_needs_no_profile(rtx: TensorRt, spec: OptimizeSpec, tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["input"], ["output"], name="relu")
    model = _model(tmp_path / "model.onnx", node, 2, 3)
    key = key_of(rtx, model, batch=spec.batch)
    assert key.profiles == ()
    assert build_engine(rtx, model, key).nbytes > 0


def test_the_engine_gives_the_originals_answers_or_says_why_it_cannot_run_here(
    rtx: TensorRt, onnx: OnnxModel, spec: OptimizeSpec, samples: NDArray[np.float32], reference: NDArray[Any]
) -> None:
    backend = find_tensorrt() or rtx
    plan = build_engine(backend, onnx, key_of(backend, onnx, batch=spec.batch))
    if why_not_here(backend) is None:
        np.testing.assert_allclose(TensorRtEngine(backend, plan)(samples[:8]), reference[:8], atol=1e-3, rtol=1e-3)
        return
    with pytest.raises(
        EngineError, match=r"the TensorRT engine cannot run here: (there is no NVIDIA GPU|.* has|the t)"
    ):
        TensorRtEngine(backend, plan)


def test_a_gpu_that_tensorrt_rtx_does_not_build_for_is_said(rtx: TensorRt) -> None:
    on_h200 = TensorRt(module=rtx.module, package="tensorrt_rtx", version=rtx.version, gpu=_gpu("9.0"))
    assert why_not_here(on_h200) == "a GPU has compute capability 9.0, TensorRT-RTX builds for " + ", ".join(
        RTX_TARGETS
    )


def test_tensorrt_rtx_is_found_and_the_full_tensorrt_not_touched_without_a_driver(rtx: TensorRt) -> None:
    found = find_tensorrt()
    assert found is not None
    if find_gpu() is None:
        assert found == rtx
        assert "tensorrt" not in sys.modules


@pytest.mark.usefixtures("without_tensorrt")
def test_neither_installed_is_no_error_and_has_a_mend() -> None:
    assert find_tensorrt() is None
    assert str(missing_tensorrt()).endswith("which is not installed: pip install 'modelway[tensorrt-rtx]'")


def test_a_broken_installation_is_not_taken_for_a_missing_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt_rtx.py").write_text("import tensorrt_rtx_libraries_that_are_gone\n")
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    if find_gpu() is None:
        with pytest.raises(ModuleNotFoundError, match="libraries_that_are_gone"):
            find_tensorrt()
