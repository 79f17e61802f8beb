"""The tables of the verbs that keep a registry in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.table import Table

from registry.cli.text import plain
from registry.clock import minute
from registry.reports import Finding, GcReport, Probe

_SIGNS = {True: "ok", False: "FAILED", None: "-"}


def of_findings(findings: Iterable[Finding], remarks: Iterable[Finding]) -> Iterator[Table]:
    """Yield a row for each thing that is wrong, and for each that harms nobody; no table where there is none."""
    for title, listed in (("not as recorded", findings), ("harmless", remarks)):
        if rows := list(listed):
            table = _table(title, "what", "byte", "what to do")
            for one in rows:
                byte = "-" if one.offset is None else str(one.offset)
                _row(table, one.file, f"{one.what}: {one.problem}", byte, one.mend)
            yield table


def of_probes(probes: Iterable[Probe]) -> Table:
    """Return a row for each thing that was tried of a storage."""
    table = _table("probe", "", "what was seen")
    for probe in probes:
        _row(table, probe.name, _SIGNS[probe.passed], probe.detail)
    return table


def of_leftovers(report: GcReport) -> Iterator[Table]:
    """Yield what was or would be removed, and what stays although it may be of no use."""
    done = "would be removed" if report.dry_run else "removed"
    removed = [(one.file, one.why) for one in report.removed]
    removed += [(file, "an unfinished write") for file in report.temporary]
    for title, rows in ((done, removed), ("kept", [(one.file, one.why) for one in report.kept])):
        if rows:
            table = _table(title, "why")
            for row in rows:
                _row(table, *row)
            yield table
    if report.abandoned:
        table = _table("given up" if not report.dry_run else "would be given up", "set aside (UTC)")
        for one in report.abandoned:
            _row(table, f"{one.model}:{one.version}", minute(one.since, zone=False))
        yield table


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(plain(cell) or "-" for cell in cells))
