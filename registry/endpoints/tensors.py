"""One tensor of the Open Inference Protocol: its datatypes, and its data as JSON numbers or raw bytes; pure.

Nothing is allocated for a tensor before its shape and the length of its data have been seen to agree.

Source: KServe, "Open Inference Protocol (V2)" and "Binary Tensor Data Extension".
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from registry.errors import EndpointError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.endpoints.serving import Limits
    from registry.signature import TensorSpec

Array = NDArray[Any]

_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
}
_DATATYPES = {dtype.name: datatype for datatype, dtype in _DTYPES.items()}
_JSON_TYPES: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}


class ProtocolError(EndpointError):
    """A request that is refused, or an answer that says so; ``status`` is the HTTP status that goes with the words."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        """Keep the words that go into the protocol's ``{"error": ...}``."""
        self.status = status
        super().__init__(message)


@functools.cache  # numpy puts the name together at each call: 3 us, three times in a request
def datatype_of(dtype: np.dtype[Any] | str) -> str:
    """Return the protocol's word for a numpy type: ``FP32`` for ``float32``.

    Raises:
        InvalidInputError: The protocol has no numbers of that type (text, objects, complex, dates).
    """
    name = np.dtype(dtype).name
    if name not in _DATATYPES:
        raise InvalidInputError(f"a tensor of {name} cannot be sent: the endpoint takes {', '.join(_DATATYPES)}.")
    return _DATATYPES[name]


def dtype_of(name: str, datatype: str) -> np.dtype[Any]:
    """Return the numpy type of a protocol datatype, for the tensor called ``name``.

    Raises:
        ProtocolError: An unknown datatype, or BYTES, which no model here takes.
    """
    if datatype not in _DTYPES:
        raise ProtocolError(f"{name}: datatype {datatype[:20]!r} is not supported; use one of {', '.join(_DTYPES)}")
    return _DTYPES[datatype]


def check_against(spec: TensorSpec, datatype: str, shape: Sequence[int], limits: Limits) -> None:
    """Refuse a tensor that the model does not take.

    Args:
        spec: What the model takes; -1 where a size is free.
        datatype: The protocol's word for what was sent.
        shape: What was sent, unchecked.
        limits: Rank and elements that a request may have.

    Raises:
        ProtocolError: Another datatype, rank or size (400), or more elements than the limit (413).
    """
    wanted = datatype_of(spec.dtype)
    if datatype != wanted:
        raise ProtocolError(f"input {spec.name!r} is {wanted} and was sent as {datatype[:20]}")
    if len(shape) > limits.max_rank:
        raise ProtocolError(f"input {spec.name!r} has {len(shape)} dimensions; the limit is {limits.max_rank}")
    fits = len(shape) == len(spec.shape) and all(
        size >= 0 and free in {size, -1} for size, free in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise ProtocolError(f"input {spec.name!r} takes shape {list(spec.shape)} and was sent as {list(shape)}")
    if max(math.prod(shape), *shape, 0) > limits.max_elements:
        raise ProtocolError(
            f"input {spec.name!r} of shape {list(shape)} has more than {limits.max_elements} elements; send fewer",
            status=413,
        )


def from_bytes(name: str, raw: memoryview, dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
    """Return raw little-endian bytes, row-major, as a writable array of the machine's byte order.

    Raises:
        ProtocolError: Another number of bytes than the shape has, or a BOOL that is neither 0 nor 1.
    """
    expected = _elements(name, shape) * dtype.itemsize
    if len(raw) != expected:
        raise ProtocolError(
            f"{name} of shape {list(shape)} has {expected} bytes as {_DATATYPES[dtype.name]}, found {len(raw)}"
        )
    if dtype.kind == "b" and (np.frombuffer(raw, np.uint8) > 1).any():
        raise ProtocolError(f"{name}: a BOOL is one byte, 0 or 1")
    # The copy also aligns: the bytes begin wherever the JSON before them happened to end.
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def from_json(name: str, data: list[Any], dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
    """Return JSON data as an array; flat in row-major order, or nested as the shape is.

    Raises:
        ProtocolError: Another number of elements than the shape has, ragged nesting, an element of another type
            (no text is read as a number, no fraction as a whole one), or one outside the datatype's range.
    """
    expected = _elements(name, shape)
    flat = _flatten(name, data, shape) if data and isinstance(data[0], list) else data
    if len(flat) != expected:
        raise ProtocolError(f"{name} of shape {list(shape)} has {expected} elements, found {len(flat)}")
    datatype = _DATATYPES[dtype.name]
    if strange := set(map(type, flat)) - _JSON_TYPES[dtype.kind]:
        found = ", ".join(sorted(kind.__name__ for kind in strange))
        raise ProtocolError(f"{name}: its data must be {datatype} values, found {found}")
    try:
        with np.errstate(over="raise"):
            return np.array(flat, dtype=dtype).reshape(shape)
    except (OverflowError, FloatingPointError):
        raise ProtocolError(f"{name}: its data has a number outside the range of {datatype}") from None


def to_bytes(array: Array) -> bytes:
    """Return an array as raw little-endian bytes, row-major."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def to_json(name: str, array: Array) -> Array:
    """Return an array in the flat form that the JSON encoder writes.

    Raises:
        ProtocolError: NaN or an infinity in it, which JSON has no word for.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ProtocolError(f"{name} holds NaN or infinity, which JSON cannot carry: ask for it as binary data")
    return np.ascontiguousarray(array).ravel()


def _elements(name: str, shape: Sequence[int]) -> int:
    if any(size < 0 for size in shape):
        raise ProtocolError(f"{name}: shape {list(shape)} has a negative size")
    return math.prod(shape)


def _flatten(name: str, data: list[Any], shape: Sequence[int]) -> list[Any]:
    flat = data
    for size in shape[1:]:
        if any(type(row) is not list or len(row) != size for row in flat):
            raise ProtocolError(f"{name}: its nested data does not have the shape {list(shape)}")
        flat = list(itertools.chain.from_iterable(flat))
    return flat
