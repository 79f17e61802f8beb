"""Draw accuracy against latency: one point for the original and one for each engine."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from registry.engines.judgement import Point

_CHOSEN, _FIT, _REFUSED, _LINE = "#1a7f37", "#0969da", "#cf222e", "#8c959f"
_WIDE = 4
_SIZE_INCHES, _DPI = (8.0, 4.8), 120


def pareto_plot(points: Sequence[Point], *, title: str, accuracy: str) -> bytes:
    """Return a PNG with a point for each row of the Pareto table, its interval, and the front as a line.

    Args:
        points: The rows, at least one.
        title: What stands above.
        accuracy: The name of the vertical axis.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = [point for point in points if point.accuracy is not None]
    _front(axes, shown)
    for point in shown:
        _mark(axes, point)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=_ticks([point.latency.p50_ms for point in shown])))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.margins(x=0.25, y=0.25)
    batch = points[0].latency.batch
    axes.set_xlabel(f"latency of a batch of {batch} in ms (p50, with the quartiles' distance as a bar)")
    axes.set_ylabel(accuracy)
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    written = io.BytesIO()
    figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()


def _ticks(times_ms: Sequence[float]) -> Sequence[float]:
    """Return where in a decade a number stands: more often where there are few decades."""
    wide = max(times_ms) > _WIDE * min(times_ms)
    return (1.0, 2.0, 5.0) if wide else (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)


def _front(axes: Axes, points: Sequence[Point]) -> None:
    front = [(point.latency.p50_ms, point.accuracy or 0.0) for point in points if point.on_front]
    axes.plot([x for x, _ in front], [y for _, y in front], color=_LINE, linewidth=1, zorder=1, linestyle="--")


def _mark(axes: Axes, point: Point) -> None:
    colour = _CHOSEN if point.chosen else _FIT if point.fit else _REFUSED
    x, y = point.latency.p50_ms, point.accuracy or 0.0
    between = point.interval
    axes.errorbar(
        x,
        y,
        xerr=(point.latency.spread_ms or 0.0) / 2,
        yerr=None if between is None else [[max(0.0, y - between.low)], [max(0.0, between.high - y)]],
        fmt="D" if point.key is None else "o",
        color=colour,
        markersize=9 if point.chosen else 6,
        capsize=2,
        elinewidth=0.8,
        zorder=2,
    )
    words = point.name + (" (chosen)" if point.chosen else "" if point.fit else " (refused)")
    axes.annotate(words, (x, y), xytext=(7, 6), textcoords="offset points", fontsize=8, color=colour)
