"""What an open version did: counters that the event loop's thread alone writes, and their two forms for the outside.

Nothing here locks or allocates per request; the forms are made when somebody asks for them.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from registry.endpoints.serving import ServedRole

LATENCY_BUCKETS_MS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 3e4)
"""Upper bounds in milliseconds, included, of the histograms of latency and waiting; slower ones are in none."""

BATCH_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
"""Upper bounds in samples, included, of the histogram of batches."""

Outcome = Literal["ok", "failed", "late", "invalid"]
"""``failed`` could not be computed, ``late`` took longer than it may, ``invalid`` was refused for its form."""

_ERRORS: tuple[Outcome, ...] = ("failed", "late")


class Histogram:
    """How many values were at most so large; ``total`` is the sum of all of them."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Begin with nothing counted; ``bounds`` ascend, and what is above the last is counted apart."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[float, int]]:
        """Return each bound with how many values were at most so large; the last bound is infinite."""
        return list(zip((*self.bounds, float("inf")), accumulate(self.counts), strict=True))


@dataclass(slots=True)
class Durations:
    """How often something was done and how long that took altogether, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Add what ``count`` times took."""
        self.count += count
        self.ns += ns

    def as_triton(self) -> dict[str, int]:
        """Return it as Triton writes it."""
        return {"count": self.count, "ns": self.ns}


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of an engine: how many samples, and nanoseconds of joining, computing and splitting."""

    samples: int
    input_ns: int
    infer_ns: int
    output_ns: int


@dataclass(slots=True)
class _Batches:
    """What the batches of one size took."""

    input: Durations = field(default_factory=Durations)
    infer: Durations = field(default_factory=Durations)
    output: Durations = field(default_factory=Durations)


@dataclass(slots=True)
class Counters:
    """What one version did since it was opened under its address; only the event loop's thread writes here."""

    requests: Counter[tuple[ServedRole, Outcome]] = field(default_factory=Counter)
    latency_ms: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS_MS))
    queue_ms: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS_MS))
    batches: Histogram = field(default_factory=lambda: Histogram(BATCH_BUCKETS))
    samples: int = 0
    last_inference_ms: int = 0
    labelled: int = 0
    correct: int = 0
    _success: Durations = field(default_factory=Durations)
    _fail: Durations = field(default_factory=Durations)
    _by_size: dict[int, _Batches] = field(default_factory=dict)

    def answered(self, role: ServedRole, samples: int, latency_ns: int) -> None:
        """Count a request that got its answer."""
        self.requests[role, "ok"] += 1
        self.samples += samples
        self.latency_ms.add(latency_ns / 1e6)
        self._success.add(latency_ns)

    def failed(self, role: ServedRole, outcome: Outcome, latency_ns: int) -> None:
        """Count a request that got none; one that was refused for its form says nothing about the version."""
        self.requests[role, outcome] += 1
        if outcome in _ERRORS:
            self.latency_ms.add(latency_ns / 1e6)
            self._fail.add(latency_ns)

    def waited(self, queue_ns: int) -> None:
        """Count how long a request waited until it was computed."""
        self.queue_ms.add(queue_ns / 1e6)

    def executed(self, execution: Execution) -> None:
        """Count one run of the engine."""
        self.batches.add(execution.samples)
        self.last_inference_ms = time.time_ns() // 1_000_000
        of_size = self._by_size.get(execution.samples)
        if of_size is None:
            of_size = self._by_size[execution.samples] = _Batches()
        of_size.input.add(execution.input_ns)
        of_size.infer.add(execution.infer_ns)
        of_size.output.add(execution.output_ns)

    def as_triton(self) -> dict[str, Any]:
        """Return it as Triton's ``model_stats`` has it, all but name and version; ``modelway`` adds what it lacks."""
        by_size = sorted(self._by_size.items())
        executions = sum(batches.infer.count for _, batches in by_size)
        queue = Durations(sum(self.queue_ms.counts), round(self.queue_ms.total * 1e6))
        parts = {
            f"compute_{part}": {"count": executions, "ns": sum(getattr(batches, part).ns for _, batches in by_size)}
            for part in ("input", "infer", "output")
        }
        stats = {"success": self._success.as_triton(), "fail": self._fail.as_triton(), "queue": queue.as_triton()}
        return {
            "last_inference": self.last_inference_ms,
            "inference_count": self.samples,
            "execution_count": executions,
            "inference_stats": {**stats, **parts},
            "batch_stats": [
                {
                    "batch_size": size,
                    **{f"compute_{part}": getattr(of_size, part).as_triton() for part in ("input", "infer", "output")},
                }
                for size, of_size in by_size
            ],
            "modelway": self.as_counted(),
        }

    def as_counted(self) -> dict[str, Any]:
        """Return it in the words of ``Counted``, those refused for their form beside it as ``invalid``."""
        by_outcome: Counter[str] = Counter()
        for (_, outcome), count in self.requests.items():
            by_outcome[outcome] += count
        errors = sum(by_outcome[outcome] for outcome in _ERRORS)
        return {
            "requests": by_outcome["ok"] + errors,
            "errors": errors,
            "invalid": by_outcome["invalid"],
            "latency_sum_ms": self.latency_ms.total,
            "latency_ms": self.latency_ms.cumulative()[:-1],
            "labelled": self.labelled,
            "correct": self.correct,
        }
