"""Whether an endpoint gives the outputs that it should, and how fast: golden samples, then every sample over HTTP."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from registry.engines.latency import percentile_ms
from registry.engines.parity import compare
from registry.errors import EndpointError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from registry.endpoints.client import InferenceClient
    from registry.endpoints.tensors import Array
    from registry.engines.records import Parity

_ERRORS_IN_A_ROW = 10


@dataclass(frozen=True)
class TrialReport:
    """What came of sending every sample.

    Args:
        outputs: By name, shape (answered, ...), in the samples' order, without those that had no answer.
        p50_ms: Wall-clock milliseconds of a request, connection and encoding included; p95 and p99 likewise.
        requests: How many were sent, at most ``batch`` samples each.
        errors: How many of them had no answer, or a refusal.
        unanswered: Indexes of the samples in those.
        first_error: The words of the first of them.
    """

    outputs: dict[str, Array]
    p50_ms: float
    p95_ms: float
    p99_ms: float
    requests: int
    errors: int
    unanswered: tuple[int, ...] = ()
    first_error: str = ""


def compare_golden(  # noqa: PLR0913 - two things to compare, how closely, and whom to ask
    client: InferenceClient,
    model: str,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    *,
    atol: float,
    rtol: float,
    version: str | None = None,
) -> Parity:
    """Send the golden samples in one request and hold the answer against what was recorded.

    Args:
        client: A client of the endpoint.
        model: The model's name.
        inputs: Arrays by input name, shape (n, ...).
        expected: The outputs that the original gave, by output name, shape (n, ...).
        atol: Absolute tolerance, >= 0, in the outputs' unit.
        rtol: Relative tolerance, >= 0.
        version: The version as URLs name it; None for the one that the endpoint serves by default.

    Returns:
        The comparison of the output that is furthest off; its ``reason`` names the output.

    Raises:
        EndpointError: No answer, a refusal, or an expected output that the endpoint does not give.
    """
    found = client.infer(model, inputs, version=version)
    if missing := sorted(set(expected) - set(found)):
        raise EndpointError(
            f"{model} at {client.url} gives no output {', '.join(missing)}; it gives: {', '.join(found)}."
        )
    return min((_compared(name, expected[name], found[name], atol, rtol) for name in expected), key=_closeness)


def send_all(
    client: InferenceClient,
    model: str,
    inputs: Mapping[str, Array],
    *,
    batch: int = 1,
    progress: Callable[[int], None] | None = None,
) -> TrialReport:
    """Send every sample over HTTP, one request after the other, and measure each.

    Args:
        client: A client of the endpoint.
        model: The model's name.
        inputs: Arrays by input name, shape (n, ...), n >= 1 and the same for all.
        batch: Samples in a request, >= 1; the last one may have fewer.
        progress: Called after each request with the number of samples in it.

    Raises:
        EndpointError: Ten requests in a row went wrong, the first ten for instance: the endpoint is not to be tried.
        InvalidInputError: No samples, or inputs of different lengths.
    """
    answers: list[dict[str, Array]] = []
    spent_ms: list[float] = []
    unanswered: list[int] = []
    errors: list[EndpointError] = []
    in_a_row = 0
    for rows in _batches(inputs, batch):
        began = time.perf_counter_ns()
        try:
            answers.append(client.infer(model, {name: array[rows] for name, array in inputs.items()}))
            in_a_row = 0
        except EndpointError as error:
            errors.append(error)
            unanswered.extend(range(rows.start, rows.stop))
            in_a_row += 1
            if in_a_row == _ERRORS_IN_A_ROW:
                raise
        spent_ms.append((time.perf_counter_ns() - began) / 1e6)
        if progress:
            progress(rows.stop - rows.start)
    p50_ms, p95_ms, p99_ms = (percentile_ms(np.array(spent_ms), q) for q in (0.5, 0.95, 0.99))
    return TrialReport(
        outputs={
            name: np.concatenate([answer[name] for answer in answers]) for name in (answers[0] if answers else ())
        },
        p50_ms=p50_ms,
        p95_ms=p95_ms,
        p99_ms=p99_ms,
        requests=len(spent_ms),
        errors=len(errors),
        unanswered=tuple(unanswered),
        first_error=str(errors[0]) if errors else "",
    )


def _compared(name: str, expected: Array, found: Array, atol: float, rtol: float) -> Parity:
    parity = compare(expected, found, atol=atol, rtol=rtol)
    return parity if parity.passed else parity.model_copy(update={"reason": f"output {name!r}: {parity.reason}"})


def _closeness(parity: Parity) -> tuple[bool, float]:
    return parity.passed, -np.inf if parity.max_abs is None else -parity.max_abs


def _batches(inputs: Mapping[str, Array], batch: int) -> Iterator[slice]:
    lengths = {name: len(array) for name, array in inputs.items()}
    samples = max(lengths.values(), default=0)
    if batch < 1 or samples < 1 or len(set(lengths.values())) != 1:
        raise InvalidInputError(
            f"there is nothing to send: each input needs the same number of samples, at least one, found {lengths}, "
            f"{batch} in a request."
        )
    for start in range(0, samples, batch):
        yield slice(start, min(start + batch, samples))
