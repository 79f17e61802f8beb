"""``docs/cli.md``, written from the program itself: every verb with its options, and what ``--json`` prints.

``modelway reference > docs/cli.md`` writes it again; a test holds the page against the program, and another what the
verbs print against the page.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel

from registry.cli.summaries import (
    AliasGone,
    ComparisonPage,
    DownloadPage,
    EndpointDetails,
    EndpointPage,
    ModelSummary,
    OptimizePage,
    Reconciled,
    VersionGone,
    VersionPage,
)
from registry.drifting import Drift
from registry.endpoint_history import EndpointEntry
from registry.policy import PolicyResult
from registry.records import ModelVersion, StageTransition
from registry.reports import DoctorReport, GcReport, RebuildReport, VerifyReport

PRINTS: Final[Mapping[str, tuple[Any, ...]]] = {
    "models list": (list[ModelSummary], list[ModelVersion]),
    "models show": (VersionPage,),
    "models register": (ModelVersion,),
    "models check": (PolicyResult,),
    "models promote": (ModelVersion,),
    "models compare": (ComparisonPage,),
    "models log": (list[StageTransition],),
    "models rollback": (ModelVersion,),
    "models deploy": (EndpointPage,),
    "models optimize": (OptimizePage,),
    "models download": (DownloadPage,),
    "models archive": (ModelVersion,),
    "models restore": (ModelVersion,),
    "models annotate": (ModelVersion,),
    "models alias": (ModelVersion, AliasGone),
    "models delete": (VersionGone,),
    "models verify": (VerifyReport,),
    "models copy": (ModelVersion,),
    "models export": (list[ModelVersion],),
    "models import": (list[ModelVersion],),
    "models gc": (GcReport,),
    "models rebuild": (RebuildReport,),
    "models doctor": (DoctorReport,),
    "endpoints list": (list[EndpointPage],),
    "endpoints show": (EndpointDetails,),
    "endpoints log": (list[EndpointEntry],),
    "endpoints drift": (list[Drift],),
    "endpoints reconcile": (list[Reconciled],),
    "endpoints manifest": (dict[str, Any],),
    "endpoints stop": (EndpointPage,),
}
"""What each verb prints under ``--json``; a verb that is not here prints none."""

SAME: Final[Mapping[str, str]] = {
    "list-models": "models list",
    "list-versions NAME": "models list NAME",
    "get-model": "models show",
    "promote": "models promote",
    "deploy": "models deploy",
    "compare": "models compare",
    "rollback": "models rollback",
}
"""The other spellings, which stand in no help."""

_SIMPLE = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "boolean",
    datetime: "time, ISO 8601 in UTC",
    Path: "text",
    types.NoneType: "null",
    Any: "anything",
}
_OPENING = """# The command line

<!-- Written by `modelway reference > docs/cli.md`; a test compares the two. -->

`modelway`, or `python -m registry` for everything but `run`. `modelway COMMAND --help` tells the same of one command.
"""
_ENDING_OF_OPTIONS = """
The options stand before the command or after it.

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | an error: not found, storage unreachable or forbidden, refused by the rules |
| 2 | the command itself cannot be: an unknown option, a name or version outside its grammar |
| 3 | a policy does not hold |
| 4 | an approval is needed, and not there |
| 5 | somebody else was first: a label that is taken, an expectation that no longer fits |
| 6 | bytes are not what was recorded |
| 130 | interrupted |

Errors are one message on standard error that says what to do next; `--debug` shows where they come from.

## Completion

`modelway --install-completion` teaches the shell that you use (bash, zsh, fish, PowerShell) to complete commands, and
models, versions, stages, aliases and endpoints of the registry that the line names.
"""
_JSON = """
## What `--json` prints

One JSON value on standard output, and nothing else there. Fields keep their names and meaning; new ones may be added.
A time is text in ISO 8601, UTC. A digest is `sha256:` and 64 hexadecimal digits.

