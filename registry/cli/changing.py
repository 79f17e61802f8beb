"""The verbs of ``modelway models`` that register versions and move them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli import completing
from registry.cli.invocation import NextStep, to_show
from registry.cli.options import (
    Context,
    Description,
    MaybeVersion,
    Metrics,
    Name,
    Reason,
    Tags,
    Version,
    expected,
    numbers,
    one_of,
    values,
    words,
)
from registry.errors import InvalidInputError

if TYPE_CHECKING:
    from registry.policy import PromotionPolicy
    from registry.records import ModelVersion
    from registry.registry import ModelRegistry


def register(  # noqa: PLR0913 - each is an option of the command line
    ctx: Context,
    name: Name,
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="The file or folder that holds the model.", show_default=False)
    ],
    *,
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", help="A label (1, v1, 1.2.0); the next one without it.")
    ] = None,
    bump: Annotated[
        str | None,
        typer.Option(
            "--bump",
            metavar="PART",
            help="Count up the greatest semantic version: major, minor or patch.",
            autocompletion=completing.bumps,
        ),
    ] = None,
    metric: Metrics = None,
    tag: Tags = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="K=V", help="A parameter of the training, JSON or text; may be repeated."),
    ] = None,
    framework: Annotated[
        str | None,
        typer.Option(
            "--framework",
            metavar="F",
            help="What made it (pytorch, onnx, ...); guessed without it.",
            autocompletion=completing.frameworks,
        ),
    ] = None,
    description: Description = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="K", help="The same key gives the same version, however often."),
    ] = None,
) -> None:
    """Register a file or folder as a new version; the first one makes the model, and the registry if need be."""
    from registry.cli.progress import RichProgress

    measured, labels, parameters = numbers("--metric", metric), words("--tag", tag), values("--param", param)
    with RichProgress():
        new = ctx.obj.open(make=True).register(
            name,
            artifact_path=path,
            version=version,
            bump=bump,
            metrics=measured,
            tags=labels,
            parameters=parameters,
            framework=framework,
            description=description or "",
            idempotency_key=idempotency_key,
        )
    ctx.obj.tell(
        new,
        f"{new.full_name} is registered, in {new.stage}",
        to_show(new),
        NextStep("to move it on", ("models", "promote", name, new.version, "staging")),
    )


def promote(  # noqa: PLR0913 - each is an option of the command line
    ctx: Context,
    name: Name,
    version: Version,
    stage: Annotated[
        str | None,
        typer.Argument(
            metavar="STAGE",
            help="Where to: validation, staging, production or archived.",
            show_default=False,
            autocompletion=completing.targets,
        ),
    ] = None,
    *,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="STAGE", help="The same as STAGE.", autocompletion=completing.targets),
    ] = None,
    approved_by: Annotated[
        str | None, typer.Option("--approved-by", metavar="X", help="Who approved it; recorded as asserted.")
    ] = None,
    expect_current: Annotated[
        str | None,
        typer.Option(
            "--expect-current",
            metavar="V",
            help="Refuse unless this version holds production ('none': no version).",
            autocompletion=completing.holders,
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", help="A YAML file with requirements beside the registry's own."),
    ] = None,
    reason: Reason = "",
) -> None:
    """Move a version forward, or to archived; in production it takes the place of the one before."""
    target = _stage_of(one_of("stage", STAGE=stage, **{"--to": to}))
    requirements = None if policy is None else _policy_in(policy)
    registry = ctx.obj.open()
    from registry.wishes import UNSET

    before, holder = registry.get_version(name, version), registry.get_production_model(name)
    moved = registry.promote(
        name,
        version,
        target,
        approved_by=approved_by,
        policy=requirements,
        reason=reason,
        expect_current=UNSET if expect_current is None else expected(expect_current),
    )
    if before.stage is moved.stage:
        ctx.obj.tell(moved, f"{moved.full_name} is in {moved.stage} already; nothing was changed", to_show(moved))
        return
    replaced = _replaced(registry, holder, moved)
    sentence = f"{moved.full_name} moved from {before.stage} to {moved.stage}"
    ctx.obj.tell(
        moved, sentence + (f"; {replaced.full_name} is archived" if replaced else ""), *_steps_after(moved, replaced)
    )


def rollback(
    ctx: Context,
    name: Name,
    version: MaybeVersion = None,
    *,
    endpoint_name: Annotated[
        str | None,
        typer.Option(
            "--endpoint-name",
            metavar="E",
            help="An endpoint that is to serve it again as well.",
            autocompletion=completing.endpoints,
        ),
    ] = None,
    reason: Reason = "",
) -> None:
    """Give production back to a version that has held it: the one asked for, else the one before this."""
    from registry.cli.progress import RichProgress

    registry = ctx.obj.open()
    holder = registry.get_production_model(name)
    with RichProgress():
        back = registry.rollback(name, version, endpoint_name=endpoint_name, reason=reason)
    replaced = _replaced(registry, holder, back)
    ctx.obj.tell(
        back,
        f"{back.full_name} is in production again" + (f"; {replaced.full_name} is archived" if replaced else ""),
        NextStep("to see how it went", ("models", "log", name)),
        *([NextStep("to undo this", ("models", "rollback", name, replaced.version))] if replaced else []),
    )


def archive(ctx: Context, name: Name, version: Version, *, reason: Reason = "") -> None:
    """Move a version to archived, from wherever it stands."""
    registry = ctx.obj.open()
    before = registry.get_version(name, version)
    archived = registry.archive(name, version, reason=reason)
    held = before.stage == "production"
    ctx.obj.tell(
        archived,
        f"{archived.full_name} is archived" + (f"; nothing is in production of {name} now" if held else ""),
        NextStep("to bring it back", ("models", *(("rollback",) if held else ("restore",)), name, archived.version)),
    )


def restore(ctx: Context, name: Name, version: Version, *, reason: Reason = "") -> None:
    """Bring an archived version back to development."""
    restored = ctx.obj.open().restore(name, version, reason=reason)
    ctx.obj.tell(
        restored,
        f"{restored.full_name} is back in {restored.stage}",
        NextStep("to move it on", ("models", "promote", name, restored.version, "staging")),
    )


def _stage_of(stage: str | None) -> str:
    if stage is None:
        raise InvalidInputError("promote moves a version to a stage, and none was given: ... STAGE, or --to STAGE.")
    return stage


def _policy_in(file: Path) -> PromotionPolicy:
    from registry.policy import PromotionPolicy
    from registry.yaml_files.record import read_record

    return read_record(file, "policy", PromotionPolicy)


def _replaced(registry: ModelRegistry, holder: ModelVersion | None, now: ModelVersion) -> ModelVersion | None:
    """Return who held production before and is archived now; read again, as others may have moved it meanwhile."""
    if holder is None or now.stage != "production" or holder.version == now.version:
        return None
    stands = registry.get_version(holder.name, holder.version)
    return stands if stands.stage == "archived" else None


def _steps_after(moved: ModelVersion, replaced: ModelVersion | None) -> list[NextStep]:
    match moved.stage:
        case "production":
            serve = NextStep("to serve it", ("models", "deploy", moved.name))
            return [serve, *([NextStep("to go back", ("models", "rollback", moved.name))] if replaced else [])]
        case "archived":
            return [NextStep("to bring it back", ("models", "restore", moved.name, moved.version))]
        case _:
            further = "production" if moved.stage == "staging" else "staging"
            return [NextStep("to move it on", ("models", "promote", moved.name, moved.version, further))]
