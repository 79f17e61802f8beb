"""From an ONNX file to variants that are checked, measured and lie in folders of their own."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import onnx as onnx_package
import pytest
import torch

from registry.engines.onnx_file import check_onnx
from registry.engines.optimize import Material, build_variants, choose, measure_original
from registry.engines.scoring import Scorer
from registry.engines.session import open_onnx
from registry.engines.spec import OptimizeSpec
from registry.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from registry.engines.records import Latency, OnnxModel

    Call: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]


@pytest.fixture
def on_cpu(spec: OptimizeSpec) -> OptimizeSpec:
    """Return a spec for onnxruntime alone."""
    return spec.model_copy(update={"engines": ("onnxruntime",)})


class Judge(NamedTuple):
    """What candidates are held against: a score for which the original is always right, and the original's times."""

    scorer: Scorer
    baseline: tuple[Latency, ...]


@pytest.fixture
def judge(reference: NDArray[Any], samples: NDArray[np.float32], torch_call: Call, spec: OptimizeSpec) -> Judge:
    """Return the judge for the network."""
    return Judge(
        scorer=Scorer(lambda outputs: float(np.mean(outputs.argmax(axis=1) == reference.argmax(axis=1)))),
        baseline=measure_original(torch_call, samples, spec=spec),
    )


def test_a_model_is_optimised_with_everything_that_can_be_had_here(
    onnx: OnnxModel, samples: NDArray[np.float32], reference: NDArray[Any], judge: Judge, tmp_path: Path
) -> None:
    lines: list[str] = []
    spec = OptimizeSpec(batch_sizes=(1, 8), repetitions=20)
    cpu, gpu = build_variants(
        Material(onnx, samples, reference, scorer=judge.scorer), spec=spec, folder=tmp_path, report=lines.append
    )
    assert (cpu.status, cpu.score, cpu.score_drop) == ("measured", 1.0, 0.0)
    assert cpu.parity is not None
    assert cpu.parity.passed
    assert cpu.parity.samples == 70
    assert gpu.status in ({"built", "measured"} if importlib.util.find_spec("tensorrt_rtx") else {"unavailable"})
    assert {path.name for path in tmp_path.iterdir()} == {variant.key for variant in (cpu, gpu) if variant.file}
    assert lines[0] == "onnxruntime: building, checking and measuring"
    assert "ms for a batch of 1" in lines[1]
    choice = choose([cpu], spec=spec, baseline=judge.baseline, baseline_score=1.0)
    # onnxruntime runs this network several times as fast as torch; even a busy machine does not turn that round.
    assert choice.key == cpu.key
    assert choice.speedup is not None
    assert choice.speedup > 1


def test_a_variants_folder_runs_by_itself_and_is_not_part_of_its_json(
    onnx: OnnxModel, samples: NDArray[np.float32], reference: NDArray[Any], on_cpu: OptimizeSpec, tmp_path: Path
) -> None:
    (variant,) = build_variants(Material(onnx, samples, reference), spec=on_cpu, folder=tmp_path)
    assert variant.folder is not None
    assert [path.name for path in variant.folder.iterdir()] == ["model.onnx"]
    np.testing.assert_allclose(open_onnx(variant.folder / "model.onnx")(samples), reference, atol=1e-5)
    assert str(tmp_path) not in variant.model_dump_json()


def test_a_second_run_puts_the_same_variant_in_the_same_place(
    onnx: OnnxModel, samples: NDArray[np.float32], reference: NDArray[Any], on_cpu: OptimizeSpec, tmp_path: Path
) -> None:
    (first,) = build_variants(Material(onnx, samples, reference), spec=on_cpu, folder=tmp_path)
    assert first.folder is not None
    (first.folder / "model.onnx").write_bytes(b"half written")
    (second,) = build_variants(Material(onnx, samples, reference), spec=on_cpu, folder=tmp_path)
    assert second.folder == first.folder
    assert (first.folder / "model.onnx").read_bytes() == onnx.path.read_bytes()


def test_weights_in_a_file_of_their_own_go_with_the_variant(
    onnx: OnnxModel, samples: NDArray[np.float32], reference: NDArray[Any], on_cpu: OptimizeSpec, tmp_path: Path
) -> None:
    path = tmp_path / "large.onnx"
    onnx_package.save(
        onnx_package.load(onnx.path), path, save_as_external_data=True, location="large.bin", size_threshold=1024
    )
    built = build_variants(Material(check_onnx(path), samples, reference), spec=on_cpu, folder=tmp_path / "variants")
    (variant,) = built
    assert variant.status == "measured"
    assert variant.folder is not None
    assert sorted(file.name for file in variant.folder.iterdir()) == ["large.bin", "model.onnx"]


