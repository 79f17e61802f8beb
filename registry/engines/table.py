"""The table of a version's engines: the original first, then every candidate, as it is shown everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from rich.filesize import decimal

from registry.engines.judgement import Judgement, points_of
from registry.engines.records import Interval, Latency, VariantReport
from registry.records import EngineChoice, Variant

WIDE = ("agrees", "front", "size", "key")
"""What a narrow page has no room for."""

Table: TypeAlias = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""The head, and the rows."""


def engine_table(
    variants: Sequence[Variant], choice: EngineChoice, judgement: Judgement | None, *, brief: bool = False
) -> Table:
    """Return the head and the rows: how fast, how good, on the Pareto front or not, and why not chosen.

    Args:
        variants: What is kept beside the version; shown where there is no judgement.
        choice: What was chosen.
        judgement: The evidence of the choice, whose candidates are shown with those that failed.
        brief: For a narrow page: what a person decides by, and why an engine was not run left out.
    """
    reports = [one.report for one in variants] if judgement is None else list(judgement.candidates)
    interval = None if judgement is None else judgement.baseline_interval
    # The original may have been measured with fewer threads than the engines.
    columns = _columns([*choice.baseline, *(latency for one in reports for latency in one.latency)])
    points = points_of(reports, choice.baseline, choice.baseline_score, choice.key, interval)
    front = {point.key for point in points if point.on_front}
    rows = [_original(choice, interval, columns, on_front=None in front)] if choice.baseline else []
    rows += [_row(one, choice, columns, on_front=one.key in front, brief=brief) for one in reports]
    head = ("engine", "score", "agrees", *(_title(*column) for column in columns), "front", "size", "key", "remark")
    shown = [number for number, name in enumerate(head) if not (brief and name in WIDE)]
    return tuple(head[number] for number in shown), [tuple(row[number] for number in shown) for row in rows]


def _columns(latency: Sequence[Latency]) -> list[tuple[int, int]]:
    return list(dict.fromkeys((one.batch, one.threads) for one in latency))


def _title(batch: int, threads: int) -> str:
    return f"p50 / p99 ms @{batch}" + (f" x{threads} threads" if threads > 1 else "")


def _original(
    choice: EngineChoice, interval: Interval | None, columns: Sequence[tuple[int, int]], *, on_front: bool
) -> tuple[str, ...]:
    times = _times(choice.baseline, columns)
    chosen = "chosen" if choice.key is None else ""
    score = _score(choice.baseline_score, interval)
    return ("as registered", score, "-", *times, "yes" if on_front else "", "-", "-", chosen)


def _row(
    report: VariantReport, choice: EngineChoice, columns: Sequence[tuple[int, int]], *, on_front: bool, brief: bool
) -> tuple[str, ...]:
    chosen = report.status == "measured" and report.key == choice.key
    return (
        report.engine,
        _score(report.score, report.score_interval),
        "-" if report.parity is None else "yes" if report.parity.passed else "no",
        *_times(report.latency, columns),
        "yes" if on_front and report.latency else "",
        "-" if report.size_bytes is None else decimal(report.size_bytes),
        report.key[:12] if report.file else "-",
        "chosen" if chosen else _remark(report, brief=brief),
    )


def _remark(report: VariantReport, *, brief: bool) -> str:
    if brief and report.status == "built":
        return "not run here"
    words = (report.objection or report.reason).split("\n")[0]
    return words if report.status in {"measured", "built"} else f"{report.status}: {words}"


def _times(latency: Sequence[Latency], columns: Sequence[tuple[int, int]]) -> Iterator[str]:
    found = {(one.batch, one.threads): one for one in latency}
    for column in columns:
        one = found.get(column)
        yield "-" if one is None else f"{one.p50_ms:.3g} / {one.p99_ms:.3g}"


def _score(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "-"
    between = "" if interval is None else f" ({interval.low:.4f} to {interval.high:.4f})"
    return f"{value:.4f}{between}"
