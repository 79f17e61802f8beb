"""Zip archives (``.pt``, ``.pt2``, ``.npz``, ``.keras``, ``.skops``), looked at before any library opens them.

A library trusts the list of members at the end of the file. Here that list must agree with what stands before each
member, name every file once, and stay within bounds; so whoever reads it next sees what was checked.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path, PurePosixPath

from registry.errors import RefusedError

MOST_MEMBERS = 100_000
LARGEST_RATIO = 100
"""A member may inflate to this many times its size; weights, JSON and HDF5 stay below 20."""
_FREE_BYTES = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_PLAIN_FLAGS = 0x2 | 0x4 | 0x8 | 0x800
"""How it was deflated, that its size follows it, and that its name is UTF-8; others mean encryption and patches."""


def check_archive(file: Path, *, compressed: bool = False) -> list[zipfile.ZipInfo]:
    """Return the members of a zip archive that is safe to be read by anybody.

    Args:
        file: The archive.
        compressed: Whether deflated members are allowed; they may inflate to 100 times their size (1 MiB always).

    Raises:
        RefusedError: It is no archive; a name is absolute, has ``..`` in it or comes twice; a member is a link, is
            encrypted, overlaps another, is not where the list says, or inflates too far.
        FileNotFoundError: There is no such file.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members, end = archive.infolist(), archive.start_dir
            _check_end(file, archive)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, UnicodeDecodeError):
        raise refused(file, "it is no archive (zip) that can be read") from None
    if not 0 < len(members) <= MOST_MEMBERS:
        raise refused(file, f"it lists {len(members) or 'no'} members, and 1 to {MOST_MEMBERS} are read")
    names: set[str] = set()
    for member in members:
        _check_member(file, member, compressed=compressed)
        if member.filename.casefold() in names:
            raise refused(file, f"it holds {member.filename!r} twice, and readers differ in which of them they take")
        names.add(member.filename.casefold())
    _check_places(file, members, end)
    return members


def refused(file: Path, why: str) -> RefusedError:
    """Return the refusal of an archive."""
    return RefusedError(
        f"{file} was not loaded: {why}. Save the model again with the framework's own function, and register that file."
    )


def _check_end(file: Path, archive: zipfile.ZipFile) -> None:
    """Refuse bytes after the list of members: other readers look for its end from the back, and find another."""
    if archive.comment:
        raise refused(file, "it has a comment after its list of members, where a second list can hide")


def _check_member(file: Path, member: zipfile.ZipInfo, *, compressed: bool) -> None:
    name, path = member.filename, PurePosixPath(member.filename)
    # orig_filename is what stands in the file: zipfile itself cuts names at a NUL.
    if member.orig_filename != name or not name.isprintable() or "\\" in name or ":" in name:
        raise refused(file, f"the name of its member {member.orig_filename!r} has characters that no file has")
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise refused(file, f"its member {name!r} would lie outside the folder that it is unpacked in")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise refused(file, f"its member {name!r} is a link")
    if member.flag_bits & ~_PLAIN_FLAGS:
        raise refused(file, f"its member {name!r} is encrypted, or a patch")
    stored = member.compress_type == zipfile.ZIP_STORED
    if stored and member.file_size == member.compress_size:
        return
    if stored or not compressed or member.compress_type != zipfile.ZIP_DEFLATED:
        raise refused(
            file, f"its member {name!r} would inflate to {member.file_size} bytes from {member.compress_size}; "
            "files of this kind are not compressed"
        )  # fmt: skip
    if member.file_size > max(_FREE_BYTES, LARGEST_RATIO * member.compress_size):
        raise refused(
            file, f"its member {name!r} would inflate from {member.compress_size} bytes to {member.file_size}"
        )


def _check_places(file: Path, members: list[zipfile.ZipInfo], end: int) -> None:
    """Refuse members that share bytes (a bomb of a few kB inflates without bound), or are others at their place."""
    ordered = sorted(members, key=lambda member: member.header_offset)
    with file.open("rb") as data:
        for member, limit in zip(ordered, [*(one.header_offset for one in ordered[1:]), end], strict=True):
            data.seek(max(0, member.header_offset))
            header = data.read(_LOCAL_HEADER.size)
            if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
                raise refused(file, f"its member {member.filename!r} is not where its list of members says")
            _, _, _, method, _, _, _, _, _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
            name = data.read(name_bytes)
            if name != _encoded(member) or method != member.compress_type:
                raise refused(file, f"its member {member.filename!r} has another name or form at its place: {name!r}")
            if member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes + member.compress_size > limit:
                raise refused(file, f"its member {member.filename!r} overlaps what comes after it")
    if ordered[0].header_offset != 0:
        raise refused(file, "something stands before its first member")


def _encoded(member: zipfile.ZipInfo) -> bytes:
    utf8 = 0x800
    return member.orig_filename.encode("utf-8" if member.flag_bits & utf8 else "cp437")
