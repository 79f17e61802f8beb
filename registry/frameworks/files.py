"""The files of one artifact in a folder that may hold others too: by name, each a plain file inside that folder."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from registry.errors import ArtifactNotFoundError, RefusedError

SAMPLES_NAME = "samples.npz"
"""The golden samples, kept beside every model that can be run on arrays."""


def names_in(folder: Path, files: Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of an artifact's files, sorted, each checked to be a plain file inside ``folder``.

    Args:
        folder: Where they lie; it is only read.
        files: Their names, relative, with ``/`` between; None for all files below ``folder``.

    Raises:
        RefusedError: A name leads out of the folder, or to a link, a device or a pipe.
        ArtifactNotFoundError: A file is not there, or there is none at all.
    """
    if files is None:
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not _is_plain_folder(path)]
    names = tuple(sorted(files))
    if not names:
        raise ArtifactNotFoundError(
            f"{folder} holds no files: there is no model to load. Was only metadata registered?"
        )
    for name in names:
        _check_one(folder, name)
    return names


def inside(folder: Path, name: str) -> Path:
    """Return the path of ``name`` below ``folder``, for a name that stays below it.

    Raises:
        RefusedError: It is absolute, empty, or has ``..``, a backslash or a control character in it.
    """
    path = PurePosixPath(name)
    if (
        not path.parts
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or ":" in name
        or not _printable(name)
    ):
        raise RefusedError(
            f"{name!r} is no name of a file inside {folder}: names are relative, without '..', ':', backslashes and "
            "control characters. Register the model again with its files in one folder."
        )
    return folder / path


def _check_one(folder: Path, name: str) -> None:
    file = inside(folder, name)
    parents = [
        folder.joinpath(*PurePosixPath(name).parts[:depth]) for depth in range(1, len(PurePosixPath(name).parts))
    ]
    try:
        linked = [path for path in (*parents, file) if path.is_symlink()]
        plain = stat.S_ISREG(file.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactNotFoundError(f"{file} is not there, and the artifact has a file of that name.") from None
    if linked or not plain:
        raise RefusedError(
            f"{(linked or [file])[0]} is a link, device or pipe, and models are read from plain files alone: what it "
            "leads to was never checked. Put a copy of the file in its place."
        )


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _printable(name: str) -> bool:
    return all(character.isprintable() for character in name)
