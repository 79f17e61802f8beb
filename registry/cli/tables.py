"""Tables for people: no colour and no folded lines where standard output is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from registry.cli.cells import add_row, approval_line, facts_of, metrics_line, table_of, time_of
from registry.cli.summaries import ModelSummary, VersionPage
from registry.clock import minute
from registry.compare import VersionComparison
from registry.engines.judgement import Judgement
from registry.engines.table import engine_table
from registry.records import EngineChoice, FileEntry, ModelVersion, Run, StageTransition, Variant
from registry.signature import Signature, TensorSpec

_FEW_METRICS = 4
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
    table = table_of("model", "versions", "latest", "production", "stages")
    for model in models:
        holder = model.production
        held = "-" if holder is None else f"{holder.version} since {time_of(holder.since)}"
        stages = ", ".join(f"{stage} {count}" for stage, count in model.stages.items())
        add_row(table, model.name, str(model.versions), model.latest, held, stages)
    return table


def of_versions(versions: Iterable[ModelVersion]) -> Table:
    """Return a row for each version, with the first few of its metrics."""
    table = table_of("version", "stage", "metrics", "aliases", "created (UTC)")
    for one in versions:
        aliases = ", ".join(one.aliases) or "-"
        metrics = metrics_line(one.metrics, at_most=_FEW_METRICS)
        add_row(table, one.version, one.stage, metrics, aliases, minute(one.created_at, zone=False))
    return table


def of_version(page: VersionPage) -> list[Table]:
    """Return everything of a version: its facts, its files, its engines."""
    table = facts_of(page.version.full_name)
    for fact, words in _facts_of(page.version, page.engine):
        if words:
            add_row(table, fact, words)
    tables = [table]
    if page.files:
        tables.append(_of_files(page.files))
    if page.variants:
        tables.append(of_engines(page.variants, page.engine, page.judgement))
    return tables


def _facts_of(version: ModelVersion, engine: EngineChoice) -> Iterator[tuple[str, str]]:
    yield "stage", f"{version.stage} since {time_of(version.stage_since)}"
    yield "created", f"{time_of(version.created_at)} by {version.created_by}"
    yield "description", version.description
    yield "framework", version.framework or ""
    yield "metrics", metrics_line(version.metrics)
    yield "parameters", _pairs(version.parameters)
    yield "tags", _pairs(version.tags)
    yield "aliases", ", ".join(version.aliases)
    yield "signature", _signature(version.signature)
    yield "lineage", _pairs(version.described.lineage)
    yield "approvals", "\n".join(map(approval_line, version.approvals))
    yield "deployments", "\n".join(f"{one.endpoint} since {time_of(one.at)}" for one in version.deployments)
    yield "engine", engine.reason
    if version.artifact is not None:
        yield "artifact", f"{version.artifact.digest} ({decimal(version.artifact.size_bytes)})"
    yield "metadata", version.metadata_digest
    yield "path", version.artifact_path


def _of_files(files: Iterable[FileEntry]) -> Table:
    table = table_of("file", "size", "digest")
    for file in files:
        add_row(table, file.path, decimal(file.size_bytes), file.sha256)
    return table


def of_engines(variants: Sequence[Variant], engine: EngineChoice, judgement: Judgement | None) -> Table:
    """Return a row for the model as it was registered, where it was measured, and one for each engine."""
    head, rows = engine_table(variants, engine, judgement)
    table = table_of(*head)
    for row in rows:
        add_row(table, *row)
    return table


def of_history(moves: Iterable[StageTransition], runs: Iterable[Run]) -> Table:
    """Return a row for each change of stage, and for each beginning and end of a run, the oldest first."""
    rows = [*map(_move, moves), *(row for run in runs for row in _run(run))]
    table = table_of("time (UTC)", "version", "from", "to", "by", "reason, approval")
    for at, *cells in sorted(rows, key=itemgetter(0)):
        add_row(table, minute(at, zone=False), *cells)
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
    table = table_of("", *(version.full_name for version in comparison.versions), "change")
    for row in comparison.rows():
        add_row(table, *row)
    return table


def _pairs(pairs: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" if value != "" else name for name, value in pairs.items())


def _signature(signature: Signature | None) -> str:
    if signature is None:
        return ""
    return f"{_tensors(signature.inputs)} -> {_tensors(signature.outputs)}"


def _tensors(tensors: Iterable[TensorSpec]) -> str:
    return ", ".join(
        f"{one.name} {one.dtype}[{', '.join('n' if n < 0 else str(n) for n in one.shape)}]" for one in tensors
    )
