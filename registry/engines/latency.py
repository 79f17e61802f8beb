"""Measure how long a call takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.engines.records import Latency
from registry.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def measure(call: Callable[[NDArray[Any]], object], batch: NDArray[Any], *, warmup: int, repetitions: int) -> Latency:
    """Call it again and again with one batch and return the quantiles of the wall-clock time.

    Args:
        call: What is measured; it returns when its answer is there (a GPU's copies are part of it).
        batch: Shape (b, ...), b >= 1.
        warmup: Calls before the clock runs, >= 0.
        repetitions: Calls that are measured, >= 1.
    """
    for _ in range(warmup):
        call(batch)
    samples_ms = np.empty(repetitions)
    for index in range(repetitions):
        start_ns = time.perf_counter_ns()
        call(batch)
        samples_ms[index] = (time.perf_counter_ns() - start_ns) / 1e6
    p25, p50, p75, p95, p99 = (percentile_ms(samples_ms, q) for q in (0.25, 0.5, 0.75, 0.95, 0.99))
    return Latency(
        batch=len(batch),
        repetitions=repetitions,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        samples_per_s=len(batch) * repetitions / max(float(samples_ms.sum()) / 1e3, 1e-9),
        spread_ms=p75 - p25,
    )


def percentile_ms(samples_ms: NDArray[np.float64], q: float) -> float:
    """Return the q-quantile of measured latencies, interpolated between neighbours.

    Args:
        samples_ms: Milliseconds, float64, shape (n,), n >= 1, in any order, warm-up removed.
        q: Fraction in [0, 1]; 0.99 for p99.

    Raises:
        InvalidInputError: No samples, a NaN among them, or q outside [0, 1].

    Source: Hyndman and Fan, "Sample Quantiles", Am. Statistician 50(4), 1996, type 7.
    """
    if len(samples_ms) == 0 or np.isnan(samples_ms).any() or not 0 <= q <= 1:
        raise InvalidInputError(
            f"the {q:g}-quantile of {len(samples_ms)} latencies was asked for; it needs at least one, no NaN, and a "
            "fraction from 0 to 1."
        )
    return float(np.quantile(samples_ms, q))
