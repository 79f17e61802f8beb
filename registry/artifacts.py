"""The bytes of a version: hashed while they stream, created exclusively, verified whenever they are read."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from registry.encoding import canonical_json, digest_of
from registry.errors import ArtifactNotFoundError, IntegrityError, InvalidInputError
from registry.parallel import each
from registry.progress import Advance, track
from registry.records import Artifact, FileEntry, Manifest
from registry.store import AlreadyExistsError, ModelStore
from registry.store.contract import CHUNK_BYTES, check_key

BYTES_NAME = "artifact.bin"
"""The name of the one file of an artifact that was given as bytes."""

_LARGE_BYTES = 8 << 20
_LARGE_AT_ONCE = 4
"""Each large file on its way holds some pieces in memory: with 8 at once on S3 they came to 230 MB."""

_OURS = {"metadata.json", "status.json", "variants"}


@dataclass(frozen=True)
class Source:
    """One file to store: its name below the version's folder, its size, and how to read it (again, if need be)."""

    name: str
    size_bytes: int
    open: Callable[[], Iterator[bytes]]


def from_bytes(data: bytes, name: str = BYTES_NAME) -> list[Source]:
    """Return the source of an artifact that is given as bytes."""
    return [Source(name, len(data), lambda: iter([data]))]


def from_path(path: str | os.PathLike[str]) -> list[Source]:
    """Return the sources of a file, or of all files below a folder, in order of their names.

    Raises:
        ArtifactNotFoundError: There is nothing at ``path``, or only an empty folder.
        InvalidInputError: A link in a folder, a device or pipe, or a name that modelway keeps for its own files.
    """
    top = Path(path)
    if not top.exists():
        raise ArtifactNotFoundError(
            f"there is no file or folder at {top} (looked in {Path.cwd()}); give the path of what was trained."
        )
    if not top.is_dir():
        return [from_file(top.resolve(), top.name)]  # a link that the caller named is meant; one inside a folder is not
    files = sorted(found for found in top.rglob("*") if found.is_symlink() or not found.is_dir())
    if not files:
        raise ArtifactNotFoundError(f"the folder {top} holds no files; there is nothing to register.")
    return [from_file(file, file.relative_to(top).as_posix()) for file in files]


def from_file(file: Path, name: str) -> Source:
    """Return the source of one file, to be stored under ``name``.

    Raises:
        InvalidInputError: A link, a device or pipe, or a name that modelway keeps for its own files.
    """
    if not stat.S_ISREG(file.lstat().st_mode):
        raise InvalidInputError(
            f"{file} is a link, device or pipe, and its content would not be its own: copy the file in its place."
        )
    check_key(name)
    if PurePosixPath(name).parts[0] in _OURS or PurePosixPath(name).name.startswith(".tmp-"):
        raise InvalidInputError(
            f"{file}: {name!r} is a name that modelway keeps for its own files beside the artifact; rename it."
        )
    return Source(name, file.stat().st_size, lambda: _read_file(file))


def _read_file(file: Path) -> Iterator[bytes]:
    with file.open("rb") as handle:
        while piece := handle.read(CHUNK_BYTES):
            yield piece


def entry_of(path: str, data: bytes) -> FileEntry:
    """Return the entry of a file with these bytes."""
    return FileEntry(path=path, sha256=digest_of(data), size_bytes=len(data))


def manifest_of(entries: Iterable[FileEntry]) -> Manifest:
    """Return the manifest of these files; its digest is the sha256 of their sorted list as canonical JSON."""
    files = tuple(sorted(entries, key=lambda entry: entry.path))
    digest = digest_of(canonical_json([entry.model_dump(mode="json") for entry in files]))
    return Manifest(digest=digest, size_bytes=sum(entry.size_bytes for entry in files), files=files)


def summary(manifest: Manifest | None) -> Artifact | None:
    """Return what a version's state keeps of its manifest."""
    if manifest is None:
        return None
    return Artifact(digest=manifest.digest, size_bytes=manifest.size_bytes, files=len(manifest.files))


def upload(store: ModelStore, folder: str, sources: list[Source], *, title: str) -> Manifest:
    """Create the files below ``folder``, hashing them as they stream, and return their manifest.

    As many files are on their way at once as the store says pay off (``parallel``), in pieces: memory does not grow
    with their sizes. A file that is there already is kept if its bytes are the same: an earlier try put it there.

    Raises:
        AlreadyExistsError: A file is there with other bytes.
        StoreError: The storage refused or did not answer.
    """

    def one(source: Source, advance: Advance) -> FileEntry:
        return _upload_one(store, f"{folder}/{source.name}", source, advance)

    with track(title, sum(source.size_bytes for source in sources), "bytes") as advance:
        return manifest_of(each(one, sources, advance, at_once=_at_once(store, sources)))


def _at_once(store: ModelStore, files: Sequence[Source | FileEntry]) -> int:
    large = any(file.size_bytes > _LARGE_BYTES for file in files)
    return min(store.parallel, _LARGE_AT_ONCE) if large else store.parallel


