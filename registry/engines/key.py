"""The key of an engine: everything that decides whether a built engine may be used, and whether it fits this machine.

An engine is code made for one model, one library and one kind of machine. Loaded for another it crashes or, worse,
answers with another model's weights (microsoft/onnxruntime#6455), so the key covers all of it and is never shortened.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import platform
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from registry.base import Record
from registry.encoding import canonical_json
from registry.engines.gpu import Gpu, find_gpu

if TYPE_CHECKING:
    from collections.abc import Mapping


HardwareCompatibility: TypeAlias = Literal["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"]
AMPERE = (8, 0)


class SessionSettings(Record):
    """The onnxruntime options that every session of ours is opened with; ``threads`` work inside one operator."""

    threads: int = 1
    inter_op_threads: int = 1
    execution_mode: Literal["ORT_SEQUENTIAL"] = "ORT_SEQUENTIAL"
    graph_optimization: Literal["ORT_ENABLE_ALL"] = "ORT_ENABLE_ALL"
    provider: Literal["CPUExecutionProvider"] = "CPUExecutionProvider"
    # Threads that spin between calls take a whole core each from whatever else runs here, even with nothing to do.
    spinning: Literal[False] = False


class Profile(Record):
    """The shapes of one input that a TensorRT engine takes, the first axis being the batch."""

    input: str
    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


class OnnxRuntimeKey(Record):
    """What decides over an onnxruntime variant."""

    engine: Literal["onnxruntime"] = "onnxruntime"
    onnx_sha256: str
    version: str
    os: str
    arch: str
    session: SessionSettings


class TensorRtKey(Record):
    """What decides over a TensorRT engine.

    TensorRT-RTX builds for a set of compute capabilities and names no GPU; the full TensorRT builds for the GPU that it
    ran on, or in a compatibility mode for others too, and then names none. ``cuda_runtime`` is the major version that
    the package was built for, where it says so. ``recipe`` says in words, with the tool's version, how the ONNX of full
    precision was given its types, ``calibration_sha256`` which samples it took for that; ``plugins`` are digests.
    """

    engine: Literal["tensorrt"] = "tensorrt"
    onnx_sha256: str
    package: Literal["tensorrt", "tensorrt_rtx"]
    version: str
    os: str
    arch: str
    compute_capabilities: tuple[str, ...]
    hardware_compatibility: HardwareCompatibility = "NONE"
    gpu_name: str | None
    gpu_memory_bytes: int | None
    cuda_runtime: str | None
    profiles: tuple[Profile, ...]
    flags: tuple[str, ...]
    optimization_level: int
    workspace_bytes: int
    # Engines of full precision had none of these before they were written down: their defaults say the same of them.
    precision: str = "fp32"
    recipe: str | None = None
    calibration_sha256: str | None = None
    plugins: tuple[str, ...] = ()


class Machine(Record):
    """What an engine sees of the machine that it runs on."""

    os: str
    arch: str
    gpu: Gpu | None


_KEYS: TypeAdapter[OnnxRuntimeKey | TensorRtKey] = TypeAdapter(
    Annotated[OnnxRuntimeKey | TensorRtKey, Field(discriminator="engine")]
)


def engine_key(fields: Mapping[str, Any]) -> str:
    """Return the sha256 of the canonical JSON of the fields, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(dict(fields))).hexdigest()


def this_machine() -> Machine:
    """Return this machine's system, processor (by one name on all systems) and first GPU."""
    arch = platform.machine().lower()
    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(arch, arch)
    return Machine(os=platform.system().lower(), arch=arch, gpu=find_gpu())


def cuda_runtime_of(package: str) -> str | None:
    """Return the CUDA major version that an installed package was built for, from its ``-cu13`` part, if it has one."""
    for distribution in importlib.metadata.distributions():
        named = re.fullmatch(rf"{package}[_-]cu(\d+)", (distribution.name or "").replace("-", "_"))
        if named:
            return named[1]
    return None


def matches_this_machine(key_fields: Mapping[str, Any]) -> bool:
    """Return whether an engine with these key fields may be loaded here; ``mismatch`` says why not."""
    return mismatch(key_fields) is None


def mismatch(key_fields: Mapping[str, Any], *, machine: Machine | None = None) -> str | None:
    """Return in words why an engine with these key fields must not be loaded on a machine, or None if it may.

    Args:
        key_fields: As kept in ``VariantReport.key_fields``.
        machine: The machine in question; None for this one.
    """
    machine = machine or this_machine()
    try:
        key = _KEYS.validate_json(json.dumps(dict(key_fields)))
    except ValidationError:
        return "its key has fields that this release does not know; build it again"
    if (key.os, key.arch) != (machine.os, machine.arch):
        return f"it was built for {key.os} on {key.arch}, this is {machine.os} on {machine.arch}"
    package = "onnxruntime" if isinstance(key, OnnxRuntimeKey) else key.package
    if (found := _version_of(package)) != key.version:
        return f"it was built with {package} {key.version}, here is {found or 'none'}"
    return None if isinstance(key, OnnxRuntimeKey) else _other_gpu(key, machine.gpu)


def _other_gpu(key: TensorRtKey, gpu: Gpu | None) -> str | None:
    if gpu is None:
        return "it needs an NVIDIA GPU, and there is none (or no driver for it)"
    if key.hardware_compatibility == "AMPERE_PLUS":
        if tuple(int(part) for part in gpu.compute_capability.split(".")) < AMPERE:
            return f"it was built for compute capability 8.0 and above, {gpu.name} has {gpu.compute_capability}"
    elif gpu.compute_capability not in key.compute_capabilities:
        made_for = ", ".join(key.compute_capabilities)
        return f"it was built for compute capability {made_for}, {gpu.name} has {gpu.compute_capability}"
    if key.gpu_name is not None and (key.gpu_name, key.gpu_memory_bytes) != (gpu.name, gpu.memory_bytes):
        return (
            f"it was built on {key.gpu_name} with {key.gpu_memory_bytes} bytes, "
            f"this is {gpu.name} with {gpu.memory_bytes} bytes"
        )
    runtime = cuda_runtime_of(key.package)
    if runtime != key.cuda_runtime:
        return f"it was built for CUDA {key.cuda_runtime or 'unknown'}, here is CUDA {runtime or 'unknown'}"
    return None


def _version_of(package: str) -> str | None:
    # The module's own word: a distribution's may be a meta package of another version.
    try:
        return str(importlib.import_module(package).__version__)
    except ModuleNotFoundError:
        return None