def test_a_variant_with_other_answers_is_kept_as_not_equal_and_not_chosen(
    onnx: OnnxModel, samples: NDArray[np.float32], reference: NDArray[Any], judge: Judge, tmp_path: Path
) -> None:
    lines: list[str] = []
    spec = OptimizeSpec(engines=("onnxruntime",), batch_sizes=(1,), repetitions=5)
    shifted = reference + np.float32(1)
    (variant,) = build_variants(
        Material(onnx, samples, shifted, scorer=judge.scorer), spec=spec, folder=tmp_path, report=lines.append
    )
    assert variant.status == "measured"
    assert variant.parity is not None
    assert not variant.parity.passed
    assert "not equal: 700 of 700 values" in lines[-1]
    choice = choose([variant], spec=spec, baseline=judge.baseline)
    assert choice.key is None
    assert "its outputs differ" in choice.reason


def test_outputs_of_another_shape_are_not_scored(
    onnx: OnnxModel, samples: NDArray[np.float32], reference: NDArray[Any], on_cpu: OptimizeSpec, tmp_path: Path
) -> None:
    def score(outputs: NDArray[Any]) -> float:
        assert outputs.shape == (70, 3)
        return 1.0

    (variant,) = build_variants(
        Material(onnx, samples, reference[:, :3], scorer=Scorer(score)), spec=on_cpu, folder=tmp_path
    )
    assert variant.score is None
    assert variant.reason == "the original gives shape (70, 3), the engine (70, 10)"


def test_a_candidate_that_fails_does_not_stop_the_others(
    onnx: OnnxModel, samples: NDArray[np.float32], reference: NDArray[Any], spec: OptimizeSpec, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no protobuf at all")
    model = onnx.model_copy(update={"path": damaged, "files": (damaged.name,)})
    variants = build_variants(Material(model, samples, reference), spec=spec, folder=tmp_path / "variants")
    assert [variant.engine for variant in variants] == ["onnxruntime", "tensorrt"]
    assert variants[0].status == "failed"
    assert variants[1].status in {"failed", "unavailable"}
    assert list((tmp_path / "variants").iterdir()) == []


def test_a_model_with_two_inputs_is_refused_before_anything_is_built(
    samples: NDArray[np.float32], reference: NDArray[Any], spec: OptimizeSpec, tmp_path: Path
) -> None:
    tensor = onnx_package.helper.make_tensor_value_info
    values = [tensor(name, onnx_package.TensorProto.FLOAT, ["batch"]) for name in ("left", "right", "sum")]
    node = onnx_package.helper.make_node("Add", ["left", "right"], ["sum"])
    graph = onnx_package.helper.make_graph([node], "sum", values[:2], values[2:])
    opset = onnx_package.helper.make_opsetid("", 20)
    onnx_package.save(
        onnx_package.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "sum.onnx"
    )
    model = check_onnx(tmp_path / "sum.onnx")
    with pytest.raises(EngineError, match="it has the inputs left, right and the outputs sum"):
        build_variants(Material(model, samples, reference), spec=spec, folder=tmp_path / "variants")
    assert not (tmp_path / "variants").exists()


def test_samples_without_answers_and_a_score_that_is_no_number_are_refused(
    onnx: OnnxModel, samples: NDArray[np.float32], reference: NDArray[Any], spec: OptimizeSpec, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="70 samples and 3 outputs of the original were given"):
        build_variants(Material(onnx, samples, reference[:3]), spec=spec, folder=tmp_path / "variants")
    with pytest.raises(EngineError, match="the score of the original's outputs is nan"):
        build_variants(
            Material(onnx, samples, reference, scorer=Scorer(lambda _: np.nan)),
            spec=spec,
            folder=tmp_path / "variants",
        )
    assert not (tmp_path / "variants").exists()


def test_the_original_is_timed_with_the_specs_threads_and_torch_left_as_it_was(
    samples: NDArray[np.float32], on_cpu: OptimizeSpec
) -> None:
    seen = set()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measure_original(lambda _: seen.add(torch.get_num_threads()), samples, spec=on_cpu)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == {1}


def test_a_session_is_given_inputs_by_name_and_refuses_what_does_not_fit(
    onnx: OnnxModel, samples: NDArray[np.float32], reference: NDArray[Any]
) -> None:
    session = open_onnx(onnx.path)
    np.testing.assert_allclose(session.run({"input": samples[:2]})["output"], reference[:2], atol=1e-5)
    for feeds in ({"input": samples[:, :, :7]}, {"input": samples.astype(np.float64)}, {"other": samples}, {}):
        with pytest.raises(EngineError, match=r"onnxruntime could not run .*digits\.onnx"):
            session.run(feeds)


def test_key_fields_survive_json(
    onnx: OnnxModel, samples: NDArray[np.float32], reference: NDArray[Any], on_cpu: OptimizeSpec, tmp_path: Path
) -> None:
    (variant,) = build_variants(Material(onnx, samples, reference), spec=on_cpu, folder=tmp_path)
    assert json.loads(variant.model_dump_json())["key_fields"] == variant.key_fields
