"""Exporting versions to a folder or an archive, and bringing them back: what is exported is a registry of its own."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from registry.copying import Copying
from registry.errors import FormatError, InvalidInputError, ModelNotFoundError, NotFoundError, StoreError
from registry.records import ModelVersion
from registry.store import AlreadyExistsError, FileModelStore
from registry.store.contract import CHUNK_BYTES
from registry.versions import VersionRef

if TYPE_CHECKING:
    import tarfile

_ARCHIVE = ".tar"


class Exporting(Copying):
    """The verbs that take versions out of a registry and bring them into another, by way of a file or folder."""

    def export(
        self,
        name: str,
        version: VersionRef | None = None,
        *,
        to: str | os.PathLike[str],
        variants: bool = True,
    ) -> list[ModelVersion]:
        """Copy versions into a folder, or into an archive if ``to`` ends in ``.tar``; ``import_`` takes either.

        The folder is a registry like any other, so it can be looked at, verified, and exported to again: then versions
        are added. An archive is such a folder, packed; it is never overwritten, and is there whole or not at all.

        Args:
            name: The model, or ``name@alias``.
            version: Number, label or alias; all versions of the model without it.
            to: The folder or archive.
            variants: Export the engines that are kept beside them too.

        Returns:
            The versions as they stand in what was exported, in order of registration.

        Raises:
            ModelNotFoundError, VersionNotFoundError: There is no such version.
            InvalidInputError: The archive is there already, or the folder holds something else.
            IntegrityError: A byte is not what was recorded.
            StoreError: The disk is full, or may not be written.
        """
        place = Path(to)
        wanted = self._wanted(name, version)
        if place.suffix != _ARCHIVE:
            if place.is_dir() and any(place.iterdir()) and not (place / "registry.json").exists():
                raise InvalidInputError(f"{place} holds something else than a registry: give a new or empty folder.")
            return self._export(wanted, place, variants=variants)
        if os.path.lexists(place):
            raise InvalidInputError(
                f"{place} is there already and is not overwritten: give another name, or remove it."
            )
        with _written(place), tempfile.TemporaryDirectory(prefix=".tmp-", dir=place.parent) as scratch:
            exported = self._export(wanted, Path(scratch, "registry"), variants=variants)
            packed = Path(scratch, "packed")
            _pack(Path(scratch, "registry"), packed)
            os.link(packed, place)
        return exported

    def import_(self, source: str | os.PathLike[str], *, variants: bool = True) -> list[ModelVersion]:
        """Register all versions of a folder or archive that ``export`` wrote; ``copy`` says what goes with them.

        Nothing is believed: logs, sidecars and files are verified on their way as in any copy, links and files that
        are neither are refused, and an archive can write nowhere but into a folder of its own.

        Args:
            source: The folder or archive.
            variants: Import the engines that are kept beside them too.

        Returns:
            The versions as they stand here, by model and order of registration.

        Raises:
            NotFoundError: There is nothing, or no registry in it.
            InvalidInputError: It holds a link, or a file whose name leads elsewhere.
            FormatError: It is no archive, or a damaged one.
            IntegrityError: A byte is not what was recorded; what was imported before it stays.
            VersionExistsError: A label is taken by something else; what was imported before it stays.
        """
        with _opened(Path(source)) as folder:
            other = Copying(folder, actor=self.actor)
            found = [(name, one.version) for name in other.list_models() for one in _versions(other, name)]
            return [other.copy(name, version, to=self, variants=variants) for name, version in found]

    def _wanted(self, name: str, version: VersionRef | None) -> list[tuple[str, str]]:
        if version is None and "@" not in name:
            return [(name, one.version) for one in self.list_versions(name)]
        return [(name.partition("@")[0], self.get_model_metadata(name, version).version)]

    def _export(self, wanted: list[tuple[str, str]], place: Path, *, variants: bool) -> list[ModelVersion]:
        other = Copying(place, actor=self.actor)
        return [self.copy(name, version, to=other, variants=variants) for name, version in wanted]


def _versions(registry: Copying, name: str) -> list[ModelVersion]:
    try:
        return registry.list_versions(name)
    except ModelNotFoundError:  # all of its versions were deleted
        return []


def _pack(folder: Path, archive: Path) -> None:
    import tarfile

    with archive.open("xb") as file, tarfile.open(fileobj=file, mode="w") as packed:
        # Sorted, registry.json comes last: an archive that was cut between two files holds no registry.
        for path in sorted(found for found in folder.rglob("*") if found.is_file()):
            member = packed.gettarinfo(path, arcname=path.relative_to(folder).as_posix())
            member.uid = member.gid = 0  # who packed it is nobody's business
            member.uname = member.gname = ""
            member.mode = 0o644
            with path.open("rb") as content:
                packed.addfile(member, content)
        packed.close()
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _opened(place: Path) -> Iterator[Path]:
    """Give the folder of a registry that holds nothing but plain files."""
    if not place.exists():
        raise NotFoundError(f"there is nothing at {place} (looked in {Path.cwd()}).")
    with tempfile.TemporaryDirectory(prefix="modelway-") as scratch:
        if not place.is_dir():
            _unpack(place, scratch)
        folder = place if place.is_dir() else Path(scratch)
        _refuse_links(folder)
        if not (folder / "registry.json").is_file():
            raise NotFoundError(f"{place} holds no registry; `modelway models export` writes one.")
        yield folder


def _unpack(archive: Path, folder: str) -> None:
    """Write an archive's files below ``folder``: by their keys, so that none leads elsewhere and none overwrites.

    Only an archive that is not compressed is read: it holds no more bytes than it has.
    """
    import tarfile

    store = FileModelStore(folder)
    try:
        with tarfile.open(archive, "r:") as packed:
            for member in packed:
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise InvalidInputError(f"{archive} holds {member.name!r}, which is no plain file; it is refused.")
                store.upload(member.name, _pieces(packed, member))
    except AlreadyExistsError as error:
        raise InvalidInputError(f"{archive} holds one file twice; it is refused: {error}") from error
    except tarfile.TarError as error:
        raise FormatError(
            f"{archive} is no archive that `modelway models export` wrote, or a part of one: {error}."
        ) from error


def _pieces(packed: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    content = packed.extractfile(member)
    while content is not None and (piece := content.read(CHUNK_BYTES)):
        yield piece


def _refuse_links(folder: Path) -> None:
    for top, folders, files in os.walk(folder):
        for path in (Path(top, name) for name in (*folders, *files)):
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise InvalidInputError(f"{path} is a link, device or pipe, and its content would not be its own.")


@contextlib.contextmanager
def _written(place: Path) -> Iterator[None]:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        yield
    except FileExistsError as error:
        if place.exists():
            raise InvalidInputError(f"{place} was made by somebody else meanwhile, and is not overwritten.") from error
        raise StoreError(f"{place.parent} is a file, and a folder is needed: give another path.") from error
    except OSError as error:
        raise StoreError(f"{place}: {error.strerror or error}; nothing was exported.") from error
