"""How versions differ: metrics side by side, with direction and relative change."""

from __future__ import annotations

import io
import math
from typing import Literal

from registry.base import StoredRecord
from registry.records import ModelVersion

_LOWER_IS_BETTER = ("mse", "mae", "rmse", "loss", "error", "perplexity")


def lower_is_better(metric: str) -> bool:
    """Return whether a metric of this name is a cost: an error, a loss or a time."""
    words = metric.lower().replace("-", "_").split("_")
    return (
        words[-1] in {"ms", "s", "seconds", "bytes"}
        or any(word in _LOWER_IS_BETTER for word in words)
        or "latency" in words
    )


_WIDEST = 10_000
"""A table is as wide as its cells; a label cut off by the width of some terminal would name no version."""


class MetricDiff(StoredRecord):
    """A metric of two versions; None where one was not measured."""

    metric: str
    value_a: float | None
    value_b: float | None

    @property
    def difference(self) -> float | None:
        """Value b minus value a, in the metric's own unit."""
        return None if self.value_a is None or self.value_b is None else self.value_b - self.value_a

    @property
    def percent_change(self) -> float:
        """The change from a to b in percent of a; infinite from zero, NaN where one is missing."""
        if self.difference is None or self.value_a is None:
            return math.nan
        if self.difference == 0:
            return 0.0
        return (
            math.copysign(math.inf, self.difference)
            if self.value_a == 0
            else 100.0 * self.difference / abs(self.value_a)
        )

    @property
    def improved(self) -> bool | None:
        """Whether b is better than a; None where they are equal or one is missing."""
        if not self.difference:
            return None
        return (self.difference < 0) is lower_is_better(self.metric)

    @property
    def verdict(self) -> Literal["better", "worse", "equal", ""]:
        """How b is beside a, in a word; empty where one is missing."""
        if self.improved is None:
            return "" if self.difference is None else "equal"
        return "better" if self.improved else "worse"


class VersionComparison(StoredRecord):
    """Two or more versions of a model; the differences are from the first to the last. ``str()`` is a table."""

    versions: tuple[ModelVersion, ...]

    @property
    def version_a(self) -> str:
        """The label of the first version."""
        return self.versions[0].version

    @property
    def version_b(self) -> str:
        """The label of the last version."""
        return self.versions[-1].version

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that any of them has, in the order in which they first appear."""
        return tuple(dict.fromkeys(name for version in self.versions for name in version.metrics.keys()))  # noqa: SIM118 - iteration gives pairs

    @property
    def metric_diffs(self) -> dict[str, MetricDiff]:
        """The differences from the first to the last version, by metric."""
        first, last = self.versions[0].metrics, self.versions[-1].metrics
        return {name: MetricDiff(metric=name, value_a=first.get(name), value_b=last.get(name)) for name in self.metrics}

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table's rows: stage, then each metric with its values and its change."""
        rows = [("stage", *(version.stage.value for version in self.versions), "")]
        for name, diff in self.metric_diffs.items():
            values = (_shown(version.metrics.get(name)) for version in self.versions)
            rows.append((name, *values, _change(diff)))
        return rows

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        table = Table("", *(version.full_name for version in self.versions), "change")
        for row in self.rows():
            table.add_row(*row)
        text = io.StringIO()
        Console(file=text, width=_WIDEST, no_color=True).print(table)
        return text.getvalue().rstrip()


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _change(diff: MetricDiff) -> str:
    if math.isnan(diff.percent_change):
        return "-"
    verdict = f" {diff.verdict}" if diff.difference else ""
    return f"{diff.percent_change:+.2f}%{verdict}"
