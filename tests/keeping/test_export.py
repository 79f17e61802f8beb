"""What is exported comes back with equal digests, and nothing that was put between comes with it."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

import pytest

from registry import InMemoryModelStore, ModelRegistry, ModelStore
from registry.errors import (
    FormatError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StoreError,
    VersionExistsError,
    VersionNotFoundError,
)

Unchanged: TypeAlias = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def other() -> ModelRegistry:
    """Return another registry, empty."""
    return ModelRegistry(store=InMemoryModelStore(), actor="bob")


@pytest.fixture
def archive(models: ModelRegistry, tmp_path: Path) -> Path:
    """Return an archive of all versions of ``digits``."""
    models.export("digits", to=tmp_path / "digits.tar")
    return tmp_path / "digits.tar"


@pytest.mark.parametrize("name", ["exported", "exported.tar"])
def test_what_was_exported_comes_back_with_equal_digests(
    models: ModelRegistry, other: ModelRegistry, tmp_path: Path, name: str, nothing_changes: Unchanged
) -> None:
    with nothing_changes():
        exported = models.export("digits", to=tmp_path / name)
    imported = other.import_(tmp_path / name)
    versions = models.list_versions("digits")
    for there in (exported, imported):
        assert [one.full_name for one in there] == [one.full_name for one in versions]
        assert [one.artifact for one in there] == [one.artifact for one in versions]
        assert [one.metrics for one in there] == [one.metrics for one in versions]
        assert [one.variants for one in there] == [one.variants for one in versions]
    assert [one.metadata_digest for one in imported] == [one.metadata_digest for one in other.list_versions("digits")]
    assert [other.load_artifact("digits", number) for number in (1, 2, 3)] == [
        b"weights of v1",
        b"weights of v2",
        b"weights of v3",
    ]
    assert other.verify().ok
    assert [one.ordinal for one in other.import_(tmp_path / name)] == [1, 2, 3]


def test_one_version_is_exported_and_what_is_exported_later_is_added_to_a_folder(
    models: ModelRegistry, tmp_path: Path
) -> None:
    folder = tmp_path / "some" / "where"
    assert [one.version for one in models.export("digits", 3, to=folder)] == ["v3"]
    assert [one.version for one in models.export("digits@champion", to=folder, variants=False)] == ["v2"]
    there = ModelRegistry(folder)
    assert [(one.version, one.variants) for one in there.list_versions("digits")] == [("v3", ()), ("v2", ())]
    assert there.verify().ok


def test_an_archive_is_a_plain_tar_that_says_nothing_of_who_made_it(archive: Path) -> None:
    with tarfile.open(archive, "r:") as packed:
        members = packed.getmembers()
    assert "registry.json" in {member.name for member in members}
    assert {(member.uid, member.gid, member.uname, member.gname, member.mode) for member in members} == {
        (0, 0, "", "", 0o644)
    }
    assert sorted(path.name for path in archive.parent.iterdir() if path.name.startswith(".tmp")) == []


def test_an_archive_is_never_overwritten(models: ModelRegistry, archive: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(InvalidInputError, match="is there already and is not overwritten"):
        models.export("digits", 1, to=archive)
    assert archive.read_bytes() == before


def test_a_folder_that_holds_something_else_is_refused(models: ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home" / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="holds something else than a registry"):
        models.export("digits", to=tmp_path / "home")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["notes.txt"]


def test_what_is_not_there_is_not_exported_and_leaves_nothing(models: ModelRegistry, tmp_path: Path) -> None:
    for place in ("out", "out.tar"):
        with pytest.raises(VersionNotFoundError):
            models.export("digits", 9, to=tmp_path / place)
        assert not (tmp_path / place).exists()


def test_a_damaged_version_leaves_no_archive(models: ModelRegistry, store: ModelStore, tmp_path: Path) -> None:
    store.replace("models/digits/versions/v2/artifact.bin", b"?")
    (tmp_path / "out").mkdir()
    with pytest.raises(IntegrityError):
        models.export("digits", to=tmp_path / "out" / "digits.tar")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_whose_bytes_were_changed_is_not_imported(
    models: ModelRegistry, other: ModelRegistry, tmp_path: Path
) -> None:
    models.export("digits", 3, to=tmp_path / "out")
    (tmp_path / "out/models/digits/versions/v3/artifact.bin").write_bytes(b"evil weights!")
    with pytest.raises(IntegrityError, match=r"artifact\.bin"):
        other.import_(tmp_path / "out")
    assert other.list_models() == []


@pytest.mark.parametrize("kind", ["file", "folder", "pipe"])
def test_a_folder_with_a_link_or_pipe_in_it_is_not_imported(
    models: ModelRegistry, other: ModelRegistry, tmp_path: Path, kind: str
) -> None:
    models.export("digits", 3, to=tmp_path / "out")
    place = tmp_path / "out/models/digits/versions/v3/artifact.bin"
    secret = tmp_path / "secret"
    place.rename(secret)
    if kind == "file":
        place.symlink_to(secret)
    elif kind == "folder":
        (tmp_path / "out" / "extra").symlink_to("/etc")
    else:
        os.mkfifo(place)
    with pytest.raises(InvalidInputError, match="is a link, device or pipe"):
        other.import_(tmp_path / "out")
    assert other.store.list("") == []


def _with(archive: Path, member: tarfile.TarInfo, data: bytes) -> Path:
    """Return a copy of an archive with another member at its end."""
    made = archive.with_name("made.tar")
    with tarfile.open(archive, "r:") as old, tarfile.open(made, "w:") as new:
        for known in old:
            new.addfile(known, old.extractfile(known))
        new.addfile(member, io.BytesIO(data))
    return made


def _member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, data


@pytest.mark.parametrize(
    "member",
    [
        _member("models/digits/versions/v9/a", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        _member("models/digits/versions/v9/a", type=tarfile.LNKTYPE, linkname="registry.json"),
        _member("models/digits/versions/v9/a", type=tarfile.FIFOTYPE),
        _member("models/digits/versions/v9/a", type=tarfile.CHRTYPE),
        _member("../escaped", b"evil"),
        _member("models/../../escaped", b"evil"),
        _member("/tmp/escaped", b"evil"),  # noqa: S108 - the attack
        _member("models\\..\\escaped", b"evil"),
        _member("registry.json", b"{}"),
        _member("registry.json/deeper", b"{}"),
    ],
    ids=lambda member: f"{member[0].name} {member[0].type!r}",
)
def test_an_archive_that_reaches_elsewhere_is_refused(
    archive: Path, other: ModelRegistry, member: tuple[tarfile.TarInfo, bytes], tmp_path: Path
) -> None:
    made = _with(archive, *member)
    around = {path for path in tmp_path.rglob("*") if "escaped" in path.name}
    with pytest.raises((InvalidInputError, StoreError)):
        other.import_(made)
    assert other.store.list("") == []
    assert {path for path in tmp_path.rglob("*") if "escaped" in path.name} == around
    assert not Path("/tmp/escaped").exists()  # noqa: S108 - the attack


def test_an_archive_that_was_cut_short_or_packed_otherwise_is_refused(archive: Path, other: ModelRegistry) -> None:
    data = archive.read_bytes()
    cut = {f"cut-{length}.tar": data[:length] for length in range(100, len(data) - 11_000, 700)}
    for name, bad in {**cut, "zipped.tar": gzip.compress(data), "no.tar": b"?", "empty.tar": b""}.items():
        made = archive.with_name(name)
        made.write_bytes(bad)
        with pytest.raises((FormatError, NotFoundError)):
            other.import_(made)
    assert other.store.list("") == []


def test_a_place_without_a_registry_is_told(other: ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="there is nothing at"):
        other.import_(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="holds no registry"):
        other.import_(tmp_path / "empty")


def test_a_label_that_is_taken_stops_an_import_and_nothing_is_written_over(archive: Path, other: ModelRegistry) -> None:
    other.register("digits", b"mine", version="v2")
    with pytest.raises(VersionExistsError, match="digits:v2"):
        other.import_(archive)
    assert other.load_artifact("digits", 2) == b"mine"
    assert other.verify().ok
