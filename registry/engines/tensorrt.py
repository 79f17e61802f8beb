"""TensorRT on this machine: which of the two packages there is, what an engine is built with, and the key of it.

``tensorrt`` (10 and 11) and ``tensorrt_rtx`` are one interface: everything here is given either module. The rules: no
Runtime without a driver (it crashes the process), so that is looked for first; the ONNX alone decides over precision.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from registry.base import Record
from registry.engines.gpu import Gpu, find_gpu
from registry.engines.key import HardwareCompatibility, Profile, TensorRtKey, cuda_runtime_of, this_machine
from registry.errors import EngineError, MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

    from registry.engines.records import OnnxModel
    from registry.engines.spec import BatchRange

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8", "fp8"]

FULL_PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32")
"""Those that the ONNX of full precision is built for as it is."""

RTX_TARGETS = ("8.0", "8.6", "8.9", "12.0", "12.1")
"""What TensorRT-RTX 1.7 builds fp32 networks for; with 7.5, which has no fp32 matrix product, the whole build fails."""

RTX_FP8_TARGETS = ("8.9", "12.0", "12.1")
"""Those that have fp8; asked for another, the whole build fails."""

Bound = Any
"""An object of the bindings, which carry no types."""


class TensorRtOptions(Record):
    """What an engine is built with, all of it in its key.

    ``workspace_bytes`` bounds the memory that a layer may take while it runs; ``optimization_level`` is 0 (quick to
    build) to 5. ``hardware_compatibility`` counts for the full TensorRT and ``targets`` (compute capabilities, such as
    8.9; none for this GPU's own or, where it does not fit, all that there are) for TensorRT-RTX alone, so that one set
    of options serves machines with either. TF32, which rounds factors to 10 bits, is on for the precision of that name
    alone: TensorRT itself would have it on always.
    """

    precision: Precision = "fp32"
    workspace_bytes: int = Field(default=1 << 30, ge=1)
    optimization_level: int = Field(default=3, ge=0, le=5)
    hardware_compatibility: HardwareCompatibility = "NONE"
    targets: tuple[str, ...] = ()

    @property
    def flags(self) -> tuple[str, ...]:
        """The names of TensorRT's builder flags that are set; all others are off."""
        return ("TF32",) if self.precision == "tf32" else ()


class TypedBy(Record):
    """How a model was given a lower precision: in words with the tool's version, and from which samples, if any."""

    recipe: str
    calibration_sha256: str | None


@dataclass(frozen=True)
class TensorRt:
    """An imported TensorRT: ``package`` is ``tensorrt`` or ``tensorrt_rtx``, ``version`` its four parts."""

    module: ModuleType
    package: Literal["tensorrt", "tensorrt_rtx"]
    version: str
    gpu: Gpu | None

    @property
    def title(self) -> str:
        """Its name and version for people."""
        return f"{'TensorRT' if self.package == 'tensorrt' else 'TensorRT-RTX'} {self.version}"

    @property
    def targets(self) -> tuple[str, ...]:
        """The compute capabilities to build for: this GPU's own, or all that TensorRT-RTX has where it does not fit."""
        return self.targets_of(TensorRtOptions())

    def targets_of(self, options: TensorRtOptions) -> tuple[str, ...]:
        """Return the compute capabilities that an engine with these options is built for, in order, each once.

        Raises:
            EngineError: TensorRT-RTX has no such target.
        """
        own = self.gpu.compute_capability if self.gpu else None
        if self.package == "tensorrt":
            return (own,) if own else ()
        known = RTX_FP8_TARGETS if options.precision == "fp8" else RTX_TARGETS
        if not options.targets:
            return (own,) if own and own in known else known
        names = {target: "SM" + target.replace(".", "") for target in options.targets}
        if strange := [target for target, name in names.items() if not hasattr(self.module.ComputeCapability, name)]:
            raise EngineError(f"{self.title} builds for no {', '.join(strange)}. It builds for {', '.join(known)}.")
        return tuple(sorted(names, key=lambda target: [int(part) for part in target.split(".")]))


def find_tensorrt() -> TensorRt | None:
    """Return the full TensorRT where it is installed and there is a GPU, else TensorRT-RTX, else None."""
    gpu = find_gpu()
    packages: tuple[Literal["tensorrt", "tensorrt_rtx"], ...] = ("tensorrt", "tensorrt_rtx")
    for package in packages if gpu else packages[1:]:
        try:
            module = importlib.import_module(package)
        except ModuleNotFoundError as missing:
            if missing.name != package:  # installed, and broken: that must not look like "not installed"
                raise
            continue
        return TensorRt(module=module, package=package, version=module.__version__, gpu=gpu)
    return None


def missing_tensorrt() -> MissingExtraError:
    """Return the error that says how to get TensorRT."""
    return MissingExtraError("tensorrt-rtx", "tensorrt-rtx", "a TensorRT engine")


def why_not_here(backend: TensorRt) -> str | None:
    """Return in words why no engine of this backend can run on this machine, or None if one can."""
    if backend.gpu is None:
        return "there is no NVIDIA GPU on this machine (or no driver for it)"
    if backend.gpu.compute_capability not in backend.targets:
        found = f"{backend.gpu.name} has compute capability {backend.gpu.compute_capability}"
        return f"{found}, TensorRT-RTX builds for {', '.join(backend.targets)}"
    import torch  # takes 1.4 s, and only a machine with a GPU needs it

    return None if torch.cuda.is_available() else "the torch installed here is built without CUDA"


def key_of(
    backend: TensorRt,
    onnx: OnnxModel,
    *,
    batch: BatchRange,
    options: TensorRtOptions | None = None,
    typed_by: TypedBy | None = None,
) -> TensorRtKey:
    """Return the key of the engine that ``build_engine`` builds from the same model, or a typed form of it.

    Args:
        backend: What builds it, for the GPU that it has found.
        onnx: The model in full precision.
        batch: The range of the free axis, and the size that the engine is tuned for.
        options: What it is built with; None for the defaults.
        typed_by: How the model is given that precision; None for full precision.

    Raises:
        EngineError: The model has a free axis other than the batch, or there is no such target.
    """
    options, machine = options or TensorRtOptions(), this_machine()
    full = backend.gpu if backend.package == "tensorrt" else None
    # An engine in a compatibility mode runs on other GPUs than the one that it was built on.
    bound_to = full if options.hardware_compatibility == "NONE" else None
    return TensorRtKey(
        onnx_sha256=onnx.sha256,
        package=backend.package,
        version=backend.version,
        os=machine.os,
        arch=machine.arch,
        compute_capabilities=backend.targets_of(options),
        hardware_compatibility=options.hardware_compatibility if full else "NONE",
        gpu_name=bound_to.name if bound_to else None,
        gpu_memory_bytes=bound_to.memory_bytes if bound_to else None,
        cuda_runtime=cuda_runtime_of(backend.package),
        profiles=_profiles(onnx, batch),
        flags=options.flags,
        optimization_level=options.optimization_level,
        workspace_bytes=options.workspace_bytes,
        precision=options.precision,
        recipe=typed_by.recipe if typed_by else None,
        calibration_sha256=typed_by.calibration_sha256 if typed_by else None,
    )


def _profiles(onnx: OnnxModel, batch: BatchRange) -> tuple[Profile, ...]:
    profiles = []
    for tensor in onnx.signature.inputs:
        if not tensor.shape or tensor.shape[0] != -1:
            continue
        tail = tensor.shape[1:]
        if -1 in tail:
            raise EngineError(
                f"input {tensor.name!r} has shape {tensor.shape}: only its first axis, the batch, may be free for "
                "TensorRT. Export it with the other axes fixed."
            )
        shapes = {name: (size, *tail) for name, size in (("min", batch.min), ("opt", batch.opt), ("max", batch.max))}
        profiles.append(Profile(input=tensor.name, **shapes))
    return tuple(profiles)


def kept_errors(trt: Bound) -> Bound:
    """Return a logger that keeps errors instead of printing; its base class comes from whichever module is in use."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the module is known only at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the bindings insist on their own, not on super()
            self.errors: list[str] = []

        def log(self, severity: Bound, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

        @property
        def said(self) -> str:
            """The last errors, as one line."""
            return " ".join(" ".join(message.split()) for message in self.errors[-3:]) or "it gave no reason."

    return Log()
