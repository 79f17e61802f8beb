"""The verbs of ``modelway models`` that look and change nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli import completing
from registry.cli.options import (
    Context,
    MaybeVersion,
    Name,
    NameAtAlias,
    PolicyFile,
    StageOption,
    Version,
    VersionOption,
    one_of,
)

POLICY_FAILED = 3
"""The exit code of ``check``, the same as that of a promotion that a policy refuses."""


def list_(
    ctx: Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A model whose versions to list; all models without it.",
            autocompletion=completing.models,
        ),
    ] = None,
    *,
    stage: StageOption = None,
) -> None:
    """List the models, or the versions of one."""
    if name is None:
        list_models(ctx, stage=stage)
    else:
        list_versions(ctx, name, stage=stage)


def list_models(ctx: Context, *, stage: StageOption = None) -> None:
    """List the models: how many versions, the latest, the one in production, how many are in each stage."""
    registry = ctx.obj.open()
    from registry.cli.summaries import summarize

    models = summarize(registry, stage=stage)
    ctx.obj.show(models, lambda tables: [tables.of_models(models)], if_none=f"no models{_in(stage)}")


def list_versions(ctx: Context, name: Name, *, stage: StageOption = None) -> None:
    """List a model's versions in order of registration."""
    from registry.stages import ModelStage

    wanted = None if stage is None else ModelStage.parse(stage)
    versions = [one for one in ctx.obj.open().list_versions(name) if wanted in {None, one.stage}]
    ctx.obj.show(versions, lambda tables: [tables.of_versions(versions)], if_none=f"no versions of {name}{_in(stage)}")


def show(
    ctx: Context,
    name: NameAtAlias,
    version: MaybeVersion = None,
    *,
    version_option: VersionOption = None,
    stage: StageOption = None,
) -> None:
    """Show everything of one version: the one asked for by version, alias or stage, else the latest."""
    label = one_of("version", VERSION=version, **{"--version": version_option})
    registry = ctx.obj.open()
    from registry.cli.summaries import page_of

    page = page_of(registry, registry.get_model_metadata(name, label, stage))
    ctx.obj.show(page, lambda tables: tables.of_version(page))


def log(ctx: Context, name: Name, version: MaybeVersion = None) -> None:
    """Show the changes of stage and the runs of a model or of one version, the oldest first: who, when, why.

    With --json the changes of stage alone.
    """
    registry = ctx.obj.open()
    moves = registry.get_transitions(name, version)
    from registry.cli.summaries import runs_of

    runs = runs_of(registry, name, version)
    none = f"{name} has not moved yet" if not runs else ""
    ctx.obj.show(moves, lambda tables: [tables.of_history(moves, runs)], if_none=none)


def compare(
    ctx: Context,
    name: Name,
    versions: Annotated[
        list[str],
        typer.Argument(
            metavar="V1 V2...",
            help="Two versions or more.",
            show_default=False,
            autocompletion=completing.versions,
        ),
    ],
) -> None:
    """Compare the metrics of versions; the change is from the first to the last."""
    comparison = ctx.obj.open().compare_versions(name, versions)
    from registry.cli.summaries import page_of_comparison

    ctx.obj.show(page_of_comparison(comparison), lambda tables: [tables.of_comparison(comparison)])


def check(ctx: Context, name: Name, version: Version, *, policy: PolicyFile) -> None:
    """Hold a policy against a version and the one in production; moves nothing, and exits with 3 if it fails."""
    from registry.policy import PromotionPolicy
    from registry.yaml_files.record import read_record

    registry = ctx.obj.open()
    result = registry.check_promotion_policy(name, version, read_record(policy, "policy", PromotionPolicy))
    verdict = "meets" if result.passed else "does not meet"
    full_name = registry.get_version(name, version).full_name
    failures = [f"\n  - {failure}" for failure in result.failures]
    ctx.obj.tell(result, f"{full_name} {verdict} the policy in {policy}{''.join(failures)}")
    if not result.passed:
        raise typer.Exit(POLICY_FAILED)


def _in(stage: str | None) -> str:
    return f" in {stage}" if stage else ""
