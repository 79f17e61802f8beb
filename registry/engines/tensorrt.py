"""Build and run TensorRT engines, with the full TensorRT or with TensorRT-RTX: one builder that is given either module.

Rules kept here: no Runtime without a driver (it crashes the process); the ONNX alone decides over precision; an engine
is loaded only after its digest was checked by whoever fetched it, and never with host code allowed.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.engines.gpu import Gpu, find_gpu
from registry.engines.key import Profile, TensorRtKey, cuda_runtime_of, this_machine
from registry.errors import EngineError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel
    from registry.engines.spec import BatchRange

RTX_TARGETS = ("8.0", "8.6", "8.9", "12.0", "12.1")
"""What TensorRT-RTX 1.7 builds fp32 networks for; with 7.5, which has no fp32 matrix product, the whole build fails."""

OPTIMIZATION_LEVEL = 3
WORKSPACE_BYTES = 1 << 30
# Without TF32, which is on by default: it rounds factors to 10 bits, and the ONNX alone shall decide over precision.
FLAGS: tuple[str, ...] = ()


_Bound = Any
"""An object of the bindings, which carry no types."""


@dataclass(frozen=True)
class TensorRt:
    """An imported TensorRT: ``package`` is ``tensorrt`` or ``tensorrt_rtx``, ``version`` its four parts."""

    module: ModuleType
    package: str
    version: str
    gpu: Gpu | None

    @property
    def targets(self) -> tuple[str, ...]:
        """The compute capabilities to build for: this GPU's own, or all that TensorRT-RTX has where it does not fit."""
        own = self.gpu.compute_capability if self.gpu else None
        return (own,) if own and (self.package == "tensorrt" or own in RTX_TARGETS) else RTX_TARGETS


def find_tensorrt() -> TensorRt | None:
    """Return the full TensorRT where it is installed and there is a GPU, else TensorRT-RTX, else None."""
    gpu = find_gpu()
    for package in ("tensorrt", "tensorrt_rtx") if gpu else ("tensorrt_rtx",):
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
    """Return in words why an engine of this backend cannot run on this machine, or None if it can."""
    if backend.gpu is None:
        return "there is no NVIDIA GPU on this machine (or no driver for it)"
    if backend.gpu.compute_capability not in backend.targets:
        found = f"{backend.gpu.name} has compute capability {backend.gpu.compute_capability}"
        return f"{found}, TensorRT-RTX builds for {', '.join(backend.targets)}"
    import torch  # takes 1.4 s, and only a machine with a GPU needs it

    return None if torch.cuda.is_available() else "the torch installed here is built without CUDA"


def key_of(backend: TensorRt, onnx: OnnxModel, *, batch: BatchRange) -> TensorRtKey:
    """Return the key of the engine that ``build_engine`` builds from the same arguments.

    Raises:
        EngineError: The model has a free axis other than the batch.
    """
    machine, full = this_machine(), backend.gpu if backend.package == "tensorrt" else None
    return TensorRtKey(
        onnx_sha256=onnx.sha256,
        package=backend.package,  # type: ignore[arg-type]  # the record checks it
        version=backend.version,
        os=machine.os,
        arch=machine.arch,
        compute_capabilities=backend.targets,
        gpu_name=full.name if full else None,
        gpu_memory_bytes=full.memory_bytes if full else None,
        cuda_runtime=cuda_runtime_of(backend.package),
        profiles=_profiles(onnx, batch),
        flags=FLAGS,
        optimization_level=OPTIMIZATION_LEVEL,
        workspace_bytes=WORKSPACE_BYTES,
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


def build_engine(backend: TensorRt, onnx: OnnxModel, key: TensorRtKey) -> memoryview:
    """Build an engine for the profiles and targets of its key and return its serialised plan.

    Raises:
        EngineError: The parser or the builder refuses the model; the message names the node and what TensorRT said.
    """
    trt = backend.module
    log = _log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx.path)):
        found = [_parser_words(parser.get_error(index)) for index in range(parser.num_errors)]
        raise EngineError(f"{_title(backend)} cannot read {onnx.path.name}: {'; '.join(found)}.")
    plan = builder.build_serialized_network(network, _config(trt, builder, key))
    if plan is None:
        raise EngineError(f"{_title(backend)} could not build {onnx.path.name}: {_said(log.errors)}")
    return memoryview(plan)


