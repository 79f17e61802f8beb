"""ONNX models: ``model.onnx``, checked before anything reads it, with weights that may lie in files beside it."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from registry.engines.onnx_file import check_onnx, tensors_of
from registry.errors import EngineError, InvalidInputError, RefusedError
from registry.frameworks import custom
from registry.frameworks.files import inside
from registry.frameworks.kinds import ModelFramework
from registry.frameworks.samples import checked_samples, write_samples
from registry.frameworks.saved import FoundModel, SavedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel

FILE_NAME = "model.onnx"
_WEIGHTS_NAME = "model.onnx.data"


def save(model: object, folder: Path, *, samples: NDArray[Any] | None = None) -> SavedModel:
    """Write a ModelProto as ``model.onnx``, above 2 GB with its weights in a second file, and check it.

    Raises:
        InvalidInputError: No ModelProto, not valid, its weights are files that are not here, or the samples do not go
            through it.
    """
    if not isinstance(model, onnx.ModelProto):
        raise InvalidInputError(f"an onnx.ModelProto is asked for; found {type(model).__name__}.")
    file = folder / FILE_NAME
    if model.ByteSize() < onnx.checker.MAXIMUM_PROTOBUF:
        file.write_bytes(model.SerializeToString(deterministic=True))
    else:
        # onnx moves the weights out of the object that it saves: not out of the caller's.
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        onnx.save(copy, file, save_as_external_data=True, location=_WEIGHTS_NAME)
    try:
        signature = check_onnx(file).signature
        if samples is not None:
            _write_samples(folder, samples)
    except EngineError as error:
        raise InvalidInputError(f"the ONNX model cannot be registered: {error}") from error
    return SavedModel(framework=ModelFramework.ONNX, signature=signature)


def load(folder: Path, files: tuple[str, ...], info: Mapping[str, Any]) -> onnx.ModelProto | bytes | Path:  # noqa: ARG001 - every framework's load takes it
    """Return the ModelProto of the one ``.onnx`` file among ``files``, weights included.

    Without exactly one such file the content is given as that of a custom model.

    Raises:
        RefusedError: It is not valid ONNX, or reaches for a file that is not one of ``files``.
    """
    found = [name for name in files if name.lower().endswith(".onnx")]
    if len(found) != 1:
        return custom.as_it_is(folder, files)
    with _of_one_link(folder, files) as place:
        file = inside(place, found[0])
        parent = PurePosixPath(found[0]).parent
        try:
            strange = [name for name in _checked(file).files[1:] if (parent / name).as_posix() not in files]
            if not strange:
                return onnx.load(file)
        except (EngineError, DecodeError, ValueError) as error:
            raise RefusedError(f"{file} was not loaded: {error}") from error
        raise RefusedError(
            f"{file} was not loaded: its weights are in {strange[0]!r}, which is no file of this version. Register the "
            "model with all of its files, in one folder."
        )


def examine(path: Path) -> FoundModel:
    """Return the signature of an ONNX file, or of the only one in a folder, and the files of weights beside it.

    Raises:
        InvalidInputError: Its weights are missing, links, or outside its folder.
    """
    models = [path] if path.is_file() else sorted(path.rglob("*.onnx"))
    nothing = FoundModel(framework=ModelFramework.ONNX)
    if len(models) != 1:
        return nothing
    try:
        reaches_out = bool(_weights_outside(onnx.load(models[0], load_external_data=False)))
    except DecodeError:
        return nothing
    try:
        checked = _checked(models[0])
    except EngineError as error:
        if not reaches_out:
            return nothing
        raise InvalidInputError(f"{models[0]} cannot be registered as ONNX: {error}") from error
    beside = checked.files[1:] if path.is_file() else ()
    return nothing.model_copy(update={"signature": checked.signature, "beside": beside})


def _checked(file: Path) -> OnnxModel:
    """Check a model as the engines do, and that each of its weights has as many bytes in its file as it claims.

    Raises:
        EngineError, DecodeError: It is not valid, or reaches for what is not there.
    """
    checked = check_onnx(file)
    for tensor in _weights_outside(onnx.load(file, load_external_data=False)):
        place = ExternalDataInfo(tensor)
        begin = place.offset or 0
        left = (file.parent / place.location).stat().st_size - begin
        held = left if place.length is None else place.length
        claimed = -(-math.prod(tensor.dims) * _bits(tensor.data_type) // 8)
        if begin < 0 or not 0 <= held <= left or claimed != held:
            raise EngineError(
                f"its weight {tensor.name!r} of shape {tuple(tensor.dims)} claims {claimed} bytes, and "
                f"{place.location} has {min(held, left)} for it at byte {begin}."
            )
    return checked


def _weights_outside(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    tensors = [*tensors_of(model.graph.node, model.graph.initializer)]
    for function in model.functions:
        tensors += tensors_of(function.node, ())
    return [tensor for tensor in tensors if uses_external_data(tensor)]


def _bits(data_type: int) -> int:
    name = onnx.TensorProto.DataType.Name(data_type)
    packed = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    return packed.get(name) or 8 * onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize


@contextlib.contextmanager
def _of_one_link(folder: Path, files: tuple[str, ...]) -> Iterator[Path]:
    """Give ``folder``, or a copy of the files if one has a second name: onnx refuses those, whatever they hold."""
    if all(inside(folder, name).stat().st_nlink == 1 for name in files):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="modelway-") as scratch:
        for name in files:
            copy = inside(Path(scratch), name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(inside(folder, name), copy)
        yield Path(scratch)


def _write_samples(folder: Path, samples: NDArray[Any]) -> None:
    from registry.engines.session import open_onnx

    inputs = checked_samples(samples)
    session = open_onnx(folder / FILE_NAME)
    if len(session.input_names) != 1 or len(session.output_names) != 1:
        raise InvalidInputError("golden samples are kept for models with one input and one output. Leave samples out.")
    write_samples(folder, inputs, session(inputs))
