"""A small real network, its ONNX file and its own answers."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from registry.engines.export import export_torch
from registry.engines.job import Job
from registry.engines.spec import BatchRange, OptimizeSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel
    from registry.engines.spec import EngineName


class Digits(torch.nn.Module):
    """A convolutional network on 8 x 8 grey images, with the two layers that behave differently in training."""

    def __init__(self) -> None:
        """Draw the weights from torch's seed."""
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.dropout = torch.nn.Dropout(0.5)
        self.classes = torch.nn.Linear(8 * 64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.classes(self.dropout(torch.relu(self.norm(self.convolution(images)))).flatten(1))
        return found


@pytest.fixture(scope="session")
def net() -> torch.nn.Module:
    """Return the network with seeded weights, in evaluation mode."""
    torch.manual_seed(7)
    return Digits().eval()


@pytest.fixture(scope="session")
def samples() -> NDArray[np.float32]:
    """Return 70 images, more than one batch of the spec's largest size."""
    return np.random.default_rng(7).random((70, 1, 8, 8), dtype=np.float32)


@pytest.fixture(scope="session")
def torch_call(net: torch.nn.Module) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return the original as a function on arrays."""

    def call(batch: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            found: NDArray[Any] = net(torch.from_numpy(batch)).numpy()
        return found

    return call


@pytest.fixture(scope="session")
def reference(torch_call: Callable[[NDArray[Any]], NDArray[Any]], samples: NDArray[np.float32]) -> NDArray[Any]:
    """Return the original's answers, shape (70, 10)."""
    return torch_call(samples)


@pytest.fixture(scope="session")
def spec() -> OptimizeSpec:
    """Return a spec that measures little."""
    return OptimizeSpec(batch=BatchRange(opt=4), batch_sizes=(1, 8), warmup=1, repetitions=5, time_limit_s=60)


@pytest.fixture(scope="session")
def onnx(
    net: torch.nn.Module, samples: NDArray[np.float32], spec: OptimizeSpec, tmp_path_factory: pytest.TempPathFactory
) -> OnnxModel:
    """Return the network's ONNX file."""
    return export_torch(net, samples, tmp_path_factory.mktemp("exported") / "digits.onnx", spec=spec)


@pytest.fixture
def job_for(
    onnx: OnnxModel, samples: NDArray[np.float32], spec: OptimizeSpec, tmp_path: Path
) -> Callable[[EngineName], Job]:
    """Return a function that gives the job to try an engine."""
    samples_file = tmp_path / "samples.npy"
    np.save(samples_file, samples, allow_pickle=False)

    def job(engine: EngineName) -> Job:
        folder = tmp_path / engine
        return Job(engine=engine, onnx=onnx, samples=samples_file, calibration=samples_file, folder=folder, spec=spec)

    return job


@pytest.fixture
def without_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make both TensorRT packages look as if they were not installed, here and in processes that are started."""
    shadows = tmp_path / "shadows"
    shadows.mkdir()
    for package in ("tensorrt", "tensorrt_rtx"):
        (shadows / f"{package}.py").write_text(f"raise ModuleNotFoundError(name={package!r})\n")
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(shadows)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(shadows), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    )
