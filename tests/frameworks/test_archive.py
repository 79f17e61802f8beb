"""Archives that lie about what they hold are refused before any library opens them."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch

from registry.errors import RefusedError
from registry.frameworks import ModelFramework, load, read_samples
from registry.frameworks.archive import check_archive

Spoil: TypeAlias = Callable[[Path], None]
Open: TypeAlias = Callable[[Path], object]


def _numbers(file: Path) -> None:
    if file.suffix == ".npz":
        np.savez(file, inputs=np.ones((2, 3)), outputs=np.ones((2, 1)))
    else:
        torch.save({"w": torch.ones(300)}, file)


def _member(file: Path, name: str, *, mode: int = 0) -> None:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(entry, b"content")


def _twice(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        name = archive.namelist()[0]
    with pytest.warns(UserWarning, match="Duplicate name"):
        _member(file, name)


def _in_capitals_again(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        name = archive.namelist()[0]
    _member(file, name.upper())


def _deflated(file: Path) -> None:
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(1 << 24))


def _overlapping(file: Path) -> None:
    """Let the second entry of the list of members point at the bytes of the first one."""
    data = file.read_bytes()
    listed = data.index(b"PK\x01\x02")
    first = _entry_at(data, listed)
    second = listed + len(first)
    changed = bytearray(_entry_at(data, second))
    changed[42:46] = first[42:46]
    file.write_bytes(data[:second] + bytes(changed) + data[second + len(changed) :])


def _longer_than_its_place(file: Path) -> None:
    data = bytearray(file.read_bytes())
    listed = data.index(b"PK\x01\x02")
    sizes = struct.pack("<2L", len(data) // 2, len(data) // 2)
    data[listed + 20 : listed + 28] = sizes
    file.write_bytes(bytes(data))


def _renamed_at_its_place(file: Path) -> None:
    data = bytearray(file.read_bytes())
    (length,) = struct.unpack_from("<H", data, 26)
    data[30 : 30 + length] = b"x" * length
    file.write_bytes(bytes(data))


def _after_something(file: Path) -> None:
    file.write_bytes(b"#!/bin/sh\n" + file.read_bytes())


def _with_a_comment(file: Path) -> None:
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"more"


def _with_a_second_list(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"PK\x05\x06" + bytes(18))


def _encrypted(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(bytes(data))


def _cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def _entry_at(data: bytes, offset: int) -> bytes:
    name, extra, comment = struct.unpack_from("<3H", data, offset + 28)
    return data[offset : offset + 46 + name + extra + comment]


ATTACKS: dict[str, tuple[Spoil, str]] = {
    "a way out": (lambda file: _member(file, "../evil"), "would lie outside the folder"),
    "a way out on the way": (lambda file: _member(file, "a/../../evil"), "would lie outside the folder"),
    "an absolute name": (lambda file: _member(file, "/etc/passwd"), "would lie outside the folder"),
    "a Windows name": (lambda file: _member(file, "..\\evil"), "has characters that no file has"),
    "a drive": (lambda file: _member(file, "C:evil"), "has characters that no file has"),
    "a control character": (lambda file: _member(file, "evil\x1b[2J"), "has characters that no file has"),
    "a link": (lambda file: _member(file, "link", mode=0o120777), "is a link"),
    "a name twice": (_twice, "twice, and readers differ"),
    "a name in two cases": (_in_capitals_again, "twice, and readers differ"),
    "a bomb": (_deflated, "would inflate"),
    "members that overlap": (_overlapping, "another name or form at its place|overlaps what comes after it"),
    "a member too long": (_longer_than_its_place, "overlaps what comes after it"),
    "another name at its place": (_renamed_at_its_place, "another name or form at its place"),
    "something before it": (_after_something, "something stands before its first member"),
    "something after it": (_with_a_comment, "where a second list can hide"),
    "a second, empty list": (_with_a_second_list, "something stands before its first member|it lists no members"),
    "encryption": (_encrypted, "is encrypted"),
    "half of it": (_cut_off, "no archive"),
}


def _as_torch(folder: Path) -> object:
    return load(folder, framework=ModelFramework.PYTORCH, info={})


READERS: dict[str, Open] = {"model.pt": _as_torch, "model.pt2": _as_torch, "samples.npz": read_samples}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_archive_that_lies_is_refused_by_all_who_read_one(tmp_path: Path, name: str, attack: str) -> None:
    spoil, why = ATTACKS[attack]
    _numbers(tmp_path / name)
    check_archive(tmp_path / name)  # it was sound before
    spoil(tmp_path / name)
    with pytest.raises(RefusedError, match=why):
        READERS[name](tmp_path)
    with pytest.raises(RefusedError, match=why):
        check_archive(tmp_path / name)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_archive_that_may_be_compressed_is_held_to_the_same_rules(tmp_path: Path, attack: str) -> None:
    spoil, why = ATTACKS[attack]
    file = tmp_path / "model.keras"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("config.json", "weights.h5"):
            archive.writestr(name, np.random.default_rng(1).bytes(100_000))
    assert [member.filename for member in check_archive(file, compressed=True)] == ["config.json", "weights.h5"]
    spoil(file)
    with pytest.raises(RefusedError, match=why):
        check_archive(file, compressed=True)


def test_a_small_bomb_of_many_kinds_of_reader_inflates_nothing(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(1 << 28))
    (tmp_path / "model.keras").write_bytes(packed.getvalue())
    assert len(packed.getvalue()) < 300_000
    with pytest.raises(RefusedError, match=r"would inflate from \d+ bytes to 268435456"):
        check_archive(tmp_path / "model.keras", compressed=True)
