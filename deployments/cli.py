"""``modelway``: the registry's command line, and ``run``, which needs the flows."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.approvals_cli import make_approvals
from deployments.deployments_cli import make_deployments_app
from deployments.server import server
from deployments.worker import worker
from registry.cli.app import make_app
from registry.cli.invocation import Verb
from registry.cli.options import Context
from registry.errors import InvalidInputError


def run(  # noqa: PLR0913 - a command's options
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
    afresh: Annotated[bool, typer.Option("--afresh", help="Leave what a run that died has begun; begin anew.")] = False,
) -> None:
    """Take a model the whole way: train, register, validate, optimise, approve, promote, deploy."""
    if ctx.obj.as_json:
        raise InvalidInputError(
            "run tells people what it does, and prints no JSON: read what came of it by `modelway models show --json`."
        )
    from deployments.run import run_pipeline

    raise typer.Exit(
        run_pipeline(
            config,
            approve_as=approve_as,
            keep_serving=keep_serving,
            version=version,
            url=ctx.obj.url,
            afresh=afresh,
        )
    )


def card(
    ctx: Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model.", show_default=False)],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Number, label or alias.", show_default=False)],
) -> None:
    """Print the model card of a version, as Markdown."""
    from tasks.model_card import model_card

    registry = ctx.obj.open()
    typer.echo(model_card(registry, registry.get_version(name, version)))


def reference(ctx: typer.Context) -> None:
    """Print the reference of the command line as Markdown, for docs/cli.md."""
    from deployments.approval_pages import PRINTS as APPROVALS
    from registry.cli.reference import PRINTS, page

    typer.echo(page(ctx.find_root().command, {**PRINTS, **APPROVALS}), nl=False)


def make_program() -> typer.Typer:
    """Return the whole command line, ready to be called."""
    app = make_app()
    app.command("run", cls=Verb)(run)
    app.command("server", cls=Verb)(server)
    app.command("worker", cls=Verb)(worker)
    app.command("card", cls=Verb)(card)
    app.command("reference", cls=Verb, hidden=True)(reference)
    app.add_typer(make_approvals(), name="approvals")
    app.add_typer(make_deployments_app(), name="deployments")
    return app


def main() -> None:
    """Run the command line and end the process with its exit code."""
    make_program()(prog_name="modelway")
