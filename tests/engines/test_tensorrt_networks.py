"""Real networks as TensorRT engines: built everywhere, and run wherever there is a GPU that they are for."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import onnx as onnx_package
import pytest
from numpy.typing import NDArray

from benchmarks.networks import BertBase, Digits, ResNet50, bert_base, digits, resnet50
from registry.engines.export import export_torch
from registry.engines.gpu import find_gpu
from registry.engines.key import Machine, TensorRtKey, mismatch, this_machine
from registry.engines.latency import measure
from registry.engines.onnx_file import check_onnx
from registry.engines.session import open_onnx
from registry.engines.spec import BatchRange, OptimizeSpec
from registry.engines.tensorrt import (
    FULL_PRECISIONS,
    Precision,
    TensorRt,
    TensorRtOptions,
    TypedBy,
    find_tensorrt,
    key_of,
    why_not_here,
)
from registry.engines.tensorrt_build import build_engine
from registry.engines.tensorrt_run import TensorRtEngine
from registry.engines.tensorrt_types import TypedPrecision, typed
from registry.errors import EngineError

if TYPE_CHECKING:
    from registry.engines.records import OnnxModel

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

SPEC = OptimizeSpec(batch=BatchRange(min=1, opt=4, max=8), batch_sizes=(1, 8))
SAMPLES: dict[str, Callable[[int, int], NDArray[Any]]] = {
    "digits": Digits.samples,
    "resnet50": ResNet50.samples,
    "bert_base": BertBase.samples,
}
MODULES = {"digits": digits, "resnet50": resnet50, "bert_base": bert_base}
ENGINES: tuple[tuple[str, Precision, int], ...] = (
    ("digits", "fp32", 100_000),
    ("digits", "tf32", 100_000),
    ("digits", "fp16", 100_000),
    ("digits", "int8", 100_000),
    ("digits-external", "fp32", 100_000),
    ("resnet50", "fp32", 100_000_000),
    ("resnet50", "fp16", 50_000_000),
    ("resnet50", "int8", 25_000_000),
    ("bert_base", "fp32", 400_000_000),
    ("bert_base", "fp16", 200_000_000),
)
"""Network, precision, and the bytes that an engine cannot do without: its weights."""

TO_RUN = [
    pytest.param(
        name,
        precision,
        marks=pytest.mark.skipif(find_gpu() is None, reason=f"no NVIDIA GPU: {name} in {precision} was built, not run"),
    )
    for name, precision, _ in ENGINES
]
"""The same, each reported by name where it is not run."""


class Built(NamedTuple):
    """An engine with what it was built from."""

    backend: TensorRt
    onnx: OnnxModel
    key: TensorRtKey
    plan: memoryview
    samples: NDArray[Any]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], OnnxModel]]:
    """Give a function that returns a network's ONNX file, exported once; all are half a gigabyte, and are not kept."""
    files: dict[str, OnnxModel] = {}
    root = tmp_path_factory.mktemp("networks")

    def export(name: str) -> OnnxModel:
        plain = name.removesuffix("-external")
        if plain not in files:
            files[plain] = export_torch(MODULES[plain](), SAMPLES[plain](2, 1), root / f"{plain}.onnx", spec=SPEC)
        if name not in files:
            path = files[plain].path.with_name(f"{name}.onnx")
            model = onnx_package.load(str(files[plain].path))
            onnx_package.save_model(
                model, str(path), save_as_external_data=True, location=f"{name}.weights", size_threshold=0
            )
            files[name] = check_onnx(path)
        return files[name]

    yield export
    shutil.rmtree(root)


@pytest.fixture
def build(exported: Callable[[str], OnnxModel], tmp_path: Path) -> Callable[[str, Precision], Built]:
    """Return a function that exports, types and builds a network, with the TensorRT that is found here."""

    def built(name: str, precision: Precision) -> Built:
        backend = find_tensorrt()
        if backend is None:
            pytest.skip("TensorRT is not installed")
        onnx, samples = exported(name), SAMPLES[name.removesuffix("-external")](8, 2)
        model, typed_by = onnx, None
        with tempfile.TemporaryDirectory(dir=tmp_path) as scratch:
            if precision not in FULL_PRECISIONS:
                model, recipe = typed(onnx, cast("TypedPrecision", precision), samples, Path(scratch))
                typed_by = TypedBy(recipe=recipe, calibration_sha256=None)
            options = TensorRtOptions(precision=precision)
            key = key_of(backend, onnx, batch=SPEC.batch, options=options, typed_by=typed_by)
            return Built(backend, onnx, key, build_engine(backend, model, key), samples)

    return built


@pytest.mark.parametrize(("name", "precision", "least_bytes"), ENGINES)
def test_an_engine_is_built_of(
    build: Callable[[str, Precision], Built], name: str, precision: Precision, least_bytes: int
) -> None:
    built = build(name, precision)
    assert len(built.onnx.files) == (2 if name.endswith("-external") else 1)
    assert built.key.precision == precision
    assert built.key.profiles[0].max[0] == 8
    assert least_bytes < built.plan.nbytes < 2 * least_bytes + 1_000_000, built.plan.nbytes


def test_external_data_makes_no_other_engine(build: Callable[[str, Precision], Built]) -> None:
    inside, beside = build("digits", "fp32"), build("digits-external", "fp32")
    assert inside.onnx.sha256 != beside.onnx.sha256
    assert bytes(inside.plan) == bytes(beside.plan)


@pytest.mark.parametrize(("name", "precision"), TO_RUN)
@pytest.mark.parametrize("check", ["parity", "latency", "refusal"])
def test_an_engine_on_the_gpu_shows(
    build: Callable[[str, Precision], Built], check: str, name: str, precision: Precision
) -> None:
    built = build(name, precision)
    if trouble := why_not_here(built.backend):
        pytest.skip(trouble)
    {"parity": _parity, "latency": _latency, "refusal": _refusal}[check](built)


def _parity(built: Built) -> None:
    found, exact = TensorRtEngine(built.backend, built.plan)(built.samples), open_onnx(built.onnx.path)(built.samples)
    assert found.shape == exact.shape
    if built.key.precision == "fp32":
        np.testing.assert_allclose(found, exact, atol=1e-3, rtol=1e-3)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1)
    assert ((found * exact).sum(axis=1) / lengths).min() > 0.98


def _latency(built: Built) -> None:
    engine = TensorRtEngine(built.backend, built.plan)
    for size in SPEC.batch_sizes:
        found = measure(engine, built.samples[:size], warmup=3, repetitions=20)
        assert 0 < found.p50_ms <= found.p99_ms
    with pytest.raises(EngineError, match=r"the TensorRT engine takes no \(9, "):
        engine(np.concatenate([built.samples, built.samples[:1]]))


def _refusal(built: Built) -> None:
    here = this_machine()
    assert here.gpu is not None
    fields = built.key.model_dump(mode="json")
    assert mismatch(fields) is None
    other = here.gpu.model_copy(update={"name": "another GPU", "compute_capability": "5.0"})
    assert "another GPU" in (mismatch(fields, machine=Machine(os=here.os, arch=here.arch, gpu=other)) or "")
    torn = bytes(built.plan[: built.plan.nbytes // 2])
    with pytest.raises(EngineError, match=r"refuses the engine"):
        TensorRtEngine(built.backend, torn)
