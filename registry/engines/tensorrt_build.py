"""Build TensorRT engines, with the full TensorRT or with TensorRT-RTX: one builder that is given either module."""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from registry.engines.tensorrt import kept_errors
from registry.errors import EngineError

if TYPE_CHECKING:
    from registry.engines.key import TensorRtKey
    from registry.engines.records import OnnxModel
    from registry.engines.tensorrt import Bound, TensorRt


def build_engine(backend: TensorRt, onnx: OnnxModel, key: TensorRtKey, *, timings: Path | None = None) -> memoryview:
    """Build an engine as its key says and return its serialised plan.

    Args:
        backend: What builds it.
        onnx: The model, typed as the key's precision asks for.
        key: From ``key_of``: profiles, targets, flags, limits.
        timings: The file of the timing cache (``timings_of``); read if it is there, and written again afterwards.

    Raises:
        EngineError: The parser or the builder refuses the model; the message names the node and what TensorRT said.
    """
    trt = backend.module
    log = kept_errors(trt)
    builder = trt.Builder(log)
    # TensorRT 10 takes types from the ONNX only when asked to; 11 and RTX know nothing else, and deprecate the flag.
    asks_for_types = backend.package == "tensorrt" and backend.version.startswith("10.")
    network = builder.create_network(
        1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if asks_for_types else 0
    )
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx.path)):
        found = [_parser_words(parser.get_error(index)) for index in range(parser.num_errors)]
        raise EngineError(f"{backend.title} cannot read {onnx.path.name}: {'; '.join(found)}.")
    config = _config(trt, builder, key)
    if timings is not None:
        _begin_with(config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{backend.title} could not build {onnx.path.name}: {log.said}")
    if timings is not None:
        _keep(config, timings)
    return memoryview(plan)


def timings_of(backend: TensorRt) -> Path | None:
    """Return the file of the timing cache for this package, version and GPU; None for TensorRT-RTX, which has none.

    There it is deprecated since 1.2 and does nothing. The folder is the user's own cache: what is lost is timed again.
    """
    if backend.package == "tensorrt_rtx" or backend.gpu is None:
        return None
    import platformdirs

    device = re.sub(r"[^A-Za-z0-9.]+", "-", f"{backend.gpu.name}-sm{backend.gpu.compute_capability}")
    name = f"{backend.package}-{backend.version}-{device}.timings"
    return platformdirs.user_cache_path("modelway") / "tensorrt" / name


def timings_sha256(timings: Path | None) -> str | None:
    """Return the digest of a timing cache as a builder would find it now, or None if there is none."""
    if timings is None:
        return None
    try:
        return hashlib.sha256(timings.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _config(trt: Bound, builder: Bound, key: TensorRtKey) -> Bound:
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
    elif key.hardware_compatibility != "NONE":
        level = getattr(trt.HardwareCompatibilityLevel, key.hardware_compatibility, None)
        if level is None:
            raise EngineError(
                f"TensorRT {key.version} knows no hardware compatibility {key.hardware_compatibility}. "
                "Ask for NONE or AMPERE_PLUS, or install TensorRT 11."
            )
        config.hardware_compatibility_level = level
    if key.profiles:
        shapes = builder.create_optimization_profile()
        for profile in key.profiles:
            shapes.set_shape(profile.input, profile.min, profile.opt, profile.max)
        config.add_optimization_profile(shapes)
    return config


def _begin_with(config: Bound, timings: Path) -> None:
    # A file that TensorRT cannot read, or of another device, gives an empty cache: it is there to save time only.
    known = timings.read_bytes() if timings.is_file() else b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _keep(config: Bound, timings: Path) -> None:
    cache = config.get_timing_cache()
    try:
        timings.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".timings-", dir=timings.parent) as scratch:
            written = Path(scratch, timings.name)
            written.write_bytes(cache.serialize())
            written.replace(timings)  # whole or not at all: several builds may end at the same time
    except OSError:
        return  # a home that cannot be written to costs time, not the engine


def _parser_words(error: Bound) -> str:
    described = " ".join(error.desc().split())
    reason = error.code().name if described in {"", "false"} else f"{error.code().name}, {described}"
    if not error.node_name():
        return reason
    return f"node {error.node_name()!r} ({error.node_operator()}): {reason}"
