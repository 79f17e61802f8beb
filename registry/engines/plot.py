"""Draw accuracy against latency: one point for the original and one for each engine."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from registry.engines.judgement import Point

_LINE = "#8c959f"
_WIDE = 4
_SIZE_INCHES, _DPI = (9.0, 4.6), 110


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
    for number, point in enumerate(shown):
        _mark(axes, point, number)
    # Beside the picture: engines that are equally fast would write over each other in it.
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=_ticks([point.latency.p50_ms for point in shown])))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.margins(x=0.15, y=0.15)
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


def _mark(axes: Axes, point: Point, number: int) -> None:
    x, y = point.latency.p50_ms, point.accuracy or 0.0
    between = point.interval
    words = " (chosen)" if point.chosen else "" if point.fit else " (refused)"
    axes.errorbar(
        x,
        y,
        xerr=(point.latency.spread_ms or 0.0) / 2,
        yerr=None if between is None else [[max(0.0, y - between.low)], [max(0.0, between.high - y)]],
        fmt="*" if point.chosen else "D" if point.key is None else "o" if point.fit else "x",
        color=f"C{number % 10}",
        markersize=14 if point.chosen else 7,
        capsize=2,
        elinewidth=0.8,
        zorder=2,
        label=point.name + words,
    )
