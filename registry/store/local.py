"""A folder on local disk as a store: temp file, fsync, hard link, fsync of the folder.

``os.link`` is the exclusive create: it fails when the name is taken, and what it makes visible is complete. Opening
with ``"xb"`` is exclusive too but is seen half-written, and leaves a torn file when the process dies.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from typing_extensions import override

from registry.errors import StoreError, StoreForbiddenError
from registry.store.contract import CHUNK_BYTES, AlreadyExistsError, ModelStore, check_key

_TEMPORARY = ".tmp-"


class FileModelStore(ModelStore):
    """Bytes as files below one folder; safe for any number of threads and processes on one machine."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Take the folder; it is made at the first write.

        Raises:
            StoreError: The path is a file.
        """
        self.root = Path(os.path.abspath(os.fspath(root)))  # noqa: PTH100 - resolve() would follow links that users set up
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root} is a file, and a registry needs a folder: give another path.")
        self.url = self.root.as_uri()
        self._top = f"{self.root}{'' if self.root == self.root.parent else os.sep}"

    @override
    def read(self, key: str) -> bytes:
        with _translated(key):
            return _content(self._name(key))

    @override
    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        with _translated(self.url):
            for key in keys:
                # A reader of a log asks for records that are not there yet, always: so this is made to be cheap.
                try:
                    found.append(_content(self._name(key)))
                except FileNotFoundError:
                    found.append(None)
        return found

    @override
    def create(self, key: str, data: bytes) -> None:
        self.upload(key, iter([data]))

    @override
    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        target = self._name(key)
        # The link below decides. This look only spares a loser its two fsyncs, which is most of what a lost race costs.
        if os.path.lexists(target):
            raise _taken(target)
        with _translated(key), _temporary(target, chunks, durable=True) as temporary:
            try:
                os.link(temporary, target)
            except FileExistsError:
                raise _taken(target) from None
            except FileNotFoundError as error:
                raise _swept(target) from error
            _sync_folder(os.path.dirname(target))  # noqa: PTH120 - a name, not a path object

    @override
    def replace(self, key: str, data: bytes) -> None:
        target = self._name(key)
        # Not fsynced: only what can be rebuilt from the log is ever replaced.
        with _translated(key), _temporary(target, iter([data]), durable=False) as temporary:
            try:
                os.replace(temporary, target)  # noqa: PTH105 - names, not path objects
            except FileNotFoundError as error:
                raise _swept(target) from error

    @override
    def sweep(self, *, older_than_s: float, dry_run: bool = True) -> list[str]:
        found: list[str] = []
        latest = time.time() - older_than_s
        with _translated(self.url):
            for folder, _, names in os.walk(self.root, onerror=_unless_gone):
                for path in (Path(folder, name) for name in names if name.startswith(_TEMPORARY)):
                    with contextlib.suppress(FileNotFoundError):  # its writer has just finished
                        if path.stat().st_mtime <= latest:
                            found.append(path.relative_to(self.root).as_posix())
                            if not dry_run:
                                path.unlink()
        return sorted(found)

    @override
    def list(self, prefix: str) -> list[str]:
        top = self._path(prefix) if prefix else self.root
        with _translated(prefix):
            walk = os.walk(top, onerror=_unless_gone)  # without onerror, a folder that cannot be read looks empty
            found = [Path(folder, name) for folder, _, names in walk for name in names]
        return sorted(path.relative_to(self.root).as_posix() for path in found if not path.name.startswith(_TEMPORARY))

    @override
    def delete(self, key: str) -> None:
        with _translated(key), contextlib.suppress(FileNotFoundError):
            self._path(key).unlink()

    @override
    def chunks(self, key: str) -> Iterator[bytes]:
        with _translated(key), self._path(key).open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece

    @override
    def modified(self, key: str) -> datetime:
        with _translated(key):
            return datetime.fromtimestamp(os.stat(self._name(key)).st_mtime, UTC)  # noqa: PTH116 - a name, not a path object

    @override
    def local_path(self, key: str) -> Path:
        """Return the file that holds ``key``."""
        return self._path(key)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _name(self, key: str) -> str:
        return self._top + check_key(key)


@contextlib.contextmanager
def _temporary(target: str, chunks: Iterator[bytes], *, durable: bool) -> Iterator[str]:
    """Give the name of a file with these bytes, in the target's own folder: a link or rename must stay on one disk."""
    folder = os.path.dirname(target)  # noqa: PTH120 - a name, not a path object
    name = f"{folder}{os.sep}{_TEMPORARY}{uuid.uuid4().hex}"
    try:
        _make_folder(folder)
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileNotFoundError as error:  # for a write that is a failure, not an answer
        raise StoreError(f"{folder} cannot be made, or somebody is removing it; nothing was written.") from error
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in chunks:
                file.write(piece)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # other users' servers read these files, whatever the umask is
            if durable:
                os.fsync(file.fileno())
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108 - a name, not a path object


def _content(name: str) -> bytes:
    with io.FileIO(name) as file:
        return file.readall()


def _taken(target: str) -> AlreadyExistsError:
    return AlreadyExistsError(f"{target} exists already and is never overwritten.")


def _swept(target: str) -> StoreError:
    return StoreError(f"{target} was not written: somebody removed its temporary file. Repeat the call.")


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _make_folder(folder: str) -> None:
    if os.path.isdir(folder):  # noqa: PTH112 - a name, not a path object
        return
    made = list(itertools.takewhile(lambda path: not path.is_dir(), (Path(folder), *Path(folder).parents)))
    Path(folder).mkdir(parents=True, exist_ok=True)
    # A new folder is an entry in its parent: without this a power cut could take it and what was linked into it.
    for one in made:
        _sync_folder(one.parent)


def _sync_folder(folder: str | Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    """Turn the operating system's refusals into errors that say what to do; "not there" stays FileNotFoundError."""
    try:
        yield
    except PermissionError as error:
        raise StoreForbiddenError(f"{error.filename or key}: permission denied; check who owns the folder.") from error
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise StoreError(
            f"{error.filename or key}: a file stands where a folder belongs, or a folder for a file."
        ) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StoreError(
                f"{key}: no space left on the device; nothing was recorded. Free some and repeat."
            ) from error
        if error.errno == errno.EROFS:
            raise StoreForbiddenError(f"{key}: the file system is mounted read-only.") from error
        raise StoreError(f"{key}: {error.strerror or error}") from error
