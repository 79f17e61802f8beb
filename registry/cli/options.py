"""The arguments and options that more than one verb takes, each with its help; and what their text means."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.cli import completing
from registry.errors import InvalidInputError

Context = typer.Context

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The model.", show_default=False, autocompletion=completing.models)
]
NameAtAlias = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The model, or NAME@ALIAS.", show_default=False, autocompletion=completing.models
    ),
]
Version = Annotated[
    str,
    typer.Argument(
        metavar="VERSION",
        help="A version (1, v1, 1.2.0) or an alias.",
        show_default=False,
        autocompletion=completing.versions,
    ),
]
MaybeVersion = Annotated[
    str | None,
    typer.Argument(
        metavar="VERSION",
        help="A version (1, v1, 1.2.0) or an alias.",
        show_default=False,
        autocompletion=completing.versions,
    ),
]
VersionOption = Annotated[
    str | None,
    typer.Option(
        "--version",
        metavar="V",
        help="A version (1, v1, 1.2.0) or an alias.",
        autocompletion=completing.versions,
    ),
]
StageOption = Annotated[
    str | None,
    typer.Option(
        "--stage",
        metavar="S",
        help="In this stage: development, validation, staging, production or archived.",
        autocompletion=completing.stages,
    ),
]
Reason = Annotated[str, typer.Option("--reason", metavar="R", help="Why; kept in the history.", show_default=False)]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", metavar="K=V", help="A measured number; may be repeated.")
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="K[=V]", help="A tag, a word or a pair; may be repeated.")
]
Description = Annotated[str | None, typer.Option("--description", metavar="TEXT", help="Words for people.")]
PolicyFile = Annotated[
    Path,
    typer.Option(
        "--policy",
        metavar="FILE",
        help="A YAML file: the policy alone, or a pipeline file with a policy section.",
        show_default=False,
    ),
]
EndpointName = Annotated[
    str, typer.Argument(metavar="E", help="The endpoint.", show_default=False, autocompletion=completing.endpoints)
]


def expected(version: str) -> str | None:
    """Return the version that is expected to hold something, None where ``none`` is."""
    return None if version.lower() == completing.NOBODY else version


def numbers(option: str, given: Iterable[str] | None) -> dict[str, float]:
    """Return ``K=V`` pairs whose values are numbers.

    Raises:
        InvalidInputError: A pair without ``=``, a value that is no number, or a name given twice.
    """
    pairs = _pairs(option, given, bare=None)
    try:
        return {name: float(value) for name, value in pairs.items()}
    except ValueError:
        wrong = next(f"{name}={value}" for name, value in pairs.items() if not _is_number(value))
        raise InvalidInputError(f"{option} {wrong}: the value is no number. Write {option} accuracy=0.97.") from None


def words(option: str, given: Iterable[str] | None) -> dict[str, str]:
    """Return ``K=V`` pairs of words; a bare ``K`` has an empty value.

    Raises:
        InvalidInputError: An empty name, or one given twice.
    """
    return _pairs(option, given, bare="")


def values(option: str, given: Iterable[str] | None) -> dict[str, Any]:
    """Return ``K=V`` pairs whose values are JSON (``10``, ``0.1``, ``true``, ``[1, 2]``) or else text.

    Raises:
        InvalidInputError: A pair without ``=``, or a name given twice.
    """
    return {name: _value(text) for name, text in _pairs(option, given, bare=None).items()}


def _pairs(option: str, given: Iterable[str] | None, *, bare: str | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not name or (not equals and bare is None):
            raise InvalidInputError(f"{option} {text!r}: a name and a value are asked for. Write {option} NAME=VALUE.")
        if name in pairs:
            raise InvalidInputError(f"{option} gives {name!r} twice; keep one of them.")
        pairs[name] = value if equals else bare or ""
    return pairs


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _value(text: str) -> Any:
    try:
        # JSON knows no NaN, and Python's reader does: such a word stays text.
        return json.loads(text, parse_constant=str)
    except ValueError:
        return text


def one_of(asked: str, **ways: str | None) -> str | None:
    """Return the one way by which something was given, None where it was by none.

    Args:
        asked: What it is, for the message.
        ways: Each spelling with what was given for it; underscores stand for hyphens.

    Raises:
        InvalidInputError: It was given more than once.
    """
    given = {way: value for way, value in ways.items() if value is not None}
    if len(given) > 1:
        found = ", ".join(f"{way.replace('_', '-')} {value!r}" for way, value in given.items())
        raise InvalidInputError(f"give the {asked} once; found {found}.")
    return next(iter(given.values()), None)
