"""ONNX models: ``model.onnx``, checked before anything reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from registry.engines.onnx_file import check_onnx
from registry.errors import EngineError, InvalidInputError, RefusedError
from registry.frameworks import SavedModel, custom
from registry.frameworks.kinds import ModelFramework
from registry.frameworks.samples import checked_samples, write_samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


def load(folder: Path) -> onnx.ModelProto | bytes | Path:
    """Return the ModelProto of the one ``.onnx`` file in ``folder``, weights included.

    Without exactly one such file the content is given as that of a custom model.

    Raises:
        RefusedError: It is not valid ONNX, or reaches for files outside the folder.
        ArtifactNotFoundError: There are no files.
    """
    found = [file for file in custom.files_in(folder) if file.suffix.lower() == ".onnx"]
    if len(found) != 1:
        return custom.load(folder)
    try:
        check_onnx(found[0])
    except EngineError as error:
        raise RefusedError(f"{found[0]} was not loaded: {error}") from error
    return onnx.load(found[0])


def _write_samples(folder: Path, samples: NDArray[Any]) -> None:
    from registry.engines.session import open_onnx

    inputs = checked_samples(samples)
    session = open_onnx(folder / FILE_NAME)
    if len(session.input_names) != 1 or len(session.output_names) != 1:
        raise InvalidInputError("golden samples are kept for models with one input and one output. Leave samples out.")
    write_samples(folder, inputs, session(inputs))
