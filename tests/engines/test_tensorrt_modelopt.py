"""NVIDIA ModelOpt 0.47 for real, on the CPU, in an environment that is made for it and goes away again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx as onnx_package
import pytest
import torch

from benchmarks.networks import digits
from registry.engines.export import export_torch
from registry.engines.modelopt import VARIABLE
from registry.engines.session import open_onnx
from registry.engines.spec import OptimizeSpec
from registry.engines.tensorrt import TensorRt, TensorRtOptions, TypedBy, key_of
from registry.engines.tensorrt_build import build_engine
from registry.engines.tensorrt_types import TypedPrecision, recipe_of, typed
from registry.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

NEEDS = (
    "cppimport", "filelock", "fsspec", "jinja2", "lief", "ml_dtypes", "networkx", "numpy", "nvidia-ml-py", "omegaconf",
    "onnx-graphsurgeon", "onnx~=1.21.0", "onnxconverter-common~=1.16.0", "onnxruntime~=1.24.2", "onnxscript",
    "onnxslim", "polygraphy", "pulp", "pydantic", "pyyaml", "regex", "rich", "safetensors", "scipy", "setuptools",
    "sympy", "tqdm", "typing-extensions",
)  # fmt: skip
"""What ModelOpt and torch import, without what is only for a GPU (cupy and onnxruntime-gpu, gigabytes of it)."""


@pytest.fixture(scope="module")
def modelopt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the interpreter of an environment with ModelOpt; it borrows torch, which is 700 MB, from this one."""
    folder = tmp_path_factory.mktemp("modelopt")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=120)
    python = folder / "venv" / "bin" / "python"
    for arguments in (["--no-deps", "nvidia-modelopt==0.47.0"], list(NEEDS)):
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments]
        done = subprocess.run(install, check=False, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            pytest.skip(f"ModelOpt could not be installed: {done.stderr.strip()[-200:]}")
    borrowed = folder / "torch"
    borrowed.mkdir()
    ours = Path(torch.__file__).parents[1]
    for name in ("torch", "torchgen", "functorch"):
        if (ours / name).exists():
            (borrowed / name).symlink_to(ours / name)
    packages = next((folder / "venv" / "lib").glob("python3*")) / "site-packages"
    (packages / "torch.pth").write_text(f"{borrowed}\n", encoding="utf-8")
    yield python
    shutil.rmtree(folder)  # 600 MB


@pytest.fixture
def named(modelopt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name ModelOpt's environment as a user would."""
    monkeypatch.setenv(VARIABLE, str(modelopt))


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    """Return what ranges are found from, and engines held against."""
    return digits().samples(64, seed=1)


@pytest.fixture(scope="module")
def network(images: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    """Return the digits CNN."""
    return export_torch(digits(), images, tmp_path_factory.mktemp("digits") / "digits.onnx", spec=OptimizeSpec())


@pytest.fixture(scope="module")
def wide_network(images: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    """Return a network with layers wide enough for fp8."""
    torch.manual_seed(7)
    layers = (torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 3), torch.nn.ReLU())
    classes = (torch.nn.Flatten(), torch.nn.Linear(1024, 256), torch.nn.ReLU(), torch.nn.Linear(256, 32))
    module = torch.nn.Sequential(*layers, *classes).eval()
    return export_torch(module, images, tmp_path_factory.mktemp("wide") / "wide.onnx", spec=OptimizeSpec())


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize(
    ("name", "precision"),
    [("network", "fp16"), ("network", "bf16"), ("network", "int8"), ("wide_network", "fp8"), ("wide_network", "int8")],
)
def test_modelopt_types_a_network_and_tensorrt_builds_it(
    request: pytest.FixtureRequest, images: NDArray[np.float32], tmp_path: Path, name: str, precision: TypedPrecision
) -> None:
    network: OnnxModel = request.getfixturevalue(name)
    module = pytest.importorskip("tensorrt_rtx", reason="the wheel exists for Linux x86-64 and Windows only")
    found, recipe = typed(network, precision, images, tmp_path / "typed")
    assert recipe.startswith(f"{precision} by nvidia-modelopt 0.47.0 (onnx 1.21.")
    assert recipe == recipe_of(precision).words
    assert found.signature == network.signature
    assert [path.name for path in (tmp_path / "typed").iterdir()] == ["model.onnx"]
    assert typed(network, precision, images, tmp_path / "again")[0].sha256 == found.sha256
    types = {tensor.data_type for tensor in onnx_package.load(str(found.path)).graph.initializer}
    written = {"bf16": onnx_package.TensorProto.BFLOAT16, "fp8": onnx_package.TensorProto.FLOAT8E4M3FN}
    assert written.get(precision, onnx_package.TensorProto.FLOAT16) in types

    rtx = TensorRt(module=module, package="tensorrt_rtx", version=module.__version__, gpu=None)
    options, typed_by = TensorRtOptions(precision=precision), TypedBy(recipe=recipe, calibration_sha256="a" * 64)
    key = key_of(rtx, network, batch=OptimizeSpec().batch, options=options, typed_by=typed_by)
    assert build_engine(rtx, found, key).nbytes > 10_000
    if precision in {"fp16", "int8"}:  # onnxruntime's CPU has no kernels for the other two
        exact, close = open_onnx(network.path)(images), open_onnx(found.path)(images)
        assert (exact.argmax(axis=1) == close.argmax(axis=1)).mean() >= 0.95
        assert 0 < np.abs(exact - close).max() < 0.02


@pytest.mark.usefixtures("named")
def test_what_modelopt_said_last_is_passed_on(network: OnnxModel, images: NDArray[np.float32], tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"ModelOpt cannot make digits\.onnx fp16; it last said: .*(shape|dimension)"):
        typed(network, "fp16", images[:, :, :4], tmp_path / "typed")
    assert list((tmp_path / "typed").iterdir()) == []


@pytest.mark.usefixtures("named")
def test_a_network_with_nothing_wide_enough_for_fp8_is_refused(
    network: OnnxModel, images: NDArray[np.float32], tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=r"nothing in digits\.onnx can be fp8"):
        typed(network, "fp8", images, tmp_path / "typed")
