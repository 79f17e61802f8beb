"""What serves, and where: ``modelway endpoints``."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli import completing
from registry.cli.invocation import NextStep
from registry.cli.options import Context, EndpointName, Reason
from registry.errors import ModelwayError

AnyEndpoint = Annotated[
    str | None,
    typer.Argument(
        metavar="[E]",
        help="The endpoint; all of them without it.",
        show_default=False,
        autocompletion=completing.endpoints,
    ),
]


def list_endpoints(ctx: Context) -> None:
    """List the endpoints: what each is to serve, and whether it runs on this machine."""
    from registry.cli.endpoint_tables import of_endpoints
    from registry.cli.summaries import page_of_endpoint

    pages = [page_of_endpoint(endpoint) for endpoint in ctx.obj.open().list_endpoints()]
    ctx.obj.show(
        pages,
        lambda _: [of_endpoints(pages)],
        if_none="no endpoints yet; `modelway models deploy` makes one",
    )


def show_endpoint(ctx: Context, endpoint: EndpointName) -> None:
    """Show all of an endpoint: which bytes serve since when, who approved them on what evidence, and the way back."""
    from registry.cli.endpoint_tables import of_endpoint
    from registry.cli.summaries import details_of_endpoint

    page = details_of_endpoint(ctx.obj.open(), endpoint)
    ctx.obj.show(page, lambda _: [of_endpoint(page)])


def log_endpoint(ctx: Context, endpoint: EndpointName) -> None:
    """List what was ever wanted of an endpoint, by whom and why, and what became of it."""
    from registry.cli.endpoint_tables import of_history

    history = ctx.obj.open().get_endpoint_history(endpoint)
    ctx.obj.show(history, lambda _: [of_history(history)])


def drift(ctx: Context, endpoint: AnyEndpoint = None) -> None:
    """Show where endpoints are not what they should be: the registry says otherwise, or what serves was not wanted."""
    from registry.cli.endpoint_tables import of_drifts

    drifts = ctx.obj.open().get_drift(endpoint)
    ctx.obj.show(drifts, lambda _: [of_drifts(drifts)], if_none="no drift: what serves is what is wanted")


def reconcile(ctx: Context, endpoint: AnyEndpoint = None) -> None:
    """Bring endpoints to what is wanted of them: what died, was left half done, or follows a promotion."""
    from registry.cli.summaries import Reconciled

    registry = ctx.obj.open()
    names = [one.name for one in registry.list_endpoints()] if endpoint is None else [endpoint]
    done, failed = [], []
    for name in names:
        try:
            done.append(Reconciled(endpoint=name, mended=tuple(registry.reconcile_endpoint(name))))
        except ModelwayError as error:
            if endpoint is not None:
                raise
            failed.append(error)
            done.append(Reconciled(endpoint=name, mended=(), error=str(error)))
    lines = [line for one in done for line in one.lines()]
    ctx.obj.tell(done, "\n".join(lines) or "no endpoints yet; `modelway models deploy` makes one")
    if failed:
        raise typer.Exit(failed[0].exit_code)


def manifest(
    ctx: Context,
    endpoint: EndpointName,
    *,
    tool: Annotated[
        str,
        typer.Option("--for", metavar="TOOL", help="kserve: an InferenceService that points at the version's folder."),
    ],
    namespace: Annotated[str, typer.Option("--namespace", metavar="NAME", help="Where in Kubernetes.")] = "default",
) -> None:
    """Print what another tool needs to serve the version that an endpoint serves, from the registry's own bytes."""
    from registry.endpoints.manifest import manifest_for, manifest_yaml

    found = manifest_for(tool, ctx.obj.open(), endpoint, namespace=namespace)
    if ctx.obj.as_json:
        ctx.obj.tell(found, "")
        return
    typer.echo(manifest_yaml(found), nl=False)


def stop_endpoint(ctx: Context, endpoint: EndpointName, *, reason: Reason = "") -> None:
    """Let an endpoint serve nothing any more; requests under way are finished."""
    from registry.cli.summaries import page_of_endpoint

    registry = ctx.obj.open()
    served = registry.get_endpoint(endpoint).desired
    stopped = registry.stop_endpoint(endpoint, reason=reason)
    again = () if served is None else ("models", "deploy", served.model, "--version", served.version)
    ctx.obj.tell(
        page_of_endpoint(stopped),
        f"{endpoint} is stopped" if served else f"{endpoint} was stopped already",
        *([NextStep("to serve again", (*again, "--endpoint-name", endpoint))] if again else []),
    )
