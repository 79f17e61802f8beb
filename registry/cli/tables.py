"""Tables for people: no colour and no folded lines where standard output is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from registry.cli.summaries import EndpointPage, ModelSummary, VersionPage
from registry.cli.text import plain
from registry.clock import minute
from registry.compare import VersionComparison
from registry.endpoints.desired import Observed
from registry.engines.judgement import Judgement
from registry.engines.table import engine_table
from registry.metrics import ModelMetrics
from registry.records import Approval, EngineChoice, FileEntry, ModelVersion, Run, StageTransition, Variant
from registry.signature import Signature, TensorSpec

_FEW_METRICS = 4
_MAY_WRAP = {"stages", "metrics", "aliases", "by", "reason, approval", "digest", "remark", ""}
_WIDTH_WHEN_PIPED = 400  # a row stays one line, for grep and cut


def write(*tables: Table) -> None:
    """Write tables to standard output."""
    # Nothing that users wrote is read as markup.
    piped = not sys.stdout.isatty()
    console = Console(markup=False, highlight=False, emoji=False, width=_WIDTH_WHEN_PIPED if piped else None)
    for table in tables:
        console.print(table, no_wrap=piped, crop=not piped)


def of_models(models: Iterable[ModelSummary]) -> Table:
    """Return a row for each model."""
    table = _table("model", "versions", "latest", "production", "stages")
    for model in models:
        holder = model.production
        held = "-" if holder is None else f"{holder.version} since {_time(holder.since)}"
        stages = ", ".join(f"{stage} {count}" for stage, count in model.stages.items())
        _row(table, model.name, str(model.versions), model.latest, held, stages)
    return table


def of_versions(versions: Iterable[ModelVersion]) -> Table:
    """Return a row for each version, with the first few of its metrics."""
    table = _table("version", "stage", "metrics", "aliases", "created (UTC)")
    for one in versions:
        aliases = ", ".join(one.aliases) or "-"
        metrics = _metrics(one.metrics, at_most=_FEW_METRICS)
        _row(table, one.version, one.stage, metrics, aliases, minute(one.created_at, zone=False))
    return table


def of_version(page: VersionPage) -> list[Table]:
    """Return everything of a version: its facts, its files, its engines."""
    table = _facts(page.version.full_name)
    for fact, words in _facts_of(page.version, page.engine):
        if words:
            _row(table, fact, words)
    tables = [table]
    if page.files:
        tables.append(_of_files(page.files))
    if page.variants:
        tables.append(of_engines(page.variants, page.engine, page.judgement))
    return tables


def _facts_of(version: ModelVersion, engine: EngineChoice) -> Iterator[tuple[str, str]]:
    yield "stage", f"{version.stage} since {_time(version.stage_since)}"
    yield "created", f"{_time(version.created_at)} by {version.created_by}"
    yield "description", version.description
    yield "framework", version.framework or ""
    yield "metrics", _metrics(version.metrics)
    yield "parameters", _pairs(version.parameters)
    yield "tags", _pairs(version.tags)
    yield "aliases", ", ".join(version.aliases)
    yield "signature", _signature(version.signature)
    yield "lineage", _pairs(version.described.lineage)
    yield "approvals", "\n".join(map(_approval, version.approvals))
    yield "deployments", "\n".join(f"{one.endpoint} since {_time(one.at)}" for one in version.deployments)
    yield "engine", engine.reason
    if version.artifact is not None:
        yield "artifact", f"{version.artifact.digest} ({decimal(version.artifact.size_bytes)})"
    yield "metadata", version.metadata_digest
    yield "path", version.artifact_path


def _of_files(files: Iterable[FileEntry]) -> Table:
    table = _table("file", "size", "digest")
    for file in files:
        _row(table, file.path, decimal(file.size_bytes), file.sha256)
    return table


def of_engines(variants: Sequence[Variant], engine: EngineChoice, judgement: Judgement | None) -> Table:
    """Return a row for the model as it was registered, where it was measured, and one for each engine."""
    head, rows = engine_table(variants, engine, judgement)
    table = _table(*head)
    for row in rows:
        _row(table, *row)
    return table


def of_history(moves: Iterable[StageTransition], runs: Iterable[Run]) -> Table:
    """Return a row for each change of stage, and for each beginning and end of a run, the oldest first."""
    rows = [*map(_move, moves), *(row for run in runs for row in _run(run))]
    table = _table("time (UTC)", "version", "from", "to", "by", "reason, approval")
    for at, *cells in sorted(rows, key=itemgetter(0)):
        _row(table, minute(at, zone=False), *cells)
    return table


def _move(move: StageTransition) -> tuple[datetime, str, str, str, str, str]:
    approved = "" if move.approval is None else f"approved by {move.approval.approver} ({move.approval.method})"
    why = "; ".join(filter(None, (move.reason, approved)))
    return move.timestamp, move.version, move.from_stage, move.to_stage, move.actor, why


def _run(run: Run) -> Iterator[tuple[datetime, str, str, str, str, str]]:
    def line(at: datetime, what: str, why: str) -> tuple[datetime, str, str, str, str, str]:
        words = f"run {run.id} {what}{': ' if why else ''}{' '.join(why.split())}"
        return at, run.version or "", "", "", run.kind, words

    yield line(run.started_at, "began", run.reason)
    if run.ending is not None and run.ended_at is not None:
        yield line(run.ended_at, f"ended, {run.ending.replace('_', ' ')}", run.words)


def of_comparison(comparison: VersionComparison) -> Table:
    """Return a column for each version and one for the change from the first to the last."""
    table = _table("", *(version.full_name for version in comparison.versions), "change")
    for row in comparison.rows():
        _row(table, *row)
    return table


def of_endpoints(pages: Iterable[EndpointPage]) -> Table:
    """Return a row for each endpoint."""
    table = _table("endpoint", "serves", "engine", "generation", "state", "url")
    for page in pages:
        one = page.endpoint
        serves = "-" if one.desired is None else f"{one.desired.model}:{one.desired.version}"
        engine = "-" if one.observed is None else one.observed.engine
        _row(table, one.name, serves, engine, str(one.generation), _state(page), page.url or "-")
    return table


def of_endpoint(page: EndpointPage) -> Table:
    """Return everything of an endpoint."""
    one = page.endpoint
    table = _facts(one.name)
    _row(table, "state", _state(page))
    if one.desired is not None:
        _row(table, "serves", f"{one.desired.model}:{one.desired.version} (generation {one.generation})")
        _row(table, "why", one.desired.why or "-")
        _row(table, "metadata", one.desired.metadata_digest)
        _row(table, "variant", one.desired.variant or "the model's own ONNX")
    if one.observed is not None:
        for fact, words in _facts_of_process(one.observed):
            _row(table, fact, words)
    _row(table, "url", page.url or "-")
    return table


def _facts_of_process(seen: Observed) -> Iterator[tuple[str, str]]:
    yield "process", f"{seen.server.pid} on {seen.host}, since {_time(seen.since)}"
    yield "engine", seen.engine + (f": {seen.why_engine}" if seen.why_engine else "")
    if seen.golden is not None:
        yield "golden samples", f"{seen.golden.samples}, largest difference {_number(seen.golden.max_abs)}"


def _state(page: EndpointPage) -> str:
    if page.endpoint.desired is None:
        return "stopped"
    if page.endpoint.running:
        return "running"
    return "not running here"


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in headings:
        # Where it is narrow, words give way before names, stages and times do; nothing is cut short.
        table.add_column(heading, no_wrap=heading not in _MAY_WRAP, overflow="fold")
    table.columns[0].style = "bold"
    return table


def _facts(title: str) -> Table:
    table = Table(
        title=plain(title),
        title_justify="left",
        title_style="bold",
        show_header=False,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(plain(str(cell)) or "-" for cell in cells))


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _metrics(metrics: ModelMetrics, *, at_most: int | None = None) -> str:
    found = [f"{name} {value:.4g}" for name, value in metrics.items()]
    shown, left = found[:at_most], len(found) - len(found[:at_most])
    return ", ".join([*shown, *([f"{left} more"] if left else [])]) or "-"


def _pairs(pairs: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" if value != "" else name for name, value in pairs.items())


def _approval(answer: Approval) -> str:
    reason = f": {answer.reason}" if answer.reason else ""
    return f"{answer.decision} by {answer.approver} ({answer.method}) {_time(answer.decided_at)}{reason}"


def _signature(signature: Signature | None) -> str:
    if signature is None:
        return ""
    return f"{_tensors(signature.inputs)} -> {_tensors(signature.outputs)}"


def _tensors(tensors: Iterable[TensorSpec]) -> str:
    return ", ".join(
        f"{one.name} {one.dtype}[{', '.join('n' if n < 0 else str(n) for n in one.shape)}]" for one in tensors
    )
