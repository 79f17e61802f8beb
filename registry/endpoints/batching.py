"""Requests that wait for one engine, and how they are run together: as soon as one can run, with all that wait by then.

Answers are those that each request alone would have got. That a model treats the samples of a batch independently
stands in no file (a dynamically quantised one does not: it scales by the largest number of the whole batch), so the
first batches are computed both ways and compared, and a model whose answers differ is asked one request at a time.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.endpoints.statistics import Counters, Execution
from registry.endpoints.tensors import Array, ProtocolError

if TYPE_CHECKING:
    import asyncio

    from registry.signature import Signature

_log = logging.getLogger(__name__)

_CHECKED_BATCHES = 4
_TOLERANCE = {"f32": 1e-4, "bf16": 2e-2}  # relative to the largest number; batches are summed up in another order
_ROUNDINGS = 8  # of the outputs' own type, which are more than the tolerance in half precision
_NEWEST = 0.2  # the weight of the last run in the moving average of what a run takes

Outputs = dict[str, Array]


@dataclass(slots=True)
class Waiting:
    """One request for an engine: ``future`` gets its outputs, or a ``ProtocolError``.

    ``samples`` is the size of the first axis that all inputs share, None where they do not; ``kind`` is the same for
    requests whose inputs can be joined along that axis.
    """

    inputs: Mapping[str, Array]
    wanted: tuple[str, ...]
    counters: Counters
    future: asyncio.Future[Outputs]
    samples: int | None
    kind: tuple[tuple[int, ...], ...]
    elements: int
    came_ns: int


@dataclass(slots=True)
class Ran:
    """What came of running some requests, in their order, with each run of the engine that it took."""

    outputs: list[Outputs | ProtocolError]
    executions: list[Execution]
    began_ns: int


@dataclass(slots=True)
class Lane:
    """One open engine with the requests that wait for it.

    All but ``run`` belongs to the event loop's thread. ``run`` is called from any, and at most turns ``together`` off.
    ``computes_in_caller`` says that a run is computed by the thread that asks for it, ``same_first_axis`` that nothing
    is known against the first axis being the samples, of inputs and outputs alike; ``background`` that nobody waits for
    its answers.
    """

    name: str
    contract: Signature
    session: Any
    precision: str
    computes_in_caller: bool
    same_first_axis: bool
    waiting: deque[Waiting] = field(default_factory=deque)
    queued: bool = False
    delayed: bool = False
    stalled: bool = False
    background: bool = False
    run_ns: float = float("inf")
    run_elements: float = 1.0
    checks_left: int = _CHECKED_BATCHES
    together: bool = False
    _free_sizes: bool = False
    _names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Find out from the tensors' shapes whether requests can be joined at all."""
        tensors = (*self.contract.inputs, *self.contract.outputs)
        free_first = all(spec.shape and spec.shape[0] == -1 for spec in tensors)
        self.together = free_first and self.same_first_axis and bool(self.contract.inputs)
        self._free_sizes = any(-1 in spec.shape[1:] for spec in self.contract.inputs)
        self._names = tuple(spec.name for spec in self.contract.inputs)

    def request(
        self, inputs: Mapping[str, Array], wanted: tuple[str, ...], counters: Counters, future: asyncio.Future[Outputs]
    ) -> Waiting:
        """Return a request for this engine, whose inputs fit ``contract``."""
        samples: int | None = None
        kind: tuple[tuple[int, ...], ...] = ()
        if self.together:
            sizes = {array.shape[0] for array in inputs.values()}
            samples = sizes.pop() if len(sizes) == 1 else None
            if self._free_sizes:
                kind = tuple(inputs[name].shape[1:] for name in self._names)
        elements = sum(array.size for array in inputs.values())
        return Waiting(inputs, wanted, counters, future, samples, kind, elements, time.perf_counter_ns())

    def take(self, max_batch: int) -> list[Waiting]:
        """Return the requests to run next, the oldest first; without those whose time has run out meanwhile."""
        taken: list[Waiting] = []
        samples = 0
        while self.waiting:
            following = self.waiting[0]
            if following.future.done():
                self.waiting.popleft()
                continue
            if taken and not (
                self.together
                and following.samples is not None
                and taken[0].samples is not None
                and following.kind == taken[0].kind
                and samples + following.samples <= max_batch
            ):
                break
            samples += following.samples or 0
            taken.append(self.waiting.popleft())
        return taken

    def is_quick(self, limit_ns: float, max_batch: int) -> bool:
        """Return whether what waits would run in less than ``limit_ns``, by what earlier runs took and its size.

        Only where the thread that asks computes can that be known, and be true.
        """
        if self.stalled or not self.computes_in_caller:
            return False
        elements = sum(request.elements for request in islice(self.waiting, max_batch))
        return self.run_ns * max(1.0, elements / self.run_elements) < limit_ns

    def keep_off_the_loop(self, ran: Ran, limit_ns: float) -> None:
        """Note that runs are not quick for good if one that seemed so took longer than ``limit_ns``.

        A model with loops of its own takes as long as its input says, and no average foretells that.
        """
        self.stalled = self.stalled or any(execution.infer_ns > limit_ns for execution in ran.executions)

    def learn(self, requests: Sequence[Waiting], ran: Ran) -> None:
        """Keep in mind how long a run takes; one that failed tells nothing."""
        if not ran.executions:
            return
        took = sum(execution.infer_ns for execution in ran.executions) / len(ran.executions)
        elements = sum(request.elements for request in requests) / len(ran.executions)
        if self.run_ns == float("inf"):
            self.run_ns, self.run_elements = took, max(1.0, elements)
        else:
            self.run_ns += _NEWEST * (took - self.run_ns)
            self.run_elements += _NEWEST * (max(1.0, elements) - self.run_elements)

    def run(self, requests: Sequence[Waiting]) -> Ran:
        """Compute the requests, together where there are several, and return their outputs in the same order.

        When that fails, or does not give one row for each sample, each is computed alone: a poisoned request must not
        fail its neighbours.
        """
        ran = Ran([], [], time.perf_counter_ns())
        if len(requests) > 1 and self._run_joined(requests, ran):
            return ran
        ran.outputs = [self._run_alone(request, ran) for request in requests]
        if len(requests) > 1 and not any(isinstance(outputs, ProtocolError) for outputs in ran.outputs):
            self._ask_alone("cannot run requests that are joined")
        return ran

    def _run_joined(self, requests: Sequence[Waiting], ran: Ran) -> bool:
        wanted = tuple(dict.fromkeys(name for request in requests for name in request.wanted))
        sizes = [request.samples or 0 for request in requests]
        began = time.perf_counter_ns()
        joined = {name: np.concatenate([request.inputs[name] for request in requests]) for name in self._names}
        input_ns = time.perf_counter_ns() - began
        try:
            found, infer_ns = self._timed(wanted, joined)
        except Exception:  # noqa: BLE001 - of any kind; each request alone will tell, and log, which one it was
            return False
        began = time.perf_counter_ns()
        if any(array.shape[:1] != (sum(sizes),) for array in found):
            return False
        ends = np.cumsum(sizes).tolist()
        split = dict(zip(wanted, found, strict=True))
        ran.outputs = [
            {name: split[name][end - size : end] for name in request.wanted}
            for request, end, size in zip(requests, ends, sizes, strict=True)
        ]
        ran.executions.append(Execution(sum(sizes), input_ns, infer_ns, time.perf_counter_ns() - began))
        if self.checks_left > 0:
            self._compare(requests, ran)
        return True

    def _compare(self, requests: Sequence[Waiting], ran: Ran) -> None:
        alone = [self._run_alone(request, ran) for request in requests]
        self.checks_left -= 1
        if not all(_close(*pair, _TOLERANCE[self.precision]) for pair in zip(alone, ran.outputs, strict=True)):
            ran.outputs = alone
            self._ask_alone("answers otherwise when requests are joined")

    def _ask_alone(self, why: str) -> None:
        self.together = False
        _log.warning("%s %s: its requests are answered one at a time", self.name, why)

    def _run_alone(self, request: Waiting, ran: Ran) -> Outputs | ProtocolError:
        try:
            found, infer_ns = self._timed(request.wanted, request.inputs)
        except Exception as error:  # noqa: BLE001 - the runtimes' errors have no other common base
            _log.exception("%s could not run", self.name)
            refusal = ProtocolError(
                f"{self.name.partition(':')[0]} could not run on these inputs: {first_line(error)}", status=500
            )
            refusal.__cause__ = error
            return refusal
        first = next(iter(request.inputs.values()), None)
        samples = len(first) if first is not None and first.ndim else 1
        ran.executions.append(Execution(samples if request.samples is None else request.samples, 0, infer_ns, 0))
        return dict(zip(request.wanted, found, strict=True))

    def _timed(self, wanted: Sequence[str], inputs: Mapping[str, Array]) -> tuple[list[Array], int]:
        # The thread's own time leaves out how long it waited for Python's lock, which is no work of the engine.
        clock_ns = time.thread_time_ns if self.computes_in_caller else time.perf_counter_ns
        began = clock_ns()
        found = self.session.run(list(wanted), dict(inputs))
        return found, clock_ns() - began


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _close(alone: Outputs | ProtocolError, joined: Outputs | ProtocolError, tolerance: float) -> bool:
    if isinstance(alone, ProtocolError) or isinstance(joined, ProtocolError):
        return False
    for name, array in alone.items():
        if array.dtype.kind != "f":
            if not np.array_equal(array, joined[name]):
                return False
            continue
        largest = float(np.max(np.abs(array[np.isfinite(array)]), initial=0.0))
        within = max(tolerance, _ROUNDINGS * float(np.finfo(array.dtype).eps))
        if not np.allclose(array, joined[name], rtol=within, atol=within * largest, equal_nan=True):
            return False
    return True
