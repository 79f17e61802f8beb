"""Have NVIDIA ModelOpt type an ONNX model, in an environment and a process of its own."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from registry.engines.onnx_file import check_onnx
from registry.engines.typed import calibration_batch
from registry.errors import EngineError

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel

VARIABLE = "MODELWAY_MODELOPT_PYTHON"
HOW_TO_GET_IT = (
    "Make a virtual environment of its own (it would replace onnx and onnxruntime in this one), run "
    f"pip install 'nvidia-modelopt[onnx]' there, and set {VARIABLE} to its python."
)
SCRIPT = Path(__file__).with_name("modelopt_script.py")
METHODS = {"minmax": "max", "entropy": "entropy"}
"""Our names of the ways to find a range, and ModelOpt's."""

_VERSIONS = """
import importlib.metadata as metadata, json
installed = {found.name.lower(): found.version for found in metadata.distributions()}
names = ("nvidia-modelopt", "onnx", "onnxruntime", "onnxruntime-gpu")
print(json.dumps({name: installed[name] for name in names if name in installed}))
"""


def modelopt_python() -> str | None:
    """Return the interpreter of the environment that has ModelOpt, as the user's environment names it, or None."""
    return os.environ.get(VARIABLE) or None


@functools.cache
def modelopt_versions(python: str) -> str:
    """Return in words which ModelOpt an interpreter has, and what it works with.

    Raises:
        EngineError: It cannot be started, or has no ModelOpt.
    """
    try:
        done = subprocess.run([python, "-I", "-c", _VERSIONS], check=True, capture_output=True, text=True, timeout=60)
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as refusal:
        raise EngineError(f"{VARIABLE} names {python}, which cannot be run: {refusal}. {HOW_TO_GET_IT}") from refusal
    if "nvidia-modelopt" not in found:
        raise EngineError(f"{VARIABLE} names {python}, which has no ModelOpt. {HOW_TO_GET_IT}")
    first, *rest = (f"{name} {version}" for name, version in found.items())
    return f"{first} ({', '.join(sorted(rest))})"


def converted(onnx: OnnxModel, precision: str, calibration: NDArray[Any], scratch: Path, *, method: str) -> OnnxModel:
    """Return a model whose types ModelOpt wrote, its inputs and outputs as they were.

    Args:
        onnx: The model, with one input and one output.
        precision: fp16, bf16, int8 or fp8; for the last two, what is not quantised becomes fp16.
        calibration: Real inputs, shape (n, ...), n >= 1.
        scratch: A folder to work in; the result lies in it.
        method: One of ``METHODS``.

    Raises:
        EngineError: There are no samples or no ModelOpt, or it refuses the model; the message holds its last words.
    """
    python = modelopt_python()
    if python is None:
        raise EngineError(f"{precision} needs NVIDIA ModelOpt. {HOW_TO_GET_IT}")
    given, result = scratch / "given", scratch / "result"
    given.mkdir()
    result.mkdir()
    for name in onnx.files:  # it writes beside the model, whose own folder may be a cache that others read
        shutil.copyfile(onnx.path.parent / name, given / name)
    np.save(scratch / "calibration.npy", calibration, allow_pickle=False)
    job = {
        "onnx": str(given / onnx.path.name),
        "precision": precision,
        "calibration": str(scratch / "calibration.npy"),
        "input": onnx.only_input().name,
        "batch": calibration_batch(onnx, calibration),
        "method": METHODS[method],
        "output": str(result / "model.onnx"),
    }
    (scratch / "job.json").write_text(json.dumps(job), encoding="utf-8")
    done = subprocess.run(
        [python, "-I", str(SCRIPT), str(scratch / "job.json")],
        check=False,
        cwd=scratch,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        said = " ".join(done.stdout.split("\n")[-4:]).strip() or "nothing"
        raise EngineError(f"ModelOpt cannot make {onnx.path.name} {precision}; it last said: {said}")
    return check_onnx(result / "model.onnx")