def _upload_one(store: ModelStore, key: str, source: Source, advance: Advance) -> FileEntry:
    hashed = _Hashed(source.open(), advance)
    try:
        store.upload(key, iter(hashed))
    except AlreadyExistsError:
        hashed.finish()
        # Twice: a read that was cut short looks like other bytes, and would cost the label.
        if all(_Hashed(store.chunks(key)).finish().digest != hashed.digest for _ in range(2)):
            raise
    return FileEntry(path=source.name, sha256=hashed.digest, size_bytes=hashed.size_bytes)


class _Hashed:
    """Pieces on their way somewhere; counts and hashes what has passed."""

    def __init__(self, pieces: Iterator[bytes], advance: Advance | None = None) -> None:
        self._pieces, self._advance = pieces, advance
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._sha256.update(piece)
            self.size_bytes += len(piece)
            yield piece
            if self._advance:
                self._advance(len(piece))

    def finish(self) -> _Hashed:
        for _ in self:
            pass
        return self

    @property
    def digest(self) -> str:
        return "sha256:" + self._sha256.hexdigest()

    def check(self, where: str, entry: FileEntry) -> None:
        if self.digest != entry.sha256:
            raise IntegrityError(where, entry.sha256, self.digest)


def read_one(store: ModelStore, folder: str, manifest: Manifest) -> bytes:
    """Return the bytes of an artifact of one file, verified.

    Raises:
        InvalidInputError: It has more than one file.
        IntegrityError: The file is missing or its bytes are not those recorded.
    """
    entry = only_file(manifest)
    key = f"{folder}/{entry.path}"
    if store.local_path(key) is None:
        data = io.BytesIO()  # unlike b"".join it does not hold the pieces and the whole at one time
        hashed = _open(store, key, entry)
        data.writelines(hashed)
        hashed.check(store.address(key), entry)
        return data.getvalue()
    try:
        whole = store.read(key)
    except FileNotFoundError:
        raise _missing(store, key, entry) from None
    if (found := digest_of(whole)) != entry.sha256:
        raise IntegrityError(store.address(key), entry.sha256, found)
    return whole


def only_file(manifest: Manifest) -> FileEntry:
    """Return the one file of an artifact.

    Raises:
        InvalidInputError: It has more.
    """
    if len(manifest.files) != 1:
        names = ", ".join(entry.path for entry in manifest.files[:5])
        raise InvalidInputError(
            f"this artifact has {len(manifest.files)} files ({names}), not one: use download to get them all."
        )
    return manifest.files[0]


def verify(store: ModelStore, folder: str, manifest: Manifest, *, title: str) -> None:
    """Read the files where they lie and compare their digests with the recorded ones.

    Raises:
        IntegrityError: A file is missing or its bytes are not those recorded.
    """
    with track(title, manifest.size_bytes, "bytes") as advance:
        for entry in manifest.files:
            key = f"{folder}/{check_key(entry.path)}"
            _open(store, key, entry, advance).finish().check(store.address(key), entry)


def fetch(store: ModelStore, folder: str, manifest: Manifest, to: Path, *, title: str) -> Path:
    """Copy the files into the folder ``to``, verified before they are given their names; return ``to``.

    Files that are there with the same bytes stay. As many are on their way at once as pay off, in pieces.

    Raises:
        IntegrityError: A file is missing or its bytes are not those recorded; nothing of it is left in ``to``.
        InvalidInputError: ``to`` is a file, or holds a file or folder of that name with another content.
    """
    if to.exists() and not to.is_dir():
        raise InvalidInputError(f"{to} is a file, and a folder is asked for: give another path.")

    def one(entry: FileEntry, advance: Advance) -> None:
        _fetch_one(store, f"{folder}/{check_key(entry.path)}", entry, to / entry.path, advance)

    with track(title, manifest.size_bytes, "bytes") as advance:
        each(one, manifest.files, advance, at_once=_at_once(store, manifest.files))
    return to


def _fetch_one(store: ModelStore, key: str, entry: FileEntry, target: Path, advance: Advance) -> None:
    if target.exists():
        if target.is_dir() or digest_of_file(target) != entry.sha256:
            raise InvalidInputError(
                f"{target} exists with another content and is not overwritten: give an empty folder, or remove it."
            )
        advance(entry.size_bytes)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=target.parent)
    try:
        hashed = _open(store, key, entry, advance)
        with os.fdopen(handle, "wb") as file:
            file.writelines(hashed)
            os.fchmod(file.fileno(), 0o644)  # mkstemp gives 0600, and what was downloaded may be served by another user
        hashed.check(store.address(key), entry)
        Path(temporary).replace(target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def digest_of_file(path: Path) -> str:
    """Return ``sha256:`` and the hexadecimal digest of a file's bytes."""
    return _Hashed(_read_file(path)).finish().digest


def _open(store: ModelStore, key: str, entry: FileEntry, advance: Advance | None = None) -> _Hashed:
    return _Hashed(_present(store, key, entry), advance)


def _present(store: ModelStore, key: str, entry: FileEntry) -> Iterator[bytes]:
    try:
        yield from store.chunks(key)
    except FileNotFoundError:
        raise _missing(store, key, entry) from None


def _missing(store: ModelStore, key: str, entry: FileEntry) -> IntegrityError:
    return IntegrityError(store.address(key), entry.sha256, "no such file")
