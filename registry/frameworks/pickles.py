"""Pickles: read only by a caller who says so, and only those that name nothing but what is allowed."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from registry.errors import InvalidInputError, RefusedError
from registry.frameworks.files import inside
from registry.frameworks.kinds import ModelFramework
from registry.frameworks.pickle_program import ALWAYS_ALLOWED, PickleProgram, global_name, not_allowed, refused
from registry.frameworks.saved import SavedModel

FILE_NAME = "model.pkl"
SUFFIXES = frozenset({".pkl", ".pickle", ".joblib"})
LARGEST_BYTES = 8 << 30
_PACKED = re.compile(rb"x[\x01\x5e\x9c\xda]|\x1f\x8b|BZh|\xfd7zXZ\x00|\x5d\x00\x00|PK\x03\x04|\x04\x22\x4d\x18|ZF")
_WORD = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def save(model: object, folder: Path, *, allow_pickle: AbstractSet[str]) -> SavedModel:
    """Write an object as ``model.pkl``, check it and read it back; ``info`` has the names to allow when it is loaded.

    Raises:
        InvalidInputError: It cannot be pickled, uses names that are not allowed, or does not come back.
    """
    kind = type(model).__name__
    try:
        data = pickle.dumps(model, protocol=4)
    except Exception as error:
        # Pickling is the object's own code and may raise anything.
        raise InvalidInputError(
            f"a {kind} cannot be pickled: {type(error).__name__}: {error}. Write a Saver for its class."
        ) from error
    try:
        names = check_pickle(data, allow_pickle=allow_pickle, origin=FILE_NAME)
        _unpickle(data, allow_pickle, FILE_NAME)
    except RefusedError as error:
        raise InvalidInputError(f"a {kind} cannot be registered as a pickle: {error}") from error
    (folder / FILE_NAME).write_bytes(data)
    return SavedModel(framework=ModelFramework.CUSTOM, info={"pickle": sorted(names - ALWAYS_ALLOWED)})


def load(folder: Path, files: tuple[str, ...], *, allow_pickle: AbstractSet[str]) -> Any:
    """Return the object in the one pickle among ``files``.

    Raises:
        RefusedError: There is not exactly one, or ``read_pickle`` refuses it.
    """
    found = pickles_in(files)
    if len(found) != 1:
        raise RefusedError(f"{folder} holds {len(found)} pickles ({', '.join(found)}), and a model is one of them.")
    return read_pickle(inside(folder, found[0]), allow_pickle=allow_pickle)


def check_files(path: Path, *, allow_pickle: AbstractSet[str]) -> None:
    """Refuse a pickle at ``path``, or below it, that could not be loaded with ``allow_pickle``.

    Raises:
        RefusedError, InvalidInputError: ``check_pickle`` says why.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        if pickles_in((file.name,)):
            check_pickle(file.read_bytes(), allow_pickle=allow_pickle, origin=str(file))


def pickles_in(files: tuple[str, ...]) -> list[str]:
    """Return those of ``files`` that are pickles by their suffix."""
    return [name for name in files if Path(name).suffix.lower() in SUFFIXES]


def read_pickle(file: Path, *, allow_pickle: AbstractSet[str]) -> Any:
    """Return the object in a pickle whose opcodes have been checked.

    Args:
        file: The pickle; those that joblib writes only where they hold no arrays and are not compressed.
        allow_pickle: Global names that it may use beside ``ALWAYS_ALLOWED``: ``module.name``, or
            ``module:Outer.Inner`` for what is not at the top of its module.

    Raises:
        RefusedError: ``check_pickle`` refuses it, or reading it failed.
        InvalidInputError: ``allow_pickle`` holds what is no name.
    """
    if file.stat().st_size > LARGEST_BYTES:
        raise refused(str(file), f"it has {file.stat().st_size} bytes, and pickles above {LARGEST_BYTES} are not read")
    data = file.read_bytes()
    check_pickle(data, allow_pickle=allow_pickle, origin=str(file))
    return _unpickle(data, allow_pickle, str(file))


def check_pickle(data: bytes, *, allow_pickle: AbstractSet[str] = frozenset(), origin: str = "the pickle") -> set[str]:
    """Return the global names that a pickle uses, all of them allowed; nothing of it is run.

    Raises:
        RefusedError: It uses another name, or one that cannot be told without running it; calls or changes what it must
            not; has an opcode that is not on the list; is compressed, cut off, or followed by something else.
        InvalidInputError: ``allow_pickle`` holds what is no name.
    """
    allowed = _checked_names(allow_pickle)
    if _PACKED.match(data):
        raise refused(origin, "it is compressed or an archive, and its opcodes cannot be seen")
    program, end = PickleProgram(origin, allowed), 0
    try:
        for code, argument, position in pickletools.genops(data):
            program.step(code, argument)
            end = (position or 0) + 1
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise refused(origin, f"it is no pickle that can be followed to its end ({_first_line(error)})") from None
    if len(data) != end:
        raise refused(origin, f"{len(data) - end} bytes follow its end")
    return program.names


class _Unpickler(pickle.Unpickler):
    """Reads a pickle that has been checked, and holds it to the same names once more."""

    def __init__(self, data: bytes, allowed: frozenset[str], origin: str) -> None:
        super().__init__(io.BytesIO(data), fix_imports=False)  # names as they were checked
        self.allowed, self.origin = allowed, origin

    def find_class(self, module: str, name: str) -> Any:
        found = global_name(module, name)
        if found not in ALWAYS_ALLOWED | self.allowed:
            raise not_allowed(self.origin, found)
        kind = super().find_class(module, name)
        return _empty_array(kind) if found.endswith(".multiarray._reconstruct") else kind

    def persistent_load(self, _: Any) -> Any:
        raise refused(self.origin, "it refers to objects outside of it")


def _empty_array(reconstruct: Any) -> Any:
    def make(kind: Any, shape: tuple[int, ...], code: Any) -> Any:
        # numpy itself writes (0,) here, and the real shape beside the real bytes.
        if shape != (0,):
            raise ValueError(f"an array of shape {shape} without bytes")
        return reconstruct(kind, shape, code)

    return make


def _unpickle(data: bytes, allow_pickle: AbstractSet[str], origin: str) -> Any:
    try:
        return _Unpickler(data, frozenset(allow_pickle), origin).load()
    except RefusedError:
        raise
    except Exception as error:
        # Constructors that the caller allowed may raise anything, and so may a damaged pickle.
        raise refused(origin, f"reading it failed ({type(error).__name__}: {_first_line(error)})") from error


def _checked_names(names: object) -> frozenset[str]:
    if not isinstance(names, AbstractSet) or not all(isinstance(name, str) and _is_name(name) for name in names):
        raise InvalidInputError(
            f"allow_pickle is a set of names such as {{'package.module.Class'}}; found {names!r}. There is no word for "
            "all of them."
        )
    return frozenset(names)


def _is_name(name: str) -> bool:
    module, colon, inner = name.partition(":")
    words = (module, inner) if colon else (name,)
    return all(_WORD.fullmatch(word) for word in words) and "." in words[-1]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
