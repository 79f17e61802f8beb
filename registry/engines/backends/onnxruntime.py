"""ONNX on the CPU through onnxruntime, in full precision or quantised to int8."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from registry.engines.backends import Call, own_key
from registry.engines.backends.onnx_files import quantization_of, written
from registry.engines.job import Job
from registry.engines.key import EngineKey, OnnxRuntimeKey, SessionSettings, this_machine
from registry.engines.session import OnnxSession


def missing(job: Job) -> str | None:  # noqa: ARG001 - one signature for all backends
    """Return None: onnxruntime comes with modelway."""
    return None


def key_of(job: Job) -> OnnxRuntimeKey:
    """Return the key of the engine that ``build`` builds."""
    machine = this_machine()
    return OnnxRuntimeKey(
        onnx_sha256=job.onnx.sha256,
        version=onnxruntime.__version__,
        os=machine.os,
        arch=machine.arch,
        session=SessionSettings(threads=job.spec.threads[0]),
        quantization=quantization_of(job),
    )


def build(job: Job, key: EngineKey) -> str:
    """Put the ONNX itself, or its quantised form, into the engine's folder; onnxruntime compiles it when it opens it.

    Raises:
        EngineError: It cannot be quantised.
    """
    return written(job, own_key(key, OnnxRuntimeKey).quantization)


def open_engine(file: Path, key: EngineKey, *, threads: int) -> Call:
    """Open an ONNX file that was checked.

    Raises:
        EngineError: onnxruntime cannot load it.
    """
    own = own_key(key, OnnxRuntimeKey)
    return OnnxSession(file, settings=own.session.model_copy(update={"threads": threads}))
