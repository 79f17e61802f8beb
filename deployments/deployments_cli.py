"""``modelway deployments``: hand the flows to a Prefect server, look at what it holds, ask for a retraining."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from registry.cli.app import group
from registry.cli.invocation import NextStep
from registry.cli.options import Context
from registry.cli.text import plain

if TYPE_CHECKING:
    from rich.table import Table

    from deployments.applying import Report
    from deployments.showing import Shown

_PAST: Final = {
    "create": "created",
    "change": "changed",
    "remove": "removed",
    "leave": "left",
}

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="The deployments file, YAML; configs/deployments.yaml without it.")
]


def apply(
    ctx: Context,
    file: File = Path("configs/deployments.yaml"),
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove what is no longer in the file.")] = False,
) -> None:
    """Make the Prefect server of PREFECT_API_URL hold what a file says: pools, deployments, schedules, triggers."""
    from deployments.applying import apply as make_it_hold
    from deployments.reaching import open_server
    from deployments.settings import load_deployments

    wanted = load_deployments(file)  # before any server is asked: a typing error in it is told at once
    with open_server() as client:
        report = make_it_hold(wanted, client, prune=prune, dry_run=dry_run)
    if not ctx.obj.as_json:
        for change in report.changes:
            verb = change.verb if dry_run else _PAST[change.verb]
            typer.echo(plain(f"{verb:<8} {change.thing} {change.name}{': ' if change.words else ''}{change.words}"))
    workers = [pool.name for pool in wanted.pools if pool.settings.type == "process"] if report.changed else []
    ctx.obj.tell(
        report, _sentence(report, file), *(NextStep("to run them", ["worker", "--pool", pool]) for pool in workers)
    )


def _sentence(report: Report, file: Path) -> str:
    if not report.changed:
        return f"nothing to change: {report.server} holds what {file} says"
    done = "would be changed" if not report.applied else "changed"
    return f"{report.changed} {'thing' if report.changed == 1 else 'things'} {done} on {report.server}"


def show(
    ctx: Context,
    *,
    tag: Annotated[str, typer.Option("--tag", metavar="T", help="The tag of the deployments file.")] = "modelway",
) -> None:
    """Show what the Prefect server of PREFECT_API_URL holds: deployments, pools, schedules, what triggers them."""
    from deployments.reaching import open_server
    from deployments.showing import shown

    with open_server() as client:
        found = shown(client, tag)

    def draw(_tables: object) -> list[Table]:
        return [_drawn(found)]

    ctx.obj.show(
        found, draw, if_none=f"no deployment there has the tag {tag}; `modelway deployments apply` makes them."
    )


def _drawn(found: list[Shown]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("deployment", "pool", "workers", "schedules", "triggers", "under way", box=box.SIMPLE_HEAD)
    for one in found:
        cells: list[Any] = [one.name, one.pool, one.workers, "\n".join(one.schedules), "\n".join(one.triggers)]
        table.add_row(*(plain(str(cell)) or "-" for cell in cells), str(one.under_way))
    return table


def request_retraining(
    ctx: Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model.", show_default=False)],
    *,
    reason: Annotated[str, typer.Option("--reason", metavar="R", help="Why; kept in the history.")] = "by hand",
) -> None:
    """Emit the event that starts the retraining of a model, where a deployment waits for it."""
    from deployments.reaching import open_server
    from deployments.requesting import request

    with open_server() as client:
        requested = request(client, name, reason=reason)
    waits = ", ".join(requested.starts)
    ctx.obj.tell(requested, f"asked for a retraining of {name}: {waits}. It starts within half a minute.")


VERBS: Final[dict[str, Callable[..., None]]] = {"apply": apply, "show": show, "request-retraining": request_retraining}


def make_deployments_app() -> typer.Typer:
    """Return the commands, to be added to the program."""
    return group(VERBS, "Flows on a Prefect server: schedules, triggers, work pools.")
