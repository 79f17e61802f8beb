"""How long a call takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from registry.engines.batches import batch_of, run_in_batches
from registry.engines.latency import measure, percentile_ms
from registry.engines.spec import BatchRange
from registry.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def test_quantiles_lie_between_neighbours() -> None:
    samples_ms = np.array([4.0, 1.0, 3.0, 2.0])
    assert percentile_ms(samples_ms, 0.5) == 2.5
    assert (percentile_ms(samples_ms, 0), percentile_ms(samples_ms, 1)) == (1, 4)
    assert percentile_ms(samples_ms, 0.95) == pytest.approx(3.85)


@pytest.mark.parametrize(("samples_ms", "q"), [([], 0.5), ([1.0, np.nan], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_quantiles_of_nothing_or_of_nan_are_refused(samples_ms: list[float], q: float) -> None:
    with pytest.raises(InvalidInputError, match="it needs at least one, no NaN, and a fraction from 0 to 1"):
        percentile_ms(np.array(samples_ms), q)


def test_the_warm_up_is_called_and_not_counted() -> None:
    sizes = []
    latency = measure(lambda batch: sizes.append(len(batch)), np.zeros((3, 2)), warmup=4, repetitions=20)
    assert sizes == [3] * 24
    assert (latency.batch, latency.repetitions) == (3, 20)
    assert 0 <= latency.p50_ms <= latency.p95_ms <= latency.p99_ms
    assert latency.samples_per_s > 0


def test_a_batch_larger_than_the_samples_begins_again() -> None:
    assert batch_of(np.arange(3), 7).tolist() == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_all_samples_go_through_in_batches_that_the_engine_takes(count: int) -> None:
    seen = []

    def double(batch: NDArray[Any]) -> NDArray[Any]:
        seen.append(len(batch))
        return batch * 2

    found = run_in_batches(double, np.arange(count), batch=BatchRange(min=2, opt=2, max=4))
    assert found.tolist() == [2 * value for value in range(count)]
    assert all(2 <= size <= 4 for size in seen)
