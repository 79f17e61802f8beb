"""Version labels: plain numbers (``1``, ``"1"``, ``"v1"``) and semantic versions (``"1.0.0"``, ``"v1.0.0"``); pure.

Two labels are one version when nothing orders them: build metadata has no part in the order of semantic versions, so
``1.0.0+cpu`` and ``1.0.0+gpu`` are both ``1.0.0``, and a model holds only one of them. "Greatest" is by that order;
"latest" is by registration, and no business of this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

from registry.errors import InvalidVersionError
from registry.names import near

if TYPE_CHECKING:
    import semver

VersionRef = int | str
"""How callers name a version: ``1 == "1" == "v1"``, ``"1.0.0" == "v1.0.0"``, and ``1 != "1.0.0"``."""

_NUMBER = re.compile(
    r"[vV]?([1-9][0-9]{0,8})"
)  # not \d: digits of other scripts would be a second spelling of one number
_LONGEST = 64  # a label is part of a file's name, and of a table's row


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
    """Return the one spelling under which two equal labels are equal: without the ``v`` and without build metadata.

    Raises:
        InvalidVersionError: Neither a positive whole number nor a semantic version, or longer than 64 characters.

    Source: semver.org, Semantic Versioning 2.0.0; its item 10 leaves build metadata out of precedence.
    """
    text = repr(version) if isinstance(version, bool) else str(version).strip()
    if number := _NUMBER.fullmatch(text):
        return number.group(1)
    import semver  # with a parser of arguments of its own: plain numbers go without it

    bare = text[1:] if text[:1] in {"v", "V"} else text
    if len(text) <= _LONGEST and semver.Version.is_valid(bare):
        return bare.partition("+")[0]
    raise InvalidVersionError(
        f"{_short(version)} is no version: use a whole number from 1 (1, '1', 'v1') or a semantic version "
        f"('1.0.0', 'v1.2.0-rc.1') of at most {_LONGEST} characters."
    )


def strategy_of(version: VersionRef) -> Strategy:
    """Return the strategy that a label belongs to."""
    return Strategy.AUTOMATIC if canonical(version).isdecimal() else Strategy.SEMANTIC


def label_of(version: VersionRef) -> str:
    """Return the label to keep: as it was given, a bare whole number in the form that automatic numbers have."""
    canonical(version)
    return version.strip() if isinstance(version, str) else f"v{version}"


def precedence(version: VersionRef) -> semver.Version:
    """Return what orders labels of one model, the greatest last; plain numbers order like major versions.

    Source: semver.org, Semantic Versioning 2.0.0, item 11: a pre-release comes before its release.
    """
    import semver

    key = canonical(version)
    return semver.Version(int(key)) if key.isdecimal() else semver.Version.parse(key)


def next_number(taken: Iterable[str]) -> str:
    """Return the label after the greatest number among the canonical labels ``taken``, reserved ones included."""
    # map and filter stay in C: with thousands of versions this is what a registration spends its time on.
    return f"v{max(map(int, filter(str.isdecimal, taken)), default=0) + 1}"


def next_semantic(taken: Iterable[str], bump: Bump) -> str:
    """Return the label that follows the greatest semantic version of ``taken``; ``1.0.0`` when there is none.

    A pre-release is on its way to a release, and a bump that the release already stands for leads there: after
    ``2.0.0-rc.1`` major, minor and patch all give ``2.0.0``, after ``1.3.0-rc.1`` minor and patch give ``1.3.0`` and
    major ``2.0.0``. So it is in npm and in python-semver; counting on to ``2.0.1`` would leave ``2.0.0`` out for ever.
    """
    greatest = max((precedence(label) for label in taken if not label.isdecimal()), default=None)
    return "1.0.0" if greatest is None else str(greatest.next_version(bump.value))


def near_labels(version: VersionRef, known: Iterable[str]) -> tuple[str, ...]:
    """Return up to three known labels that may be meant by one that is not there, the closest first.

    A plain number may be meant for the semantic versions that begin with it: ``1`` is not ``1.0.0``.
    """
    labels = list(known)
    asked = str(version).strip().removeprefix("v")
    begun = [label for label in labels if canonical(label).startswith(f"{asked}.")]
    return tuple(dict.fromkeys([*begun[::-1], *near(str(version), labels)]))[:3]


def _short(version: object) -> str:
    if isinstance(version, str) and len(version) > _LONGEST:
        return f"{version[:_LONGEST]!r}..."
    return repr(version)
