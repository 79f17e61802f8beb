"""The grammar of names: safe as an object key, a Triton directory, a Vertex id, a URL part, a path; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from registry.errors import InvalidNameError
from registry.stages import ModelStage

_LONGEST = 63
_NAME = re.compile(r"[a-z](?:[a-z0-9]|[-_](?=[a-z0-9])){0,62}")
_LOOKS_LIKE_A_VERSION = re.compile(r"v?[0-9]+")
_WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_ROUTE_WORDS = {"latest", "models", "versions", "endpoints", "approvals", *ModelStage}


def check_name(name: str, *, kind: str = "model") -> str:
    """Return ``name`` if it is within the grammar.

    Args:
        name: 1 to 63 characters: lower-case letters, digits, single ``-`` or ``_`` between them, a letter first.
        kind: What the name is for; stands in the message.

    Raises:
        InvalidNameError: It is outside the grammar, a device name of Windows, or a word that modelway itself uses.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidNameError(
            f"{name!r} cannot be {_with_article(kind)} name: use 1 to 63 lower-case letters, digits, and single - or _ "
            f"between them, beginning with a letter.{_mend(name, kind)}"
        )
    if _means_something_else(name):
        raise InvalidNameError(
            f"{name!r} cannot be {_with_article(kind)} name: it would be read as a version, a stage, a route or a "
            f"device.{_mend(name, kind)}"
        )
    return name


def look_alike(name: str, taken: Iterable[str]) -> str | None:
    """Return the taken name that differs from ``name`` only in ``-`` against ``_``, or None."""
    folded = name.replace("-", "_")
    return next((other for other in taken if other != name and other.replace("-", "_") == folded), None)


def near(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return up to three known names that are close to ``name`` and not ``name`` itself, the closest first."""
    import difflib  # only for what was mistyped

    others = [other for other in known if other != name]
    return tuple(difflib.get_close_matches(str(name), others, n=3, cutoff=0.6))


def _with_article(kind: str) -> str:
    return f"{'an' if kind.startswith(tuple('aeiou')) else 'a'} {kind}"


def _means_something_else(name: str) -> bool:
    return bool(_LOOKS_LIKE_A_VERSION.fullmatch(name)) or name in _ROUTE_WORDS or name in _WINDOWS_DEVICES


def _mend(name: object, kind: str) -> str:
    """Return a sentence with a name that would be accepted, or nothing where there is none close by."""
    if not isinstance(name, str):
        return ""
    words = re.sub(r"[^a-z0-9_-]+", "-", name.lower())
    candidate = re.sub(r"[-_]{2,}", "-", words)[:_LONGEST].rstrip("-_").lstrip("-_0123456789")
    if _means_something_else(candidate):
        candidate = f"{candidate[: _LONGEST - len(kind) - 1]}-{kind}"
    return f" {candidate!r} would do." if _NAME.fullmatch(candidate) else ""
