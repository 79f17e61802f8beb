"""The pipeline's own metric on outputs, and how sure its value is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.engines.records import Interval
from registry.errors import EngineError, InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.engines.spec import OptimizeSpec

Score = Callable[..., float]
"""Gives a metric, higher is better, for outputs of shape (n, ...), or for outputs and their labels."""

SEED = 7


@dataclass(frozen=True)
class Scorer:
    """A metric with the labels of the samples that it is measured on; ``labels`` is None for one that knows its own."""

    score: Score
    labels: NDArray[Any] | None = None

    def of(self, outputs: NDArray[Any]) -> float:
        """Return the metric for the outputs of all samples, shape (n, ...)."""
        return float(self.score(outputs) if self.labels is None else self.score(outputs, self.labels))

    def of_original(self, outputs: NDArray[Any]) -> float:
        """Return the metric for the original's outputs.

        Raises:
            InvalidInputError: There is not one label for each.
            EngineError: It is no finite number.
        """
        if self.labels is not None and len(self.labels) != len(outputs):
            raise InvalidInputError(
                f"{len(self.labels)} labels were given for {len(outputs)} samples. Give one label for each sample."
            )
        found = self.of(outputs)
        if not math.isfinite(found):
            raise EngineError(f"the score of the original's outputs is {found}: a number is needed there.")
        return found

    def interval(self, outputs: NDArray[Any], *, spec: OptimizeSpec) -> Interval | None:
        """Return where the score lies, by resampling the samples; None without labels or resamples."""
        return self._resampled(lambda rows: self._on(outputs, rows), spec)

    def drop_interval(self, original: NDArray[Any], outputs: NDArray[Any], *, spec: OptimizeSpec) -> Interval | None:
        """Return where the original's score minus these outputs' lies, both on the same resampled samples."""
        return self._resampled(lambda rows: self._on(original, rows) - self._on(outputs, rows), spec)

    def _on(self, outputs: NDArray[Any], rows: NDArray[Any]) -> float:
        found = math.nan if self.labels is None else float(self.score(outputs[rows], self.labels[rows]))
        if not math.isfinite(found):  # scipy would go on, and warn of a method that is not used here
            raise ValueError(f"the score of a resample is {found}")
        return found

    def _resampled(self, statistic: Callable[[NDArray[Any]], float], spec: OptimizeSpec) -> Interval | None:
        """Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval)."""
        if self.labels is None or spec.resamples == 0 or len(self.labels) < 2:  # noqa: PLR2004 - one has no spread
            return None
        from scipy.stats import bootstrap

        try:
            found = bootstrap(
                (np.arange(len(self.labels)),),
                statistic,
                n_resamples=spec.resamples,
                confidence_level=spec.confidence,
                method="percentile",
                vectorized=False,
                rng=np.random.default_rng(SEED),
            ).confidence_interval
        except (ValueError, ZeroDivisionError):
            return None  # a metric that is not defined on some resample: one that lacks a class, say
        return Interval(low=float(found.low), high=float(found.high), confidence=spec.confidence)
