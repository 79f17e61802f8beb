"""Golden samples: some real inputs, kept beside a model with the outputs that it gave for them."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.errors import InvalidInputError, RefusedError
from registry.frameworks.archive import check_archive
from registry.frameworks.files import SAMPLES_NAME
from registry.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SAMPLES = 64


def checked_samples(samples: NDArray[Any]) -> NDArray[Any]:
    """Return the first 64 samples, contiguous.

    Args:
        samples: Shape (n, ...), n >= 1, of a number or boolean dtype.

    Raises:
        InvalidInputError: Not such an array.
    """
    array = np.asarray(samples)
    if array.ndim < 1 or len(array) < 1 or array.dtype.kind not in "fiub":
        raise InvalidInputError(
            f"samples must be an array of numbers whose first axis is the batch; found shape {array.shape} of "
            f"{array.dtype}. Give some real inputs, for example validation_inputs[:64]."
        )
    # A copy, so that axes of length 1 get plain strides: torch takes odd ones for another memory format, whose kernels
    # round otherwise, and the kept outputs would not be those for the kept inputs.
    return np.array(array[:MAX_SAMPLES], order="C")


def write_samples(folder: Path, inputs: NDArray[Any], outputs: NDArray[Any]) -> Signature:
    """Write ``samples.npz``, whose bytes depend on the arrays alone, and return the signature that they show.

    Args:
        folder: Where to.
        inputs: Shape (n, ...), 1 <= n <= 64.
        outputs: The model's own for them, shape (n, ...).

    Raises:
        InvalidInputError: There is not one output for each input.
    """
    if outputs.ndim < 1 or len(outputs) != len(inputs):
        raise InvalidInputError(
            f"{len(inputs)} samples gave an output of shape {outputs.shape}, and one row for each sample is asked for. "
            "Give samples whose first axis is the batch, or leave samples out."
        )
    # numpy stamps every member with 1980-01-01, so equal arrays give equal bytes.
    np.savez(folder / SAMPLES_NAME, inputs=inputs, outputs=outputs)
    return Signature(inputs=(_spec("input", inputs),), outputs=(_spec("output", outputs),))


def read_samples(folder: Path) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return the golden inputs and outputs, shapes (n, ...), or None where there are none.

    Raises:
        RefusedError: The file is damaged, would unpickle objects, or would inflate to more than its size.
    """
    file = folder / SAMPLES_NAME
    if not file.exists():
        return None
    try:
        check_archive(file)
        with zipfile.ZipFile(file) as archive:
            return _read_array(archive, "inputs.npy"), _read_array(archive, "outputs.npy")
    except (RefusedError, zipfile.BadZipFile, ValueError, KeyError, EOFError, OverflowError, MemoryError) as error:
        raise RefusedError(
            f"{file} holds no golden samples that are safe to read: {error} Register the model again with samples."
        ) from error


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Return one array, whose header claims no more than the member holds: numpy makes room for it before reading."""
    member = archive.getinfo(name)
    with archive.open(member) as data:
        version = np.lib.format.read_magic(data)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(data)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f"{name} claims {math.prod(shape)} elements of {dtype}, and has {member.file_size} bytes")
    with archive.open(member) as data:
        array: NDArray[Any] = np.lib.format.read_array(data, allow_pickle=False)
    return array


def _spec(name: str, array: NDArray[Any]) -> TensorSpec:
    return TensorSpec(name=name, dtype=str(array.dtype), shape=(-1, *array.shape[1:]))
