"""Models of anybody's own kind: a ``Saver`` writes and reads them, found by entry point or given by the process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from registry.errors import InvalidInputError, NotFoundError, RefusedError
from registry.frameworks.kinds import ModelFramework
from registry.frameworks.saved import SavedModel

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "modelway.savers"
"""The entry points of this group name Savers: ``name = "package.module:Class"``, or an object instead of a class."""


@runtime_checkable
class Saver(Protocol):
    """Writes models of one kind into a folder, and reads them back.

    ``name`` is recorded with every model that it writes, so it never changes; as an entry point it has the same name.
    """

    name: str

    def can_save(self, model: object) -> bool:
        """Return whether this is a model of its kind; asked of objects that no framework here takes."""

    def save(self, model: Any, folder: Path) -> Mapping[str, Any]:
        """Write the model into an empty folder; return what ``load`` needs beside the files, as JSON."""

    def load(self, folder: Path, files: tuple[str, ...], info: Mapping[str, Any]) -> Any:
        """Return the model from ``files`` below ``folder``, which is only read, and what ``save`` returned.

        The files are those that were registered, byte for byte. Whoever registered them may still be a stranger: what
        can run code (pickles above all) has no place here.
        """


_registered: dict[str, Saver] = {}


def register_saver(saver: Saver) -> None:
    """Let this process save and load models by ``saver``; one of the same name is replaced.

    Raises:
        InvalidInputError: It is no Saver.
    """
    _registered[_checked(saver, "register_saver").name] = saver


def save(model: object, folder: Path) -> SavedModel | None:
    """Write a model by the first Saver that takes it, and prove that it comes back; None where none does.

    Raises:
        InvalidInputError: A Saver takes it and fails, writes no file, or returns what JSON cannot hold.
    """
    for saver, package in _all_savers():
        if saver.can_save(model):
            return _save(saver, package, model, folder)
    return None


def load(folder: Path, files: tuple[str, ...], info: Mapping[str, Any]) -> Any:
    """Return a model by the Saver that wrote it.

    Raises:
        NotFoundError: It is not installed here; names the package that it came from.
        RefusedError: It cannot read the files.
    """
    name = str(info["saver"])
    saver = _registered.get(name) or next((_loaded(entry) for entry in _installed() if entry.name == name), None)
    if saver is None:
        package = info.get("package") or "no package: a process had registered it"
        raise NotFoundError(
            f"this model was written by the Saver {name!r} (from {package}), which is not here. Install the package "
            f"whose entry points of the group {GROUP!r} have {name!r}, or call register_saver() before loading."
        )
    try:
        return saver.load(folder, files, dict(info.get("info", {})))
    except Exception as error:
        # A Saver is somebody's own code and may raise anything.
        raise RefusedError(
            f"the Saver {name!r} could not read {folder}: {type(error).__name__}: {error}. Is it the version that "
            f"wrote the model ({info.get('package') or 'unknown'})?"
        ) from error


def _save(saver: Saver, package: str, model: object, folder: Path) -> SavedModel:
    try:
        info = json.loads(json.dumps(dict(saver.save(model, folder)), allow_nan=False))
        names = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
        if names:
            saver.load(folder, names, info)
    except Exception as error:
        # A Saver is somebody's own code and may raise anything.
        raise InvalidInputError(
            f"the Saver {saver.name!r} took a {type(model).__name__} and failed: {type(error).__name__}: {error}"
        ) from error
    if not names:
        raise InvalidInputError(f"the Saver {saver.name!r} took a {type(model).__name__} and wrote no file.")
    kept = {"saver": saver.name, "package": package, "info": info}
    return SavedModel(framework=ModelFramework.CUSTOM, info=kept)


def _all_savers() -> Iterator[tuple[Saver, str]]:
    """Yield those of the process, then the installed ones by name, each with the package that it comes from."""
    yield from ((saver, "") for saver in _registered.values())
    for entry in _installed():
        if entry.name not in _registered:
            yield _loaded(entry), f"{entry.dist.name} {entry.dist.version}" if entry.dist else ""


def _installed() -> list[EntryPoint]:
    from importlib.metadata import entry_points  # takes longer to import than everything else here together

    return sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value))


def _loaded(entry: EntryPoint) -> Saver:
    origin = f"the entry point {entry.name} = {entry.value} of the group {GROUP}"
    try:
        found = entry.load()
        found = found() if isinstance(found, type) else found
    except Exception as error:
        # Importing a package runs its code, which may raise anything.
        raise InvalidInputError(f"{origin} cannot be loaded: {type(error).__name__}: {error}") from error
    saver = _checked(found, origin)
    if saver.name != entry.name:
        raise InvalidInputError(f"{origin} gives a Saver named {saver.name!r}; both must have one name.")
    return saver


def _checked(saver: object, origin: str) -> Saver:
    if isinstance(saver, type) or not isinstance(saver, Saver) or not isinstance(saver.name, str) or not saver.name:
        raise InvalidInputError(
            f"{origin}: {saver!r} is no Saver. It needs a name (str), can_save(model), save(model, folder) and "
            "load(folder, files, info)."
        )
    return saver
