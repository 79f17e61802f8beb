"""Models that no framework here reads: bytes, a file, or a folder, given back as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.errors import ArtifactNotFoundError, InvalidInputError
from registry.frameworks.kinds import ModelFramework

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.frameworks import SavedModel

FILE_NAME = "model.bin"


def save(model: object, folder: Path, *, samples: NDArray[Any] | None = None) -> SavedModel:
    """Write bytes as ``model.bin``.

    Raises:
        InvalidInputError: Not bytes, or samples, which nothing here could send through them.
    """
    from registry.frameworks import SavedModel

    if not isinstance(model, bytes):
        raise InvalidInputError(f"a custom model is given as bytes; found {type(model).__name__}. Register its path.")
    if samples is not None:
        raise InvalidInputError("samples were given with bytes, and bytes cannot be run: leave samples out.")
    (folder / FILE_NAME).write_bytes(model)
    return SavedModel(framework=ModelFramework.CUSTOM)


def load(folder: Path) -> bytes | Path:
    """Return the bytes of the one file in ``folder``, or ``folder`` where there are several.

    Raises:
        ArtifactNotFoundError: There is none.
    """
    files = files_in(folder)
    return files[0].read_bytes() if len(files) == 1 else folder


def files_in(folder: Path) -> list[Path]:
    """Return all files below ``folder``, sorted.

    Raises:
        ArtifactNotFoundError: There is none.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise ArtifactNotFoundError(
            f"{folder} holds no files: there is no model to load. Was only metadata registered?"
        )
    return files
