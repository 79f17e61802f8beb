"""What the backends share that keep an ONNX file: copying it under the name that servers look for, and its recipe."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from registry.engines.job import Job
from registry.engines.key import Quantization
from registry.engines.records import OnnxModel

FILE_NAME = "model.onnx"


def copied(onnx: OnnxModel, folder: Path) -> str:
    """Copy a model with its external data, and return the name of its own file.

    External data keeps its name, which stands in the model; the model itself takes the one that servers look for.
    """
    for name, target in zip(onnx.files, (FILE_NAME, *onnx.files[1:]), strict=True):
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(onnx.path.parent / name, folder / target)
    return FILE_NAME


def quantization_of(job: Job, scheme: str) -> Quantization:
    """Return the recipe that a job's int8 model is made by."""
    import onnxruntime

    return Quantization(
        tool=f"onnxruntime {onnxruntime.__version__}",
        scheme=scheme,
        method=job.spec.calibration.method,
        calibration_sha256=digest_of_file(job.calibration),
    )


def digest_of_file(file: Path) -> str:
    """Return the sha256 of a file, 64 hexadecimal digits."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
