"""Cut samples into batches that an engine takes, and put its answers together again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from registry.engines.spec import BatchRange


def batch_of(samples: NDArray[Any], size: int) -> NDArray[Any]:
    """Return ``size`` samples from the first on, beginning again where there are fewer.

    Args:
        samples: Shape (n, ...), n >= 1.
        size: How many, >= 1.
    """
    return np.ascontiguousarray(samples[np.arange(size) % len(samples)])


def run_in_batches(
    call: Callable[[NDArray[Any]], NDArray[Any]], samples: NDArray[Any], *, batch: BatchRange
) -> NDArray[Any]:
    """Return the outputs for all samples, shape (n, ...), asked for in batches no larger than ``batch.max``.

    Args:
        call: Takes (b, ...), gives (b, ...).
        samples: Shape (n, ...), n >= 1.
        batch: The sizes that ``call`` takes; a rest below ``batch.min`` is filled up and cut off again.
    """
    outputs = []
    for start in range(0, len(samples), batch.max):
        rows = samples[start : start + batch.max]
        filled = rows if len(rows) >= batch.min else batch_of(rows, batch.min)
        outputs.append(call(np.ascontiguousarray(filled))[: len(rows)])
    return np.concatenate(outputs)
