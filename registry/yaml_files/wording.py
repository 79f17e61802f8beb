"""How mistakes in settings are told: where they are, what was found, what must stand there, what was meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from registry.errors import did_you_mean
from registry.names import near

Place = tuple[int | str, ...]
"""Keys and list positions, from the outermost."""

Problem = tuple[Place, str]
"""Where something is wrong, and what."""


_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a section",
}
_SHOWN = 60


def meant(word: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean ...?"`` with up to two known words that are close to ``word``, or nothing."""
    return did_you_mean(near(word, known)[:2])


def found(value: Any) -> str:
    """Return a value as it is shown in a message, with its kind in words."""
    if value is None:
        return "nothing"
    shown = repr(value)
    kind = _NAMES.get(type(value), type(value).__name__)
    return f"{shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + '...'} ({kind})"


def told(
    error: ValidationError,
    value: Any,
    keys_at: Callable[[Place], list[str]] = lambda _: [],
) -> list[Problem]:
    """Return what pydantic found wrong with ``value``, one problem for each place.

    Args:
        error: What pydantic raised.
        value: What it was given.
        keys_at: Gives the keys that may stand in the section at a place.
    """
    problems: dict[Place, list[str]] = {}
    for fault in error.errors(include_url=False):
        place = _place(value, fault)
        if fault["type"] == "extra_forbidden":
            what = _unknown(str(place[-1]), keys_at(place[:-1]))
        elif fault["type"] == "missing":
            what = "this key is missing: add it."
        else:
            what = _explained(fault)
        problems.setdefault(place, []).append(what)
    # The members of a union each have their own complaint about one value.
    return [(place, "; or it ".join(dict.fromkeys(words))) for place, words in problems.items()]


def _place(value: Any, fault: Mapping[str, Any]) -> Place:
    """Return where a fault is, without what pydantic adds to its place, as the names of a union's members."""
    place: list[int | str] = []
    for part in fault["loc"]:
        if isinstance(value, Mapping) and (part in value or fault["type"] == "missing"):
            value = value.get(part)
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            continue
        place.append(part)
    return tuple(place)


def _unknown(key: str, known: list[str]) -> str:
    return f"there is no such key: {key}.{meant(key, known)} The keys here are: {', '.join(known)}."


def _explained(fault: Mapping[str, Any]) -> str:
    message = str(fault["msg"])
    if fault["type"] in {"value_error", "assertion_error"}:
        return message.partition(", ")[2]
    if fault["type"] == "enum":
        # Two spellings of one member are listed twice.
        message = "must be one of " + ", ".join(dict.fromkeys(re.findall("'[^']*'", fault["ctx"]["expected"])))
    wanted = re.sub(r"^Input should be ", "must be ", message)
    return f"{wanted}; found {found(fault['input'])}.{_mend(fault)}"


def _mend(fault: Mapping[str, Any]) -> str:
    value, kind = fault["input"], fault["type"]
    if kind == "bool_type":
        return " Write true or false, without quotes."
    if kind in {"int_type", "float_type"} and isinstance(value, str) and re.fullmatch(r"[-+.\de]+", value.lower()):
        return " Write it without quotes."
    return " Put it in quotes." if kind == "string_type" and isinstance(value, int | float) else ""
