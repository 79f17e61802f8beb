"""``modelway``: the registry's command line, and ``run``, which needs the flows."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.app import make_app
from registry.cli.invocation import Verb
from registry.cli.options import Context
from registry.errors import InvalidInputError


def run(
    ctx: Context,
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="The pipeline file, YAML.", show_default=False)],
    *,
    approve_as: Annotated[
        str | None, typer.Option("--approve-as", metavar="NAME", help="Answer the approval of this run in this name.")
    ] = None,
    keep_serving: Annotated[bool, typer.Option("--keep-serving", help="Leave the endpoint running.")] = False,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="V", help="Take this registered version on its way instead of training one."),
    ] = None,
) -> None:
    """Take a model the whole way: train, register, validate, optimise, approve, promote, deploy."""
    if ctx.obj.as_json:
        raise InvalidInputError(
            "run tells people what it does, and prints no JSON: read what came of it by `modelway models show --json`."
        )
    from deployments.run import run_pipeline

    raise typer.Exit(
        run_pipeline(config, approve_as=approve_as, keep_serving=keep_serving, version=version, url=ctx.obj.url)
    )


def make_program() -> typer.Typer:
    """Return the whole command line, ready to be called."""
    app = make_app()
    app.command("run", cls=Verb)(run)
    return app


def main() -> None:
    """Run the command line and end the process with its exit code."""
    make_program()(prog_name="modelway")
