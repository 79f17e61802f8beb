"""TensorRT as one of the candidates: built in a process of its own, in the precision that its name asks for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from registry.engines.backends import tensorrt as backend
from registry.engines.backends.onnx_files import digest_of_file
from registry.engines.candidate import try_candidate
from registry.engines.key import TensorRtKey, parse_key
from registry.engines.modelopt import VARIABLE
from registry.engines.spec import TensorRtSpec
from registry.engines.tensorrt import find_tensorrt
from registry.errors import NotHereError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from registry.engines.job import Job
    from registry.engines.records import VariantReport
    from registry.engines.spec import EngineName

    JobFor = Callable[[EngineName], Job]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have TensorRT-RTX, and no ModelOpt."""
    pytest.importorskip("tensorrt_rtx", reason="the wheel exists for Linux x86-64 and Windows only")
    monkeypatch.delenv(VARIABLE, raising=False)


def _key(report: VariantReport) -> TensorRtKey:
    key = parse_key(report.key_fields)
    assert isinstance(key, TensorRtKey)
    return key


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_lower_precision_is_built_and_its_key_says_how(job_for: JobFor, precision: str) -> None:
    job = job_for("tensorrt-fp16" if precision == "fp16" else "tensorrt-int8")
    report = try_candidate(job)
    assert report.status in {"built", "measured"}, report.reason
    key = _key(report)
    assert (key.precision, key.onnx_sha256) == (precision, job.onnx.sha256)
    assert (key.recipe or "").startswith(f"{precision} by onnxruntime 1.")
    assert key.calibration_sha256 == (digest_of_file(job.calibration) if precision == "int8" else None)
    assert [path.name for path in job.engine_folder.iterdir() if path.suffix != ".npy"] == ["model.plan"]
    assert not list(job.folder.glob("typed-*"))


def test_the_options_of_the_spec_reach_the_key(job_for: JobFor) -> None:
    job = job_for("tensorrt-tf32")
    asked = TensorRtSpec(
        workspace_mib=16, optimization_level=1, targets=("8.9",), hardware_compatibility="same_compute_capability"
    )
    key = backend.key_of(job.model_copy(update={"spec": job.spec.model_copy(update={"tensorrt": asked})}))
    assert (key.workspace_bytes, key.optimization_level, key.flags) == (16 << 20, 1, ("TF32",))
    if key.package == "tensorrt_rtx":
        assert (key.compute_capabilities, key.hardware_compatibility) == (("8.9",), "NONE")
    else:
        assert key.hardware_compatibility == "SAME_COMPUTE_CAPABILITY"


@pytest.mark.parametrize("engine", ["tensorrt-bf16", "tensorrt-fp8"])
def test_without_modelopt_the_others_are_unavailable_and_say_what_to_install(
    job_for: JobFor, engine: EngineName
) -> None:
    report = try_candidate(job_for(engine))
    assert report.status == "unavailable"
    assert "pip install 'nvidia-modelopt[onnx]'" in report.reason
    assert VARIABLE in report.reason


def test_an_engine_of_another_gpu_is_refused_before_its_plan_is_read(job_for: JobFor, tmp_path: Path) -> None:
    key = backend.key_of(job_for("tensorrt"))
    elsewhere = key.model_copy(
        update={"gpu_name": "another GPU", "gpu_memory_bytes": 1, "compute_capabilities": ("5.0",)}
    )
    with pytest.raises(
        NotHereError, match=r"built with tensorrt\S* \S+, not run: (it was built|there is no NVIDIA GPU|.* has)"
    ):
        backend.open_engine(tmp_path / "not there", elsewhere, threads=1)


def test_a_target_that_there_is_not_fails_with_those_that_there_are(job_for: JobFor) -> None:
    found = find_tensorrt()
    if found is None or found.package == "tensorrt":
        pytest.skip("the full TensorRT builds for its own GPU and takes no targets")
    job = job_for("tensorrt")
    strange = job.spec.model_copy(update={"tensorrt": TensorRtSpec(targets=("9.0",))})
    report = try_candidate(job.model_copy(update={"spec": strange}))
    assert report.status == "failed"
    assert "builds for no 9.0. It builds for 8.0, 8.6, 8.9, 12.0, 12.1." in report.reason


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc to link a driver without a device with")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the driver is found by its Linux name")
def test_a_driver_that_has_no_device_is_no_gpu_and_crashes_nothing(tmp_path: Path) -> None:
    (tmp_path / "driver.c").write_text("int cuInit(unsigned flags) { return 100; /* CUDA_ERROR_NO_DEVICE */ }\n")
    link = ["gcc", "-shared", "-fPIC", "-o", str(tmp_path / "libcuda.so.1"), str(tmp_path / "driver.c")]
    subprocess.run(link, check=True, capture_output=True)
    code = (
        "from registry.engines.gpu import find_gpu\n"
        "from registry.engines.tensorrt import find_tensorrt, why_not_here\n"
        "print(find_gpu(), find_tensorrt().package, why_not_here(find_tensorrt()))\n"
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("None tensorrt_rtx there is no NVIDIA GPU on this machine")