| command | prints |
|---|---|
"""


def page(program: Any, prints: Mapping[str, tuple[Any, ...]] = PRINTS) -> str:
    """Return the reference of ``program``, a command line as typer makes it, as Markdown; ``prints``: as ``PRINTS``."""
    return "".join(_parts(program, prints))


def _parts(program: Any, prints: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
    shared = [one for one in program.params if one.help and "completion" not in one.name]
    yield f"{_OPENING}\n## Options of every command\n\n{_table(shared)}{_ENDING_OF_OPTIONS}"
    for name, command in program.commands.items():
        if command.hidden:
            continue
        yield f"\n## {name}\n\n{_said(command)}\n"
        for verb, inner in getattr(command, "commands", {}).items():
            yield f"\n### {name} {verb}\n\n`{_usage(f'{name} {verb}', inner)}`\n\n{_said(inner)}\n{_parameters(inner)}"
        if not hasattr(command, "commands"):
            yield f"\n`{_usage(name, command)}`\n{_parameters(command)}"
    yield "\n## Other spellings\n\n| command | the same as |\n|---|---|\n"
    yield from (f"| `{name}` | `{ours}` |\n" for name, ours in SAME.items())
    yield _JSON
    yield from (f"| `{words}` | {' or '.join(map(_words, kinds))} |\n" for words, kinds in prints.items())
    yield from (_record(kind) for kind in _reachable(kind for kinds in prints.values() for kind in kinds))


def _said(command: Any) -> str:
    return _line(command.help)


def _usage(words: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    pieces = [one.metavar if one.required else f"[{one.metavar}]" for one in arguments]
    return " ".join(["modelway", words, *pieces, "[OPTIONS]"])


def _parameters(command: Any) -> str:
    listed = [one for one in command.params if one.name != "help"]
    return f"\n{_table(listed)}" if listed else ""


def _table(parameters: Iterable[Any]) -> str:
    rows = [f"| `{_spelled(one)}` | {_escaped(one.help)}{' Required.' * _must(one)} |\n" for one in parameters]
    return "| | |\n|---|---|\n" + "".join(rows)


def _must(parameter: Any) -> bool:
    return bool(parameter.required and parameter.param_type_name == "option")


def _spelled(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar)
    value = "" if parameter.is_flag else f" {parameter.metavar}"
    return _escaped(", ".join(parameter.opts) + value)


def _escaped(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _words(kind: Any) -> str:
    """Return a type in words; a record as a link to its table."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _one_of(member.value for member in kind)
    return _words_of_several(typing.get_origin(kind), typing.get_args(kind))


def _words_of_several(origin: Any, inner: Sequence[Any]) -> str:
    match origin:
        case _ if origin in {list, tuple}:
            return f"list of {_words(inner[0])}"
        case _ if origin is dict:
            return f"object of {_words(inner[1])} by name"
        case _ if origin is Literal:
            return _one_of(inner)
        case _ if origin is Annotated:  # a union whose members are told apart by one of their fields
            return _words(inner[0])
        case _ if origin in {typing.Union, types.UnionType}:
            return " or ".join(map(_words, inner))
    raise TypeError(f"the reference has no words for {origin!r} of {inner!r}: give it some here.")


def _one_of(values: Iterable[object]) -> str:
    return "one of " + ", ".join(f"`{value}`" for value in values)


def _reachable(kinds: Iterable[Any]) -> list[type[BaseModel]]:
    """Return the records that ``kinds`` hold, each once, in alphabetical order."""
    found: dict[str, type[BaseModel]] = {}
    waiting = list(kinds)
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind.__name__ not in found:
                found[kind.__name__] = kind
                waiting += [one.annotation for one in kind.model_fields.values()]
        else:
            waiting += [inner for inner in typing.get_args(kind) if not isinstance(inner, str)]
    return [found[name] for name in sorted(found)]


def _record(kind: type[BaseModel]) -> str:
    rows = "".join(f"| `{name}` | {_words(one.annotation)} |\n" for name, one in kind.model_fields.items())
    return f"\n### {kind.__name__}\n\n{_line(kind.__doc__ or '')}\n\n| field | |\n|---|---|\n{rows}"
