"""The commands of the command line that need no flow, under both their spellings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final

import typer

from registry.cli import changing, describing, endpoints, keeping, looking, serving
from registry.cli.invocation import Invocation, Verb
from registry.cli.options import Context

MODELS: Final[dict[str, Callable[..., None]]] = {
    "list": looking.list_,
    "show": looking.show,
    "register": changing.register,
    "check": looking.check,
    "promote": changing.promote,
    "compare": looking.compare,
    "log": looking.log,
    "rollback": changing.rollback,
    "deploy": serving.deploy,
    "optimize": serving.optimize,
    "download": serving.download,
    "archive": changing.archive,
    "restore": changing.restore,
    "annotate": describing.annotate,
    "alias": describing.alias,
    "delete": keeping.delete,
    "verify": keeping.verify,
    "copy": keeping.copy,
    "export": keeping.export,
    "import": keeping.import_,
    "gc": keeping.gc,
    "rebuild": keeping.rebuild,
    "doctor": keeping.doctor,
}
ENDPOINTS: Final[dict[str, Callable[..., None]]] = {
    "list": endpoints.list_endpoints,
    "show": endpoints.show_endpoint,
    "log": endpoints.log_endpoint,
    "drift": endpoints.drift,
    "reconcile": endpoints.reconcile,
    "manifest": endpoints.manifest,
    "stop": endpoints.stop_endpoint,
}
OTHER_SPELLINGS: Final[dict[str, Callable[..., None]]] = {
    "list-models": looking.list_models,
    "list-versions": looking.list_versions,
    "get-model": looking.show,
    "promote": changing.promote,
    "deploy": serving.deploy,
    "compare": looking.compare,
    "rollback": changing.rollback,
}
"""What document 004 calls them; at the top, and left out of the help."""


_EXIT_CODES = (
    "Exit codes: 0 ok, 1 error, 2 usage, 3 policy failed, 4 approval pending, 5 conflict, 6 integrity, 130 interrupted."
)


def make_app() -> typer.Typer:
    """Return the program, ready to be called or to be given more commands."""
    app = group({}, "Versions, stages, approvals and engines of models, and what serves them.", epilog=_EXIT_CODES)
    app.callback()(_take_options)
    about = "Models and their versions: look, register, move, compare, serve, keep in order."
    app.add_typer(group(MODELS, about), name="models")
    app.add_typer(group(ENDPOINTS, "What serves, and where."), name="endpoints")
    for name, verb in OTHER_SPELLINGS.items():
        app.command(name, cls=Verb, hidden=True)(verb)
    return app


def group(verbs: Mapping[str, Callable[..., None]], about: str, *, epilog: str | None = None) -> typer.Typer:
    """Return commands that stand under one word; ``about`` is what its help says."""
    # Errors are told by Verb; a plain traceback under --debug can be pasted where a framed one cannot.
    made = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=about, epilog=epilog)
    for name, verb in verbs.items():
        made.command(name, cls=Verb)(verb)
    return made


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callbacks take the value by position
    if wanted:
        from importlib.metadata import version

        typer.echo(f"modelway {version('modelway')}")
        raise typer.Exit


def _take_options(
    ctx: Context,
    *,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Where the registry lies: a path or URL. Without it MODELWAY_URL, else url under tool.modelway in "
            "pyproject.toml, else ./.modelway.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON for programs instead of tables.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Versions, stages, approvals and engines of models, and what serves them."""
    ctx.obj = Invocation(url=url, as_json=as_json, debug=debug)
