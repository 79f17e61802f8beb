"""Models that no framework here reads: bytes, a file, or a folder, given back as they are; and those of a Saver."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.errors import InvalidInputError, RefusedError
from registry.frameworks import savers
from registry.frameworks.files import inside
from registry.frameworks.kinds import ModelFramework
from registry.frameworks.saved import SavedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE_NAME = "model.bin"


def save(model: object, folder: Path, *, samples: NDArray[Any] | None = None) -> SavedModel:
    """Write bytes as ``model.bin``.

    Raises:
        InvalidInputError: Not bytes, or samples, which nothing here could send through them.
    """
    if not isinstance(model, bytes):
        raise InvalidInputError(f"a custom model is given as bytes; found {type(model).__name__}. Register its path.")
    if samples is not None:
        raise InvalidInputError("samples were given with bytes, and bytes cannot be run: leave samples out.")
    (folder / FILE_NAME).write_bytes(model)
    return SavedModel(framework=ModelFramework.CUSTOM)


def load(folder: Path, files: tuple[str, ...], info: Mapping[str, Any]) -> Any:
    """Return what the Saver in ``info`` reads; without one the bytes of the one file, or ``folder`` for several.

    Raises:
        NotFoundError: The Saver is not installed here.
        RefusedError: The Saver cannot read the files, or the model was saved as a pickle.
    """
    if "saver" in info:
        return savers.load(folder, files, info)
    if "pickle" in info:
        raise RefusedError(
            f"{folder} holds a pickle, and none is read unless the caller says so: "
            f"load with allow_pickle={set(info['pickle']) or '{}'}, if you trust who registered it."
        )
    return as_it_is(folder, files)


def as_it_is(folder: Path, files: tuple[str, ...]) -> bytes | Path:
    """Return the bytes of the one file, or ``folder`` where there are several."""
    return inside(folder, files[0]).read_bytes() if len(files) == 1 else folder
