"""The verbs of ``modelway models`` that keep a registry in order, take versions out of it and bring them in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from registry.cli.invocation import NextStep, confirm
from registry.cli.options import Context, MaybeVersion, NameAtAlias, Reason, Version
from registry.errors import InvalidInputError

if TYPE_CHECKING:
    from registry.records import ModelVersion
    from registry.reports import Head

NOT_AS_RECORDED: Final = 6
"""The exit code where something is not what was recorded, the same as that of any verb that comes upon it."""

MaybeName = Annotated[
    str | None, typer.Argument(metavar="NAME", help="One model; everything without it.", show_default=False)
]
Engines = Annotated[bool, typer.Option("--variants/--no-variants", help="Whether derived engines go with a version.")]


def verify(
    ctx: Context,
    name: MaybeName = None,
    version: MaybeVersion = None,
    *,
    shallow: Annotated[
        bool, typer.Option("--shallow", help="Only ask whether artifacts are there; do not read their bytes.")
    ] = False,
    heads: Annotated[
        Path | None,
        typer.Option(
            "--heads",
            metavar="FILE",
            help="What an earlier verify --json printed: shows whether the end of a log was cut off since.",
        ),
    ] = None,
) -> None:
    """Walk every log and hash every file; name what is not as it was recorded, and exit with 6 if anything is."""
    from registry.cli.progress import RichProgress

    remembered = None if heads is None else _heads_in(heads)
    with RichProgress():
        report = ctx.obj.open().verify(name, version, deep=not shallow, heads=remembered)
    looked = (
        f"{len(report.heads)} logs of {report.records} records, {report.versions} versions, {report.files} files"
        f"{'' if shallow else f' of {report.size_bytes} bytes'}"
    )
    verdict = "all is as it was recorded" if report.ok else f"not as recorded: {_count(len(report.findings), 'thing')}"
    unseen = "" if report.remembered else "; an end that was cut off a log is only seen with --heads"
    ctx.obj.tell(report, f"{verdict}: {looked}{unseen}")
    if not ctx.obj.as_json:
        from registry.cli import keeping_tables, tables

        tables.write(*keeping_tables.of_findings(report.findings, report.remarks))
    if not report.ok:
        raise typer.Exit(NOT_AS_RECORDED)


def doctor(ctx: Context) -> None:
    """Try whether the storage can hold a registry: rights, exclusive create, read after write, clock; exits with 1."""
    report = ctx.obj.open(make=True).doctor()

    def draw(_tables: object) -> list[object]:
        from registry.cli import keeping_tables

        return [keeping_tables.of_probes(report.probes)]

    ctx.obj.show(report, draw)
    if not report.ok:
        raise typer.Exit(1)


def gc(
    ctx: Context,
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without it, only say what would be done.")] = False,
    grace: Annotated[
        float,
        typer.Option("--grace", metavar="HOURS", help="What is younger stays; longer than any upload takes.", min=0),
    ] = 24.0,
) -> None:
    """Remove what nothing needs: reservations that came to nothing, files of no version, unfinished writes."""
    from datetime import timedelta

    from registry.cli.progress import RichProgress

    with RichProgress():
        report = ctx.obj.open().gc(dry_run=not apply, grace=timedelta(hours=grace))
    useless = len(report.removed) + len(report.temporary)
    done = "given up and removed" if apply else "of no use; nothing was changed"
    step = NextStep("to do it", ("models", "gc", "--apply", *(() if grace == 24.0 else ("--grace", str(grace)))))  # noqa: PLR2004
    wanted = not apply and (useless or report.abandoned)
    found = f"{_count(len(report.abandoned), 'reservation')} and {_count(useless, 'file')}: {done}"
    ctx.obj.tell(
        report, found if useless or report.abandoned else "there is nothing to remove", *([step] if wanted else [])
    )
    if not ctx.obj.as_json:
        from registry.cli import keeping_tables, tables

        tables.write(*keeping_tables.of_leftovers(report))


def rebuild(ctx: Context, name: MaybeName = None) -> None:
    """Write status.json, head.json and checkpoints anew from the logs; exits with 6 if a log cannot be believed."""
    from registry.cli.progress import RichProgress

    with RichProgress():
        report = ctx.obj.open().rebuild(name)
    ctx.obj.tell(
        report,
        f"written anew: {len(report.statuses)} status.json, {len(report.checkpoints)} checkpoints, "
        f"{len(report.hints)} head.json",
    )
    if not report.ok:
        if not ctx.obj.as_json:
            from registry.cli import keeping_tables, tables

            tables.write(*keeping_tables.of_findings(report.findings, ()))
        raise typer.Exit(NOT_AS_RECORDED)


def delete(  # noqa: PLR0913 - each is an option of the command line
    ctx: Context,
    name: NameAtAlias,
    version: Version,
    *,
    force: Annotated[bool, typer.Option("--force", help="Although aliases point at it; they go with it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Reason = "",
) -> None:
    """Delete a version's files for good; its history stays, and its label is never given again."""
    registry = ctx.obj.open()
    found = registry.get_version(name, version)
    if not yes:
        confirm(f"Delete {found.full_name} ({found.stage}) and its files for good?", otherwise="nothing was changed")
    registry.delete_version(found.name, found.version, force=force, reason=reason)
    ctx.obj.tell(
        {"name": found.name, "version": found.version, "deleted": True},
        f"{found.full_name} is deleted",
        NextStep("to see what is left", ("models", "list", found.name)),
    )


