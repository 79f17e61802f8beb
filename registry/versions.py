"""Version labels: plain numbers (``1``, ``"1"``, ``"v1"``) and semantic versions (``"1.0.0"``, ``"v1.0.0"``); pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

import semver

from registry.errors import InvalidVersionError

VersionRef = int | str
"""How callers name a version: ``1 == "1" == "v1"``, ``"1.0.0" == "v1.0.0"``, and ``1 != "1.0.0"``."""

_NUMBER = re.compile(r"v?([1-9][0-9]{0,8})")  # not \d: digits of other scripts would be a second spelling of one number


class Strategy(StrEnum):
    """How a model numbers its versions; fixed by its first version."""

    AUTOMATIC = "automatic"
    SEMANTIC = "semantic"


class Bump(StrEnum):
    """Which part of the greatest semantic version to count up."""

    MAJOR = "major"
    MINOR = "minor"
    PATCH = "patch"


def canonical(version: VersionRef) -> str:
    """Return the one spelling under which two equal labels are equal: without the ``v``.

    Raises:
        InvalidVersionError: Neither a positive whole number nor a semantic version.

    Source: semver.org, Semantic Versioning 2.0.0.
    """
    text = str(version).strip() if not isinstance(version, bool) else repr(version)
    if number := _NUMBER.fullmatch(text):
        return number.group(1)
    bare = text[1:] if text[:1] in {"v", "V"} else text
    if semver.Version.is_valid(bare):
        return bare
    raise InvalidVersionError(
        f"{version!r} is no version: use a whole number from 1 (1, '1', 'v1') or a semantic version "
        f"('1.0.0', 'v1.2.0-rc.1')."
    )


def strategy_of(version: VersionRef) -> Strategy:
    """Return the strategy that a label belongs to."""
    return Strategy.AUTOMATIC if canonical(version).isdecimal() else Strategy.SEMANTIC


def label_of(version: VersionRef) -> str:
    """Return the label to keep: as it was given, a bare ``int`` in the form that automatic numbers have."""
    canonical(version)
    return f"v{version}" if isinstance(version, int) else version.strip()


def next_number(taken: Iterable[str]) -> str:
    """Return the label after the greatest number among the canonical labels ``taken``, reserved ones included."""
    # map and filter stay in C: with thousands of versions this is what a registration spends its time on.
    return f"v{max(map(int, filter(str.isdecimal, taken)), default=0) + 1}"


def next_semantic(taken: Iterable[str], bump: Bump) -> str:
    """Return the greatest semantic version of ``taken`` with ``bump`` counted up; ``1.0.0`` when there is none."""
    greatest = max((semver.Version.parse(label) for label in taken if not label.isdecimal()), default=None)
    if greatest is None:
        return "1.0.0"
    match bump:
        case Bump.MAJOR:
            return str(greatest.bump_major())
        case Bump.MINOR:
            return str(greatest.bump_minor())
        case Bump.PATCH:
            return str(greatest.bump_patch())
