"""An engine is never taken for another, nor loaded where it does not belong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import onnxruntime
import pytest

from registry.engines.gpu import Gpu, find_gpu
from registry.engines.key import (
    Machine,
    OnnxRuntimeKey,
    Profile,
    SessionSettings,
    TensorRtKey,
    cuda_runtime_of,
    engine_key,
    matches_this_machine,
    mismatch,
    this_machine,
)

if TYPE_CHECKING:
    from registry.base import Record

HERE = this_machine()
ADA = Gpu(name="RTX 4090", compute_capability="8.9", memory_bytes=24 << 30, driver="13.0")

CPU_KEY = OnnxRuntimeKey(
    onnx_sha256="a" * 64,
    version=onnxruntime.__version__,
    os=HERE.os,
    arch=HERE.arch,
    session=SessionSettings(threads=1),
)


def _rtx_key(**changed: Any) -> TensorRtKey:
    tensorrt_rtx = pytest.importorskip("tensorrt_rtx", reason="the wheel exists for Linux x86-64 and Windows only")
    fields = {
        "onnx_sha256": "a" * 64,
        "package": "tensorrt_rtx",
        "version": tensorrt_rtx.__version__,
        "os": HERE.os,
        "arch": HERE.arch,
        "compute_capabilities": ("8.6", "8.9"),
        "gpu_name": None,
        "gpu_memory_bytes": None,
        "cuda_runtime": cuda_runtime_of("tensorrt_rtx"),
        "profiles": (Profile(input="input", min=(1, 4), opt=(8, 4), max=(64, 4)),),
        "flags": (),
        "optimization_level": 3,
        "workspace_bytes": 1 << 30,
    }
    return TensorRtKey(**{**fields, **changed})


def _fields(key: Record) -> dict[str, Any]:
    return key.model_dump(mode="json")


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every leaf of a JSON value; an empty list is a leaf."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [place for name, part in inner for place in _places(part, (*path, name))]
    return found or [path]


def _with(value: Any, place: tuple[Any, ...]) -> Any:
    """Return a copy that differs in one leaf."""
    if not place:
        return "changed"
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = _with(value[place[0]], place[1:])
    return copy


def test_every_field_changes_the_key() -> None:
    for fields in (_fields(CPU_KEY), _fields(_rtx_key())):
        changed = [engine_key(_with(fields, place)) for place in _places(fields)]
        assert len(changed) >= 10
        assert len({engine_key(fields), *changed}) == len(changed) + 1


def test_the_key_is_a_full_sha256_that_knows_no_order() -> None:
    fields = _fields(CPU_KEY)
    assert re.fullmatch("[0-9a-f]{64}", engine_key(fields))
    assert engine_key(dict(reversed(fields.items()))) == engine_key(fields)


def test_an_onnxruntime_variant_belongs_to_the_machine_that_made_it() -> None:
    assert matches_this_machine(_fields(CPU_KEY))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": "0.1"}, f"it was built with onnxruntime 0.1, here is {onnxruntime.__version__}"),
        ({"os": "plan9"}, f"it was built for plan9 on {HERE.arch}, this is {HERE.os} on {HERE.arch}"),
        ({"arch": "vax"}, f"it was built for {HERE.os} on vax, this is"),
        ({"engine": "openvino"}, "its key has fields that this release does not know; build it again"),
        ({"plugins": ["x"]}, "its key has fields that this release does not know"),
        ({"session": {"threads": 1, "provider": "CUDAExecutionProvider"}}, "that this release does not know"),
    ],
)
def test_a_variant_of_another_machine_is_refused_in_words(changed: dict[str, Any], words: str) -> None:
    fields = {**_fields(CPU_KEY), **changed}
    assert words in (mismatch(fields) or "")
    assert not matches_this_machine(fields)


@pytest.mark.parametrize(
    ("changed", "gpu", "words"),
    [
        ({}, None, "it needs an NVIDIA GPU"),
        ({"compute_capabilities": ("8.0",)}, ADA, "for compute capability 8.0, RTX 4090 has 8.9"),
        ({"gpu_name": "H200", "gpu_memory_bytes": 1}, ADA, "it was built on H200 with 1 bytes, this is RTX 4090 with"),
        ({"gpu_name": "RTX 4090", "gpu_memory_bytes": 1}, ADA, "with 1 bytes"),
        ({"cuda_runtime": "12"}, ADA, "it was built for CUDA 12, here is CUDA"),
        ({"version": "1.0.0.0"}, ADA, "it was built with tensorrt_rtx 1.0.0.0, here is"),
        ({"package": "tensorrt"}, ADA, "it was built with tensorrt "),
    ],
)
def test_a_tensorrt_engine_of_another_gpu_or_release_is_refused_in_words(
    changed: dict[str, Any], gpu: Gpu | None, words: str
) -> None:
    machine = Machine(os=HERE.os, arch=HERE.arch, gpu=gpu)
    assert words in (mismatch(_fields(_rtx_key(**changed)), machine=machine) or "")


def test_a_tensorrt_engine_may_be_loaded_where_everything_fits() -> None:
    assert mismatch(_fields(_rtx_key()), machine=Machine(os=HERE.os, arch=HERE.arch, gpu=ADA)) is None


def test_a_gpu_is_described_or_there_is_none() -> None:
    gpu = find_gpu()
    assert gpu is None or (re.fullmatch(r"\d+\.\d", gpu.compute_capability) and gpu.memory_bytes > 0)
