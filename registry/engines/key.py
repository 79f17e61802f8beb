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


class Quantization(Record):
    """How an int8 model came from one of full precision: its recipe, and the data that gave the ranges."""

    tool: str
    scheme: str
    method: str
    calibration_sha256: str


class OnnxRuntimeKey(Record):
    """What decides over an onnxruntime variant."""

    engine: Literal["onnxruntime"] = "onnxruntime"
    onnx_sha256: str
    version: str
    os: str
    arch: str
    session: SessionSettings
    quantization: Quantization | None = None


class OpenVinoKey(Record):
    """What decides over an OpenVINO variant, which is compiled when it is opened; ``precision`` is that of its floats.

    OpenVINO would compute in bfloat16 wherever the processor can; here it does so only where it was asked for.
    """

    engine: Literal["openvino"] = "openvino"
    onnx_sha256: str
    version: str
    os: str
    arch: str
    precision: Literal["f32", "bf16"] = "f32"
    threads: int
    quantization: Quantization | None = None


class InductorKey(Record):
    """What decides over a program that torch compiled ahead of time: it is machine code for one kind of processor.

    ``program_sha256`` is the digest of the exported program; ``target`` the vector instructions that torch found, or
    the compute capability of the GPU; ``compiler`` the first line that the C++ compiler says of itself.
    """

    engine: Literal["aotinductor"] = "aotinductor"
    onnx_sha256: str
    program_sha256: str
    version: str
    os: str
    arch: str
    device: Literal["cpu", "cuda"]
    target: str
    gpu_name: str | None = None
    compiler: str
    batch: tuple[int, int]


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


_PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "aotinductor": "torch"}
"""What must be installed in the version of the key."""


class Machine(Record):
    """What an engine sees of the machine that it runs on."""

    os: str
    arch: str
    gpu: Gpu | None


EngineKey: TypeAlias = OnnxRuntimeKey | OpenVinoKey | InductorKey | TensorRtKey
_KEYS: TypeAdapter[EngineKey] = TypeAdapter(Annotated[EngineKey, Field(discriminator="engine")])


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
        key = parse_key(key_fields)
    except ValidationError:
        return "its key has fields that this release does not know; build it again"
    if (key.os, key.arch) != (machine.os, machine.arch):
        return f"it was built for {key.os} on {key.arch}, this is {machine.os} on {machine.arch}"
    package = key.package if isinstance(key, TensorRtKey) else _PACKAGES[key.engine]
    if (found := _version_of(package)) != key.version:
        return f"it was built with {package} {key.version}, here is {found or 'none'}"
    return _other_processor(key, machine)


def _other_processor(key: EngineKey, machine: Machine) -> str | None:
    match key:
        case TensorRtKey():
            return _other_gpu(key, machine.gpu)
        case OpenVinoKey(precision="bf16"):
            from registry.engines.backends.openvino import NO_BF16, has_bf16

            return None if has_bf16() else NO_BF16
        case InductorKey():
            from registry.engines.backends.aotinductor import target_here

            if (key.device, key.target, key.gpu_name) != (here := target_here(key.device)):
                return f"it was compiled for {key.target} ({key.device}), this machine has {here[1]}"
    return None


def parse_key(key_fields: Mapping[str, Any]) -> EngineKey:
    """Return the key that was kept as fields.

    Raises:
        ValidationError: They are no key that this release knows.
    """
    return _KEYS.validate_json(json.dumps(dict(key_fields)))


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
