"""ONNX on the CPU through OpenVINO: in full precision, in bfloat16, or quantised to int8."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.engines.backends import Call, own_key, precision_of
from registry.engines.backends.onnx_files import quantization_of, written
from registry.engines.job import Job
from registry.engines.key import EngineKey, OpenVinoKey, this_machine
from registry.errors import EngineError, MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray


_MOST_WORDS = 400
NO_BF16 = "this processor does not compute in bfloat16"


def missing(job: Job) -> str | None:
    """Return in words that OpenVINO is not installed, or that the processor lacks the precision; or None."""
    if importlib.util.find_spec("openvino") is None:
        return str(MissingExtraError("openvino", "openvino", "an OpenVINO engine"))
    return NO_BF16 if precision_of(job.engine) == "bf16" and not has_bf16() else None


def has_bf16() -> bool:
    """Return whether the processor computes in bfloat16; elsewhere OpenVINO would take float32, and answer so."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def key_of(job: Job) -> OpenVinoKey:
    """Return the key of the engine that ``build`` builds."""
    import openvino

    machine = this_machine()
    return OpenVinoKey(
        onnx_sha256=job.onnx.sha256,
        version=openvino.__version__,
        os=machine.os,
        arch=machine.arch,
        precision="bf16" if precision_of(job.engine) == "bf16" else "f32",
        threads=job.spec.threads[0],
        quantization=quantization_of(job),
    )


def build(job: Job, key: EngineKey) -> str:
    """Put the ONNX itself, or its quantised form, into the engine's folder; OpenVINO compiles it when it opens it.

    Raises:
        EngineError: It cannot be quantised.
    """
    return written(job, own_key(key, OpenVinoKey).quantization)


def open_engine(file: Path, key: EngineKey, *, threads: int) -> Call:
    """Compile an ONNX file that was checked.

    Raises:
        EngineError: OpenVINO cannot read or compile it.
    """
    own = own_key(key, OpenVinoKey)
    return OpenVinoSession(compiled(file, threads=threads, precision=own.precision))


def compiled(model: Path | bytes, *, threads: int, precision: str = "f32") -> Any:
    """Return a model compiled for latency on ``threads`` threads; bytes must hold all of it, without external data.

    Raises:
        EngineError: OpenVINO cannot read or compile it.
    """
    import openvino

    wanted = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        core = openvino.Core()
        return core.compile_model(core.read_model(model if isinstance(model, bytes) else str(model)), "CPU", wanted)
    except RuntimeError as refusal:
        raise EngineError(f"OpenVINO cannot load the model: {_first_lines(refusal)}") from refusal


class OpenVinoSession:
    """A compiled model; one call at a time."""

    def __init__(self, model: Any) -> None:
        """Take a compiled model."""
        self._request = model.create_infer_request()

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the only output for a batch, (b, ...) to (b, ...).

        Raises:
            EngineError: The batch has another type or shape than the model takes.
        """
        try:
            found = self._request.infer([np.ascontiguousarray(batch)], share_inputs=True)
        except (RuntimeError, TypeError, ValueError) as refusal:
            raise EngineError(f"OpenVINO could not run the model: {_first_lines(refusal)}") from refusal
        outputs: NDArray[Any] = np.array(found[0])  # the request's own memory is written again by the next call
        return outputs


def _first_lines(error: Exception) -> str:
    # OpenVINO names its own source files and lines first, and the operators that it does not know last.
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))] or lines
    return " ".join(told)[:_MOST_WORDS]
