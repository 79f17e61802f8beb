"""Real TensorRT-RTX engines, built with or without a GPU."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Literal

import onnx as onnx_package
import pytest
from onnx import TensorProto, helper

from registry.engines.gpu import Gpu, find_gpu
from registry.engines.key import Machine, mismatch, this_machine
from registry.engines.onnx_file import check_onnx
from registry.engines.tensorrt import (
    RTX_FP8_TARGETS,
    RTX_TARGETS,
    TensorRt,
    TensorRtOptions,
    TypedBy,
    find_tensorrt,
    key_of,
    missing_tensorrt,
    why_not_here,
)
from registry.engines.tensorrt_build import build_engine, timings_of, timings_sha256
from registry.engines.tensorrt_run import TensorRtEngine
from registry.errors import EngineError, NotHereError

if TYPE_CHECKING:
    from pathlib import Path

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
    def targets(package: Literal["tensorrt", "tensorrt_rtx"], gpu: Gpu | None) -> tuple[str, ...]:
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


def test_an_engine_says_why_it_cannot_run_here(rtx: TensorRt) -> None:
    with pytest.raises(NotHereError, match=r"the TensorRT engine cannot run here: there is no NVIDIA GPU"):
        TensorRtEngine(rtx, b"")


def test_every_option_is_in_the_key(rtx: TensorRt, onnx: OnnxModel, spec: OptimizeSpec) -> None:
    changed = (
        TensorRtOptions(),
        TensorRtOptions(precision="tf32"),
        TensorRtOptions(workspace_bytes=1 << 20),
        TensorRtOptions(optimization_level=5),
        TensorRtOptions(targets=("8.9",)),
    )
    keys = [key_of(rtx, onnx, batch=spec.batch, options=options) for options in changed]
    recipe = TypedBy(recipe="fp16 by hand", calibration_sha256=None)
    keys.append(key_of(rtx, onnx, batch=spec.batch, typed_by=recipe))
    keys.append(
        key_of(rtx, onnx, batch=spec.batch, typed_by=recipe.model_copy(update={"calibration_sha256": "a" * 64}))
    )
    assert len(set(keys)) == len(keys)
    assert (keys[0].flags, keys[1].flags) == ((), ("TF32",))


def test_the_plan_follows_the_options_and_is_the_same_each_time(
    rtx: TensorRt, onnx: OnnxModel, spec: OptimizeSpec
) -> None:
    def digest(options: TensorRtOptions) -> str:
        key = key_of(rtx, onnx, batch=spec.batch, options=options)
        return hashlib.sha256(build_engine(rtx, onnx, key)).hexdigest()

    plain = digest(TensorRtOptions())
    assert digest(TensorRtOptions()) == plain
    assert digest(TensorRtOptions(precision="tf32")) != plain
    assert digest(TensorRtOptions(targets=("12.0", "8.9"))) == digest(TensorRtOptions(targets=("8.9", "12.0", "8.9")))


def test_targets_are_asked_for_by_compute_capability(rtx: TensorRt, onnx: OnnxModel, spec: OptimizeSpec) -> None:
    def targets(options: TensorRtOptions) -> tuple[str, ...]:
        return key_of(rtx, onnx, batch=spec.batch, options=options).compute_capabilities

    assert targets(TensorRtOptions(targets=("12.0", "8.9", "12.0"))) == ("8.9", "12.0")
    assert targets(TensorRtOptions(precision="fp8")) == RTX_FP8_TARGETS
    with pytest.raises(EngineError, match=r"TensorRT-RTX 1\.\S+ builds for no 9\.0, 6\.1\. It builds for 8\.0, 8\.6"):
        targets(TensorRtOptions(targets=("9.0", "8.9", "6.1")))


def test_a_compatibility_mode_of_the_full_tensorrt_binds_an_engine_to_no_gpu(
    rtx: TensorRt, onnx: OnnxModel, spec: OptimizeSpec
) -> None:
    full = TensorRt(module=rtx.module, package="tensorrt", version="11.4.0.1", gpu=_gpu("8.9"))
    options = TensorRtOptions(hardware_compatibility="SAME_COMPUTE_CAPABILITY", targets=("12.0",))
    key = key_of(full, onnx, batch=spec.batch, options=options)
    assert (key.hardware_compatibility, key.gpu_name, key.compute_capabilities) == (
        "SAME_COMPUTE_CAPABILITY",
        None,
        ("8.9",),
    )
    assert key_of(rtx, onnx, batch=spec.batch, options=options).hardware_compatibility == "NONE"


def test_an_engine_for_ampere_and_above_is_refused_below_it_in_words(
    rtx: TensorRt, onnx: OnnxModel, spec: OptimizeSpec
) -> None:
    here = this_machine()
    key = key_of(rtx, onnx, batch=spec.batch).model_copy(update={"hardware_compatibility": "AMPERE_PLUS"})

    def on(compute_capability: str) -> str | None:
        machine = Machine(os=here.os, arch=here.arch, gpu=_gpu(compute_capability))
        return mismatch(key.model_dump(mode="json"), machine=machine)

    assert on("12.0") is None
    assert on("9.0") is None
    assert on("7.5") == "it was built for compute capability 8.0 and above, a GPU has 7.5"


def test_a_key_from_before_there_were_precisions_still_fits(rtx: TensorRt, onnx: OnnxModel, spec: OptimizeSpec) -> None:
    here = this_machine()
    fields = key_of(rtx, onnx, batch=spec.batch).model_dump(mode="json")
    for name in ("precision", "recipe", "calibration_sha256", "plugins"):
        del fields[name]
    assert mismatch(fields, machine=Machine(os=here.os, arch=here.arch, gpu=_gpu("8.9"))) is None


def test_the_timing_cache_belongs_to_one_version_on_one_gpu(rtx: TensorRt) -> None:
    def file(version: str, compute_capability: str) -> str:
        gpu = _gpu(compute_capability)
        found = timings_of(TensorRt(module=rtx.module, package="tensorrt", version=version, gpu=gpu))
        assert found is not None
        return found.name

    assert file("11.4.0.106", "8.9") == "tensorrt-11.4.0.106-a-GPU-sm8.9.timings"
    assert len({file("11.4.0.106", "8.9"), file("11.4.0.107", "8.9"), file("11.4.0.106", "9.0")}) == 3
    assert timings_of(rtx) is None


@pytest.mark.parametrize("before", [None, b"no timings"])
def test_the_timing_cache_is_written_whole_and_a_broken_one_does_no_harm(
    rtx: TensorRt, onnx: OnnxModel, spec: OptimizeSpec, tmp_path: Path, before: bytes | None
) -> None:
    timings = tmp_path / "cache" / "some.timings"
    if before is not None:
        timings.parent.mkdir()
        timings.write_bytes(before)
    # TensorRT-RTX has the functions, says that they do nothing, and gives a cache all the same.
    with pytest.warns(match=r"Timing cache operations are no-ops in TensorRT-RTX"):
        plan = build_engine(rtx, onnx, key_of(rtx, onnx, batch=spec.batch), timings=timings)
    assert plan.nbytes > 10_000
    assert [path.name for path in timings.parent.iterdir()] == ["some.timings"]
    assert timings.read_bytes() not in {b"", before}
    assert timings_sha256(timings) == hashlib.sha256(timings.read_bytes()).hexdigest()
    assert timings_sha256(tmp_path / "none") is None


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