def copy(
    ctx: Context,
    name: NameAtAlias,
    version: Version,
    *,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The other registry: a path or URL.")],
    variants: Engines = True,
) -> None:
    """Register a version in another registry: the same files and digests, the same label, in development."""
    from registry.cli.progress import RichProgress

    with RichProgress():
        copied = ctx.obj.open().copy(name, version, to=to, variants=variants)
    ctx.obj.tell(copied, f"{copied.full_name} is in {to}, in {copied.stage}", _to_see(to, copied))


def export(
    ctx: Context,
    name: NameAtAlias,
    version: MaybeVersion = None,
    *,
    to: Annotated[Path, typer.Option("--to", metavar="PATH", help="A folder, or an archive if it ends in .tar.")],
    variants: Engines = True,
) -> None:
    """Copy a version, or all of a model, into a folder or an archive that import takes."""
    from registry.cli.progress import RichProgress

    with RichProgress():
        exported = ctx.obj.open().export(name, version, to=to, variants=variants)
    names = ", ".join(one.full_name for one in exported)
    ctx.obj.tell(
        exported, f"in {to}: {names}", NextStep("to bring them into another registry", ("models", "import", str(to)))
    )


def import_(
    ctx: Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="What export wrote.", show_default=False)],
    *,
    variants: Engines = True,
) -> None:
    """Register all versions of a folder or archive that export wrote, every byte verified."""
    from registry.cli.progress import RichProgress

    with RichProgress():
        imported = ctx.obj.open(make=True).import_(path, variants=variants)
    ctx.obj.tell(imported, f"registered: {', '.join(one.full_name for one in imported) or 'nothing'}")


def _to_see(url: str, version: ModelVersion) -> NextStep:
    return NextStep("to see it", ("--url", url, "models", "show", version.name, version.version))


def _heads_in(file: Path) -> dict[str, Head]:
    from pydantic import TypeAdapter, ValidationError

    from registry.encoding import parse_json
    from registry.reports import Head

    try:
        value = parse_json(file.read_bytes(), str(file))
    except OSError as error:
        raise InvalidInputError(f"--heads {file}: {error.strerror}; give what verify --json printed.") from error
    try:
        return TypeAdapter(dict[str, Head]).validate_python(value["heads"])
    except (ValidationError, KeyError, TypeError):
        raise InvalidInputError(f"--heads {file} holds no heads: give what verify --json printed.") from None


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
