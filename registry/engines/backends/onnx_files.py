"""What the backends share that keep an ONNX file: copying it under the name that servers look for, and its recipe."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Final

import numpy as np

from registry.engines.backends import precision_of
from registry.engines.job import Job
from registry.engines.key import Quantization
from registry.engines.records import OnnxModel

FILE_NAME = "model.onnx"
CPU_SCHEME: Final = "u8s8"
CPU_RECIPE: Final = "u8s8, weights of 7 bits, per channel"
"""What ``typed.quantized`` makes of that scheme; another way of doing it is another recipe, and another key."""


def copied(onnx: OnnxModel, folder: Path) -> str:
    """Copy a model with its external data, and return the name of its own file.

    External data keeps its name, which stands in the model; the model itself takes the one that servers look for.
    """
    for name, target in zip(onnx.files, (FILE_NAME, *onnx.files[1:]), strict=True):
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(onnx.path.parent / name, folder / target)
    return FILE_NAME


def written(job: Job, quantization: Quantization | None) -> str:
    """Put the ONNX itself, or its quantised form, into the engine's folder, and return the name of its own file.

    Raises:
        EngineError: It cannot be quantised.
    """
    if quantization is None:
        return copied(job.onnx, job.engine_folder)
    from registry.engines.typed import quantized

    calibration = np.load(job.calibration, allow_pickle=False)
    method = job.spec.calibration.method
    return quantized(job.onnx, calibration, job.engine_folder, scheme=CPU_SCHEME, method=method).path.name


def quantization_of(job: Job) -> Quantization | None:
    """Return the recipe that a job's int8 model for a CPU is made by, None where it stays as it is."""
    import onnxruntime

    if precision_of(job.engine) != "int8":
        return None
    return Quantization(
        tool=f"onnxruntime {onnxruntime.__version__}",
        scheme=CPU_RECIPE,
        method=job.spec.calibration.method,
        calibration_sha256=digest_of_file(job.calibration),
    )


def digest_of_file(file: Path) -> str:
    """Return the sha256 of a file, 64 hexadecimal digits."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
