"""What the tables of the command line are made of: rows, times, numbers, answers of people."""

from __future__ import annotations

from datetime import datetime

from rich import box
from rich.table import Table

from registry.cli.text import plain
from registry.metrics import ModelMetrics
from registry.records import Approval

_MAY_WRAP = {"stages", "metrics", "aliases", "by", "reason, approval", "digest", "remark", "", "what", "url"}


def table_of(*headings: str) -> Table:
    """Return an empty table; where it is narrow, words give way before names, stages and times do."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in headings:
        # Where it is narrow, words give way before names, stages and times do; nothing is cut short.
        table.add_column(heading, no_wrap=heading not in _MAY_WRAP, overflow="fold")
    table.columns[0].style = "bold"
    return table


def facts_of(title: str) -> Table:
    """Return an empty table of facts, a name and its value in each row."""
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


def add_row(table: Table, *cells: str) -> None:
    """Add a row; a cell without words is a dash."""
    table.add_row(*(plain(str(cell)) or "-" for cell in cells))


def time_of(moment: datetime) -> str:
    """Return a moment as people read it, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def number(value: float | None) -> str:
    """Return a number with four digits that count, a dash for none."""
    return "-" if value is None else f"{value:.4g}"


def metrics_line(metrics: ModelMetrics, *, at_most: int | None = None) -> str:
    """Return metrics in one line; ``at_most`` of them, and how many more there are."""
    found = [f"{name} {value:.4g}" for name, value in metrics.items()]
    shown, left = found[:at_most], len(found) - len(found[:at_most])
    return ", ".join([*shown, *([f"{left} more"] if left else [])]) or "-"


def approval_line(answer: Approval) -> str:
    """Return who answered what, how and when."""
    reason = f": {answer.reason}" if answer.reason else ""
    return f"{answer.decision} by {answer.approver} ({answer.method}) {time_of(answer.decided_at)}{reason}"
