"""The verbs that make versions serve or bring their files: deploy, optimize, download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from registry.cli import completing
from registry.cli.invocation import NextStep
from registry.cli.options import (
    Context,
    Name,
    NameAtAlias,
    Reason,
    StageOption,
    Version,
    VersionOption,
    values,
)
from registry.cli.text import plain
from registry.errors import InvalidInputError


def deploy(  # noqa: PLR0913 - each is an option of the command line
    ctx: Context,
    name: NameAtAlias,
    *,
    version: VersionOption = None,
    stage: StageOption = None,
    endpoint_name: Annotated[
        str | None,
        typer.Option(
            "--endpoint-name",
            metavar="E",
            help="The endpoint; the model's name without it.",
            autocompletion=completing.endpoints,
        ),
    ] = None,
    target: Annotated[
        Literal["local", "triton", "vertex"] | None,
        typer.Option(
            "--target",
            metavar="TARGET",
            help="local (a process of this machine), triton or vertex; where it serves already without it.",
            show_default=False,
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="K=V",
            help="A setting of the target, such as repository=gs://bucket/triton; may be repeated.",
        ),
    ] = None,
    traffic: Annotated[
        float, typer.Option("--traffic", metavar="SHARE", help="The share of the requests, below 1 as a canary.")
    ] = 1.0,
    shadow: Annotated[
        float | None,
        typer.Option(
            "--shadow",
            metavar="SHARE",
            help="Copy this share of the requests to it instead; its answers are dropped.",
            show_default=False,
        ),
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Stay at this version whatever holds production later.")] = False,
    reason: Reason = "",
) -> None:
    """Serve a version at an endpoint, the one in production unless another is asked for; it is checked first."""
    from registry.cli.progress import RichProgress
    from registry.cli.summaries import settings_for

    registry = ctx.obj.open()
    place = settings_for(registry, name, endpoint_name, target, values("--set", setting))
    with RichProgress():
        deployed = registry.deploy_model(
            name,
            version,
            stage,
            endpoint_name,
            target=place,
            traffic=traffic,
            shadow=shadow,
            pin=pin,
            why=reason,
            report=lambda step: _report(f"{step}: {step.words}"),
        )
    from registry.cli.summaries import page_of_endpoint

    endpoint, served = deployed.endpoint, deployed.metadata
    choice = registry.get_choice(served.name, served.version)
    seen = endpoint.observed
    if seen is not None and seen.desired.variant != choice.key and seen.why_engine:
        _report(f"engine: {seen.why_engine}")
    ctx.obj.tell(
        page_of_endpoint(endpoint),
        f"{served.full_name} {_part(traffic, shadow)} at {endpoint.name}: {endpoint.url}",
        NextStep("to look at it", ("endpoints", "show", endpoint.name)),
        NextStep("to stop it", ("endpoints", "stop", endpoint.name)),
    )


def _part(traffic: float, shadow: float | None) -> str:
    if shadow is not None:
        return f"gets copies of {shadow:.0%} of the requests"
    return "serves" if traffic == 1.0 else f"answers {traffic:.0%} of the requests"


def optimize(  # noqa: PLR0913 - each is one option
    ctx: Context,
    name: Name,
    version: Version,
    *,
    spec: Annotated[
        Path,
        typer.Option(
            "--spec",
            metavar="FILE",
            help="A YAML file: the spec alone, or a pipeline file with an optimize section.",
            show_default=False,
        ),
    ],
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Write the picture, accuracy against latency, as PNG.", show_default=False
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="Sign the engines with this private key; MODELWAY_SIGNING_KEY names one as well.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Build engines from a version, hold them against it on real samples, measure them, and choose one."""
    from registry.cli.progress import RichProgress
    from registry.engines.spec import OptimizeSpec
    from registry.yaml_files.record import read_record

    wanted = read_record(spec, "optimize", OptimizeSpec)
    registry = ctx.obj.open()
    with RichProgress():
        variants = registry.optimize(name, version, spec=wanted, signing_key=_read(key), report=_report)
    choice = registry.get_choice(name, version)
    from registry.cli.summaries import OptimizePage

    judgement = registry.find_judgement(name, version)
    page = OptimizePage(engine=choice, variants=tuple(variants), judgement=judgement)
    ctx.obj.show(page, lambda tables: [tables.of_engines(page.variants, page.engine, page.judgement)])
    if plot is not None:
        plot.write_bytes(registry.get_judgement_plot(name, version))
        typer.echo(f"the picture is in {plain(str(plot))}", err=True)
    if not ctx.obj.as_json:
        ctx.obj.tell(choice, choice.reason, NextStep("to serve it", ("models", "deploy", name, "--version", version)))


def _read(key: Path | None) -> bytes | None:
    try:
        return None if key is None else key.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"--key {key}: {error.strerror}; `modelway approvals keygen` makes one.") from error


def _report(line: str) -> None:
    typer.echo(plain(line), err=True)  # not among the results: standard output may go to a program


def download(
    ctx: Context,
    name: NameAtAlias,
    where: Annotated[
        list[str],
        typer.Argument(
            metavar="[VERSION] DIR",
            help="The version, the latest without it; and the folder.",
            show_default=False,
            autocompletion=completing.versions,
        ),
    ],
) -> None:
    """Copy a version's files into a folder, verified; files that are there with the same bytes stay."""
    from registry.cli.progress import RichProgress

    if len(where) > 2:  # noqa: PLR2004 - version and folder
        raise InvalidInputError(f"download takes a version and a folder; found {' '.join(where)}.")
    version, folder = (where[0] if len(where) > 1 else None), Path(where[-1])
    registry = ctx.obj.open()
    found = registry.get_model_metadata(name, version)
    with RichProgress():
        path = registry.download(found.name, found.version, folder)
    from registry.cli.summaries import DownloadPage

    ctx.obj.tell(DownloadPage(version=found, path=str(path)), f"{found.full_name} is in {path}, verified")
