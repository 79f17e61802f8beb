"""The verbs of ``modelway models`` that say something of versions: annotate, alias."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli import completing
from registry.cli.invocation import NextStep, to_show
from registry.cli.options import (
    Context,
    Description,
    MaybeVersion,
    Metrics,
    Name,
    Tags,
    Version,
    expected,
    numbers,
    words,
)
from registry.errors import InvalidInputError


def annotate(  # noqa: PLR0913 - each is an option of the command line
    ctx: Context,
    name: Name,
    version: Version,
    *,
    description: Description = None,
    tag: Tags = None,
    metric: Metrics = None,
    measured_on: Annotated[
        str | None,
        typer.Option(
            "--measured-on", metavar="DIGEST", help="The digest of the data that the metrics were measured on."
        ),
    ] = None,
) -> None:
    """Say or measure something more of a version; what it was registered with is kept beside its files."""
    if description is None and not tag and not metric:
        raise InvalidInputError("annotate says something: give --description, --tag or --metric.")
    if measured_on is not None and not metric:
        raise InvalidInputError("--measured-on says what metrics were measured on: give them with --metric.")
    said = ctx.obj.open().annotate(
        name,
        version,
        description=description,
        tags=words("--tag", tag) if tag else None,
        metrics=numbers("--metric", metric) if metric else None,
        measured_on=measured_on,
    )
    ctx.obj.tell(said, f"{said.full_name} is annotated", to_show(said))


def alias(  # noqa: PLR0913 - each is an option of the command line
    ctx: Context,
    name: Name,
    alias: Annotated[
        str,
        typer.Argument(
            metavar="ALIAS",
            help="A name such as champion.",
            show_default=False,
            autocompletion=completing.aliases,
        ),
    ],
    version: MaybeVersion = None,
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Take the alias away.")] = False,
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect",
            metavar="V",
            help="Refuse unless it points at this version ('none': at no version).",
            autocompletion=completing.holders,
        ),
    ] = None,
) -> None:
    """Point an alias at a version, or take it away; NAME@ALIAS and the alias itself then stand for the version."""
    if delete == (version is not None):
        raise InvalidInputError("give either the VERSION that the alias is to point at, or --delete.")
    registry = ctx.obj.open()
    from registry.wishes import UNSET

    known = UNSET if expect is None else expected(expect)
    if version is None:
        registry.delete_alias(name, alias, expect=known)
        from registry.cli.summaries import AliasGone

        ctx.obj.tell(AliasGone(name=name, alias=alias), f"{name}@{alias} is gone")
        return
    named = registry.set_alias(name, alias, version, expect=known)
    ctx.obj.tell(
        named,
        f"{name}@{alias} points at {named.version}",
        NextStep("to use it", ("models", "show", f"{name}@{alias}")),
        NextStep("to take it away", ("models", "alias", name, alias, "--delete")),
    )
