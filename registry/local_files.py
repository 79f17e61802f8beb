"""A version's files on this machine: where they lie, if the store is here, else verified copies.

What is guaranteed against a change between the check and the use:
- A copy holds the very bytes that were hashed, in a folder of the user's own.
- A memory map is of the very file that was hashed: another file put in its place changes nothing.
- Files used where they lie were hashed there, and are opened again, by their path, by what reads them. Whoever may
  write to the registry's folder could change them in between: give that right to nobody whom you do not trust, or
  ``download`` to a folder of your own.
modelway never writes to a file that is there: a mapping changes, or its reader dies of SIGBUS, only if others do.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.artifacts import digest_of_file, fetch, only_file, verify
from registry.errors import IntegrityError, StoreError
from registry.progress import Advance, track
from registry.records import FileEntry, Manifest
from registry.store import ModelStore
from registry.store.contract import CHUNK_BYTES, check_key


def in_place(store: ModelStore, folder: str, manifest: Manifest, *, title: str) -> Path | None:
    """Return the version's own folder in the registry, its files verified; None where they cannot be used there.

    They cannot where the store does not lie on this machine, or where a file is a link, also a hard one, whose content
    others change under its other name; readers of ONNX weights follow both. The files that modelway writes have one
    name. The folder holds other files too, and nothing may be written to it.

    Raises:
        IntegrityError: A file is missing or its bytes are not those recorded.
    """
    top = store.local_path(folder)
    if top is None or not all(_has_one_name(top / check_key(entry.path)) for entry in manifest.files):
        return None
    verify(store, folder, manifest, title=title)
    return top


def cached(store: ModelStore, folder: str, manifest: Manifest, cache: Path, *, title: str) -> Path:
    """Return a folder below ``cache`` that holds the files, verified now, and no others.

    It is named by the manifest's digest. One that was changed, or that files were added to, is made anew: built aside
    and renamed, by one process or thread at a time, so that nobody sees a part of it.

    Raises:
        IntegrityError: A file is missing in the store or its bytes are not those recorded.
    """
    place = cache / manifest.digest.removeprefix("sha256:")
    if _holds_exactly(place, manifest):
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(place.with_suffix(".lock")):
        if not _holds_exactly(place, manifest):  # somebody else may have been waited for
            with tempfile.TemporaryDirectory(prefix=".tmp-", dir=cache, ignore_cleanup_errors=True) as aside:
                new = fetch(store, folder, manifest, Path(aside, "new"), title=title)
                if os.path.lexists(place):
                    place.rename(Path(aside, "old"))
                new.rename(place)
    return place


def mapped(store: ModelStore, folder: str, manifest: Manifest, cache: Path, *, title: str) -> memoryview:
    """Return the one file's bytes, read-only, mapped into memory, the mapped file verified.

    Raises:
        InvalidInputError: The artifact has more than one file.
        IntegrityError: The file is missing or its bytes are not those recorded.
    """
    entry = only_file(manifest)
    key = f"{folder}/{check_key(entry.path)}"
    here = store.local_path(key)
    with track(title, entry.size_bytes, "bytes") as advance:
        if here is not None and _has_one_name(here):
            return _map(here, entry, store.address(key), advance)
        copy = cache / manifest.digest.removeprefix("sha256:") / entry.path
        try:
            return _map(copy, entry, str(copy), advance)
        except IntegrityError:
            cached(store, folder, manifest, cache, title="")
        return _map(copy, entry, str(copy), lambda _amount: None)


def _map(path: Path, entry: FileEntry, where: str, advance: Advance) -> memoryview:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            # Mapped first: what is hashed is the very file that is mapped, whatever gets its name meanwhile. Reading is
            # faster than hashing over the map, whose every page would fault, and leaves the map's pages out of memory.
            empty = os.fstat(file.fileno()).st_size == 0  # which no system maps
            view = memoryview(b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            while piece := file.read(CHUNK_BYTES):
                digest.update(piece)
                advance(len(piece))
    except FileNotFoundError:
        raise IntegrityError(where, entry.sha256, "no such file") from None
    except OSError as error:
        raise StoreError(f"{where} cannot be mapped into memory: {error.strerror or error}") from error
    if (found := "sha256:" + digest.hexdigest()) != entry.sha256:
        raise IntegrityError(where, entry.sha256, found)
    return view


def _has_one_name(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return True  # what is wrong with it, its reader says better
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _holds_exactly(place: Path, manifest: Manifest) -> bool:
    try:
        files = {
            path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_symlink() or not path.is_dir()
        }
        return files == {entry.path for entry in manifest.files} and all(
            _has_one_name(place / entry.path) and digest_of_file(place / entry.path) == entry.sha256
            for entry in manifest.files
        )
    except FileNotFoundError:  # it is being put there, or away
        return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
