"""safetensors files: named tensors and nothing else; the header is checked in full, then the file is mapped."""

from __future__ import annotations

import json
import math
import os
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.errors import InvalidInputError, MissingExtraError, RefusedError
from registry.frameworks.files import inside
from registry.frameworks.kinds import ModelFramework
from registry.frameworks.saved import SavedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE_NAME = "model.safetensors"
LARGEST_HEADER_BYTES = 100_000_000
_LENGTH = struct.Struct("<Q")
_MOST_AXES = 32
_LONGEST_NAME = 1024
_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
_NUMPY = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "F16": "float16", "U32": "uint32",
    "I32": "int32", "F32": "float32", "U64": "uint64", "I64": "int64", "F64": "float64", "C64": "complex64",
}  # fmt: skip
_ML_DTYPES = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
_TORCH = {**_NUMPY, **_ML_DTYPES}


@dataclass(frozen=True)
class TensorPlace:
    """One tensor of a file: where its bytes begin, counted from the start of the file, and what they are."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    size_bytes: int


def save(model: object, folder: Path, *, samples: NDArray[Any] | None = None) -> SavedModel:
    """Write a mapping of names to arrays, or to torch tensors, as ``model.safetensors``.

    What goes in comes out: ``info`` keeps whether they were torch's, and ``load`` gives that kind back.

    Raises:
        InvalidInputError: Not such a mapping, a name or a type that the format cannot hold, or samples.
        MissingExtraError: The package safetensors is not installed.
    """
    if not isinstance(model, Mapping) or not model:
        raise InvalidInputError(f"a dict of names to arrays is asked for; found {type(model).__name__}.")
    if samples is not None:
        raise InvalidInputError("samples were given with bare tensors, which cannot be run: leave samples out.")
    for name in model:
        if not isinstance(name, str) or (why := _fault_in_name(name)):
            why = why if isinstance(name, str) else "it is no string"
            raise InvalidInputError(f"{name!r} cannot be the name of a tensor: {why}. Rename it.")
    torch = sys.modules.get("torch")
    of_torch = torch is not None and all(isinstance(value, torch.Tensor) for value in model.values())
    try:
        _write(dict(model), folder / FILE_NAME, of_torch=of_torch)
    except ImportError:
        raise MissingExtraError("safetensors", "safetensors", "saving tensors") from None
    except Exception as error:
        # The writer is Rust behind Python, and raises what it likes: KeyError, ValueError, SafetensorError were seen.
        raise InvalidInputError(
            f"the tensors cannot be written as safetensors: {type(error).__name__}: {error}. Give dense arrays of "
            "numbers or booleans."
        ) from error
    read_header(folder / FILE_NAME)
    return SavedModel(framework=ModelFramework.SAFETENSORS, info={"tensors": "torch" if of_torch else "numpy"})


def load(folder: Path, files: tuple[str, ...], info: Mapping[str, Any]) -> dict[str, Any] | Path:
    """Return the tensors of the one ``.safetensors`` file, by name; ``folder`` where there is not exactly one.

    They are torch tensors on the CPU where torch tensors were saved, and numpy arrays otherwise. Nothing is copied: the
    file is mapped, privately, so writing into an array changes memory alone.

    Raises:
        RefusedError: The header is not what the format allows; see ``read_header``.
    """
    found = [name for name in files if name.lower().endswith(".safetensors")]
    if len(found) != 1:
        return folder
    return read_tensors(inside(folder, found[0]), as_torch=info.get("tensors") == "torch")


def read_tensors(file: Path, *, as_torch: bool = False) -> dict[str, Any]:
    """Return all tensors of a file; ``load`` says as what."""
    places = read_header(file)
    if not places:
        return {}
    # On Windows a mapped file could not be removed, and folders that models are loaded from are.
    data = np.fromfile(file, np.uint8) if os.name == "nt" else np.memmap(file, np.uint8, mode="c")
    try:
        return {name: _tensor(data, place, as_torch=as_torch) for name, place in places.items()}
    except (ValueError, RuntimeError, TypeError, MemoryError) as error:
        raise _refused(file, f"a shape in it cannot be: {error}") from error


def read_header(file: Path) -> dict[str, TensorPlace]:
    """Return what a file says that it holds, checked against what it holds.

    Raises:
        RefusedError: The header is cut off, larger than 100 MB or not JSON; a name comes twice, is empty, has ``..`` or
            a control character in it; a tensor claims more or less than its bytes; tensors overlap, or leave bytes that
            belong to none.
        FileNotFoundError: There is no such file.
    """
    size_bytes = file.stat().st_size
    with file.open("rb") as data:
        first = data.read(_LENGTH.size)
        if len(first) < _LENGTH.size:
            raise _refused(file, f"it has {size_bytes} bytes, and no header fits into them")
        (header_bytes,) = _LENGTH.unpack(first)
        if header_bytes > min(LARGEST_HEADER_BYTES, size_bytes - _LENGTH.size):
            raise _refused(file, f"its header claims {header_bytes} bytes, and the file has {size_bytes}")
        text = data.read(header_bytes)
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_twins, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _refused(file, f"its header cannot be read: {error}") from None
    if not isinstance(header, dict):
        raise _refused(file, "its header is no JSON object")
    _check_metadata(file, header.pop("__metadata__", {}))
    start = _LENGTH.size + header_bytes
    places = {name: _place(file, name, entry, start) for name, entry in header.items()}
    _check_layout(file, places, start, size_bytes)
    return places


def _write(tensors: dict[str, Any], file: Path, *, of_torch: bool) -> None:
    if of_torch:
        import safetensors.torch

        # clone(): tensors that share memory are refused by the writer, and come back as separate ones here.
        owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        safetensors.torch.save_file(owned, file)
        return
    import safetensors.numpy

    safetensors.numpy.save_file({name: np.asarray(array, order="C") for name, array in tensors.items()}, file)


def _tensor(data: NDArray[np.uint8], place: TensorPlace, *, as_torch: bool) -> Any:
    piece = data[place.begin : place.begin + place.size_bytes]
    if as_torch:
        import torch

        dtype = getattr(torch, _TORCH[place.dtype])
        if not place.size_bytes:
            return torch.empty(place.shape, dtype=dtype)
        # torch wants its numbers at multiples of their size, and the format does not promise that.
        aligned = piece if piece.ctypes.data % _ITEM_BYTES[place.dtype] == 0 else piece.copy()
        return torch.from_numpy(np.asarray(aligned)).view(dtype).reshape(place.shape)
    return np.asarray(piece).view(_numpy_dtype(place.dtype)).reshape(place.shape)


def _numpy_dtype(name: str) -> np.dtype[Any]:
    if name in _NUMPY:
        return np.dtype(_NUMPY[name]).newbyteorder("<")
    import ml_dtypes  # comes with onnx

    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _ML_DTYPES[name]))
    return found


def _place(file: Path, name: str, entry: Any, start: int) -> TensorPlace:
    if why := _fault_in_name(name):
        raise _refused(file, f"{name!r} is no name for a tensor: {why}")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _refused(file, f"what it says of {name!r} is not its dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise _refused(file, f"{name!r} is of the type {dtype!r}, which is not read here")
    if not _are_sizes(shape) or len(shape) > _MOST_AXES or not _are_sizes(offsets) or len(offsets) != 2:  # noqa: PLR2004 - begin and end
        raise _refused(file, f"{name!r} has the shape {shape!r} at {offsets!r}, which no tensor has")
    claimed, held = math.prod(shape) * _ITEM_BYTES[dtype], offsets[1] - offsets[0]
    if claimed != held:
        raise _refused(
            file, f"{name!r} of shape {tuple(shape)} claims {claimed} bytes, and the file holds {held} of it"
        )
    return TensorPlace(dtype, tuple(shape), start + offsets[0], held)


def _check_layout(file: Path, places: Mapping[str, TensorPlace], start: int, size_bytes: int) -> None:
    at = start
    for name, place in sorted(places.items(), key=lambda item: (item[1].begin, item[1].size_bytes)):
        if place.begin != at:
            raise _refused(file, f"{name!r} begins at byte {place.begin}, and the one before it ends at {at}")
        at += place.size_bytes
    if at != size_bytes:
        raise _refused(file, f"its tensors end at byte {at}, and the file has {size_bytes}")


def _check_metadata(file: Path, metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _refused(file, "its __metadata__ is not strings by name")


def _fault_in_name(name: str) -> str:
    if not name or len(name) > _LONGEST_NAME:
        return f"it has {len(name)} characters"
    if not name.isprintable():
        return "it has a control character in it"
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        return "it leads out of a folder, should somebody write tensors into files by their names"
    return "the format keeps that one for itself" if name == "__metadata__" else ""


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 62 for value in values)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names {twice!r} twice, and readers differ in which of them they take")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"it holds {word}, which is no JSON")


def _refused(file: Path, why: str) -> RefusedError:
    return RefusedError(
        f"{file} was not loaded: {why}. Save the tensors again with safetensors, and register that file."
    )