def _config(trt: ModuleType, builder: _Bound, key: TensorRtKey) -> _Bound:
    config = builder.create_builder_config()
    config.builder_optimization_level = key.optimization_level
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, key.workspace_bytes)
    config.flags = 0
    for flag in key.flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if key.package == "tensorrt_rtx":
        config.num_compute_capabilities = len(key.compute_capabilities)
        for index, target in enumerate(key.compute_capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, "SM" + target.replace(".", "")), index)
    if key.profiles:
        shapes = builder.create_optimization_profile()
        for profile in key.profiles:
            shapes.set_shape(profile.input, profile.min, profile.opt, profile.max)
        config.add_optimization_profile(shapes)
    return config


def _log(trt: _Bound) -> _Bound:
    """Return a logger that keeps errors instead of printing; its base class comes from whichever module is in use."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the module is known only at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the bindings insist on their own, not on super()
            self.errors: list[str] = []

        def log(self, severity: _Bound, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()


def _parser_words(error: _Bound) -> str:
    described = " ".join(error.desc().split())
    reason = error.code().name if described in {"", "false"} else f"{error.code().name}, {described}"
    if not error.node_name():
        return reason
    return f"node {error.node_name()!r} ({error.node_operator()}): {reason}"


def _said(errors: Sequence[str]) -> str:
    return " ".join(" ".join(message.split()) for message in errors[-3:]) or "it gave no reason."


def _title(backend: TensorRt) -> str:
    name = "TensorRT" if backend.package == "tensorrt" else "TensorRT-RTX"
    return f"{name} {backend.version}"


class TensorRtEngine:
    """An engine on the GPU, ready to be called with one batch at a time; not thread-safe, as its context is not."""

    def __init__(self, backend: TensorRt, plan: bytes | memoryview) -> None:
        """Load a plan whose digest has been checked.

        Raises:
            EngineError: The engine cannot run on this machine, or TensorRT refuses the plan.
        """
        if trouble := why_not_here(backend):
            raise EngineError(f"the TensorRT engine cannot run here: {trouble}.")
        self._trt, self._log = backend.module, _log(backend.module)
        self._runtime = self._trt.Runtime(self._log)
        self._runtime.engine_host_code_allowed = False
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        self._context = self._engine and self._engine.create_execution_context()
        if not self._context:
            raise EngineError(f"{_title(backend)} refuses the engine: {_said(self._log.errors)}")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT]
        self._input, self._output = inputs[0], next(name for name in names if name not in inputs)

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the output for a batch, (b, ...) to (b, ...); the copies to the GPU and back are part of the call.

        Raises:
            EngineError: The batch has a shape outside the engine's profile, or the run failed.
        """
        import torch  # here for the same reason as in why_not_here

        given = torch.from_numpy(np.ascontiguousarray(batch, dtype=self._dtype(self._input))).cuda()
        if not self._context.set_input_shape(self._input, tuple(given.shape)):
            raise EngineError(f"the TensorRT engine takes no {tuple(given.shape)}: {_said(self._log.errors)}")
        shape = tuple(self._context.get_tensor_shape(self._output))
        answer = torch.from_numpy(np.empty(shape, dtype=self._dtype(self._output))).cuda()
        self._context.set_tensor_address(self._input, given.data_ptr())
        self._context.set_tensor_address(self._output, answer.data_ptr())
        # A stream of its own: on the default one TensorRT synchronises more. It starts once the copies above are done.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise EngineError(f"the TensorRT engine failed: {_said(self._log.errors)}")
        stream.synchronize()
        found: NDArray[Any] = answer.cpu().numpy()
        return found

    def _dtype(self, name: str) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        return dtype
