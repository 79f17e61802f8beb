"""Look for an NVIDIA GPU by its driver alone: without one, TensorRT's Runtime is an object that crashes the process."""

from __future__ import annotations

import ctypes
import functools
import sys

from registry.base import Record

COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76
"""Attribute numbers of the CUDA driver interface (``CUdevice_attribute`` in cuda.h)."""


class Gpu(Record):
    """The first GPU that CUDA shows this process; ``driver`` is the newest CUDA version that its driver speaks."""

    name: str
    compute_capability: str
    memory_bytes: int
    driver: str


@functools.cache
def find_gpu() -> Gpu | None:
    """Return the first GPU, or None without a driver or a device; ``CUDA_VISIBLE_DEVICES`` counts.

    The driver's own library is asked, not torch: a CPU build of torch knows of no GPU, and TensorRT needs none.
    """
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return None
    count = ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return None
    return _first(cuda)


def _first(cuda: ctypes.CDLL) -> Gpu | None:
    device, driver = ctypes.c_int(), ctypes.c_int()
    major, minor = ctypes.c_int(), ctypes.c_int()
    memory, name = ctypes.c_size_t(), ctypes.create_string_buffer(256)
    answers = (
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuDeviceGetName(name, len(name), device),
        cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), COMPUTE_CAPABILITY_MAJOR, device),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), COMPUTE_CAPABILITY_MINOR, device),
        cuda.cuDriverGetVersion(ctypes.byref(driver)),
    )
    if any(answers):
        return None
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major.value}.{minor.value}",
        memory_bytes=memory.value,
        driver=f"{driver.value // 1000}.{driver.value % 1000 // 10}",
    )
