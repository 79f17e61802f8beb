"""Who runs the waiting requests: a few threads, and the event loop itself where that is quicker than waking one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from registry.endpoints.batching import Lane, Ran, Waiting
from registry.endpoints.tensors import ProtocolError

if TYPE_CHECKING:
    from registry.endpoints.serving import ServerConfig

_log = logging.getLogger(__name__)

_QUICK_NS = 100_000.0  # waking a thread and taking Python's lock back costs about as much
_STALL_NS = 2_000_000.0  # what a run in the event loop may take by mistake, once


class Workers:
    """Runs what waits in lanes, at most ``workers`` runs at once; all methods belong to the event loop's thread."""

    def __init__(self, config: ServerConfig) -> None:
        """Begin with every worker free."""
        self._max_batch = config.max_batch
        self._max_delay_ns = config.max_delay_ms * 1e6
        self._all = self._free = config.workers
        self._threads = ThreadPoolExecutor(config.workers, thread_name_prefix="infer")
        self._lanes: deque[Lane] = deque()
        self._called = False

    @property
    def busy(self) -> bool:
        """Whether a thread runs something."""
        return self._free < self._all

    def submit(self, lane: Lane, request: Waiting) -> None:
        """Have a request run, together with those that come before its turn."""
        lane.waiting.append(request)
        self._queue(lane)

    def close(self) -> None:
        """End the threads once their runs have ended; what still waits is not run."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _queue(self, lane: Lane) -> None:
        if not lane.queued:
            lane.queued = True
            self._lanes.append(lane)
        self._call()

    def _call(self) -> None:
        if not self._called:
            # Later: what other connections have sent in the same turn of the loop then goes along.
            self._called = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        """Run what can be run now, a batch of each lane in turn, so that none waits for ever."""
        self._called = False
        for _ in range(len(self._lanes)):
            lane = self._lanes.popleft()
            lane.queued = False
            if self._awaits_company(lane):
                continue
            quick = lane.is_quick(_QUICK_NS, self._max_batch)
            if (quick or self._has_thread_for(lane)) and (requests := lane.take(self._max_batch)):
                if quick:
                    ran = _run(lane, requests)
                    lane.keep_off_the_loop(ran, _STALL_NS)
                    self._finish(lane, requests, ran)
                else:
                    self._free -= 1
                    self._threads.submit(self._work, asyncio.get_running_loop(), lane, requests)
            if lane.waiting:
                lane.queued = True
                self._lanes.append(lane)
                if quick or self._has_thread_for(lane):
                    self._call()

    def _has_thread_for(self, lane: Lane) -> bool:
        # A slow shadow on every thread would keep those waiting who want an answer: one is left for them.
        return self._free > (1 if lane.background and self._all > 1 else 0)

    def _awaits_company(self, lane: Lane) -> bool:
        if not (self._max_delay_ns and lane.together and lane.waiting):
            return False
        left_ns = self._max_delay_ns - (time.perf_counter_ns() - lane.waiting[0].came_ns)
        samples = sum(request.samples or self._max_batch for request in lane.waiting)
        if left_ns <= 0 or samples >= self._max_batch:
            return False
        if not lane.delayed:
            lane.delayed = True
            asyncio.get_running_loop().call_later(left_ns / 1e9, self._end_delay, lane)
        return True

    def _end_delay(self, lane: Lane) -> None:
        lane.delayed = False
        self._queue(lane)

    def _work(self, loop: asyncio.AbstractEventLoop, lane: Lane, requests: list[Waiting]) -> None:
        ran = _run(lane, requests)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it those who waited
            loop.call_soon_threadsafe(self._give_back, lane, requests, ran)

    def _give_back(self, lane: Lane, requests: list[Waiting], ran: Ran) -> None:
        self._free += 1
        self._finish(lane, requests, ran)
        if self._lanes:
            self._call()

    def _finish(self, lane: Lane, requests: list[Waiting], ran: Ran) -> None:
        lane.learn(requests, ran)
        # Of several versions that share an engine, the first one of a batch has its runs in its statistics.
        counters = requests[0].counters
        for execution in ran.executions:
            counters.executed(execution)
        for request, outputs in zip(requests, ran.outputs, strict=True):
            request.counters.waited(max(0, ran.began_ns - request.came_ns))
            if request.future.done():
                continue
            if isinstance(outputs, ProtocolError):
                request.future.set_exception(outputs)
            else:
                request.future.set_result(outputs)


def _run(lane: Lane, requests: list[Waiting]) -> Ran:
    try:
        return lane.run(requests)
    except Exception:  # noqa: BLE001 - whoever waits must hear of it, and nobody else would
        _log.exception("%s: its requests could not be run", lane.name)
        failure = ProtocolError("the server failed; its log has the reason", status=500)
        return Ran([failure for _ in requests], [], time.perf_counter_ns())
