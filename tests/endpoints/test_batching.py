"""Requests that are computed together get what each alone would have got; in the process itself, without a network."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from served_models import served

from registry.endpoints.answering import Logged, Service
from registry.endpoints.protocol import InferenceRequest, WantedOutput
from registry.endpoints.serving import Limits
from registry.endpoints.tensors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from registry.endpoints.serving import ServerConfig

Answers = list[dict[str, Any] | BaseException]


@pytest.fixture
def opened(
    tmp_path: Path, engines: dict[str, Path], config_for: Callable[..., ServerConfig]
) -> Iterator[Callable[..., Service]]:
    """Return a maker of services over one engine: ``opened("first", max_batch=4)``."""
    services: list[Service] = []

    def make(engine: str, *, runtime: str = "onnxruntime", **settings: Any) -> Service:
        config = config_for(tmp_path, served("m", "v1", engines[engine], runtime=runtime), **settings)
        services.append(Service(config, token="t"))  # noqa: S106 - guards nothing here
        return services[-1]

    yield make
    for service in services:
        service.close()


def _ask(service: Service, inputs: dict[str, NDArray[Any]], *outputs: str) -> Coroutine[Any, Any, dict[str, Any]]:
    loaded = service.named("m")
    names = outputs or tuple(spec.name for spec in loaded.contract.outputs)
    asked = InferenceRequest(None, inputs, tuple(WantedOutput(name, binary=True) for name in names))
    return service.answer(loaded, asked)


def _ask_all(service: Service, requests: list[dict[str, NDArray[Any]]]) -> Answers:
    """Send all requests in one turn of an event loop, so that they wait together, and return what came of each."""

    async def together() -> Answers:
        return await asyncio.gather(*(_ask(service, inputs) for inputs in requests), return_exceptions=True)

    return asyncio.run(together())


def _alone(engine: Path, requests: list[dict[str, NDArray[Any]]]) -> list[dict[str, Any]]:
    session = onnxruntime.InferenceSession(engine, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(None, inputs), strict=True)) for inputs in requests]


def _same(found: Answers, expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, dict), one
        assert set(one) == set(other)
        for name, array in other.items():
            assert one[name].dtype == array.dtype
            np.testing.assert_allclose(one[name], array, rtol=1e-5, atol=1e-6)


def _executions(service: Service) -> dict[int, int]:
    """Return how many runs there were, by the samples in them."""
    (stats,) = service.statistics("m")
    return {one["batch_size"]: one["compute_infer"]["count"] for one in stats["batch_stats"]}


def _rows(random: np.random.Generator, count: int, *, largest: int = 5) -> list[dict[str, NDArray[Any]]]:
    sizes = random.integers(0, largest + 1, count)
    return [{"x": random.normal(size=(size, 4)).astype(np.float32)} for size in sizes]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("workers", [1, 3])
def test_joined_requests_get_what_each_alone_would_have_got(
    opened: Callable[..., Service], engines: dict[str, Path], runtime: str, workers: int
) -> None:
    service = opened("first", runtime=runtime, max_batch=16, workers=workers)
    requests = _rows(np.random.default_rng(3), 200)
    requests = [one for one in requests if runtime == "onnxruntime" or len(one["x"])]
    _same(_ask_all(service, requests), _alone(engines["first"], requests))
    executions = _executions(service)
    assert max(executions) <= 16
    # All but the first four batches ran once; those were computed both ways.
    assert sum(executions.values()) < len(requests) / 2
    assert service.slots.in_flight == 0


def test_each_request_gets_only_the_outputs_it_wants(opened: Callable[..., Service]) -> None:
    service = opened("echo")
    inputs = {spec.name: np.ones((1, 2), spec.dtype) for spec in service.named("m").contract.inputs}

    async def ask() -> list[list[str]]:
        some = _ask(service, inputs, "echo_INT8"), _ask(service, inputs, "echo_FP32", "echo_BOOL")
        return [list(outputs) for outputs in await asyncio.gather(*some)]

    assert asyncio.run(ask()) == [["echo_INT8"], ["echo_FP32", "echo_BOOL"]]


def test_a_poisoned_request_does_not_fail_its_neighbours(
    opened: Callable[..., Service], engines: dict[str, Path]
) -> None:
    service = opened("picky")
    rows = [np.array([row], np.int64) for row in (1, 2, 99, 3, 4)]
    found = _ask_all(service, [{"row": row} for row in rows])
    failure = found.pop(2)
    assert isinstance(failure, ProtocolError)
    assert failure.status == 500
    assert "m could not run on these inputs" in str(failure)
    _same(found, _alone(engines["picky"], [{"row": row} for row in rows if row[0] != 99]))
    done = service.statistics("m")[0]["modelway"]
    assert (done["requests"], done["errors"]) == (5, 1)
    # It goes on joining afterwards: one request's fault says nothing about the model.
    _ask_all(service, [{"row": row} for row in rows[:2]] * 8)
    assert max(_executions(service)) > 1


def test_a_model_whose_samples_depend_on_each_other_is_asked_one_request_at_a_time(
    opened: Callable[..., Service], engines: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    service = opened("centred")
    requests = [{"x": np.full((1, 2), value, np.float32)} for value in (1, 5, 9)]
    with caplog.at_level(logging.WARNING):
        _same(_ask_all(service, requests), _alone(engines["centred"], requests))
    assert "m:v1 answers otherwise when requests are joined: its requests are answered one at a time" in caplog.text
    _same(_ask_all(service, requests * 3), _alone(engines["centred"], requests * 3))
    assert _executions(service) == {1: 3 + 9, 3: 1}


@pytest.mark.parametrize("engine", ["logarithm", "single"])
def test_a_model_without_one_free_axis_of_samples_is_never_joined(
    opened: Callable[..., Service], engines: dict[str, Path], engine: str
) -> None:
    shape = (4,) if engine == "logarithm" else (1, 2)
    requests = [{"x": np.full(shape, value, np.float32)} for value in range(1, 9)]
    service = opened(engine)
    _same(_ask_all(service, requests), _alone(engines[engine], requests))
    assert sum(_executions(service).values()) == 8


def test_inputs_of_different_lengths_are_not_joined_with_others(
    opened: Callable[..., Service], engines: dict[str, Path]
) -> None:
    service = opened("echo")
    specs = service.named("m").contract.inputs
    uneven = {spec.name: np.ones((number % 3, 2), spec.dtype) for number, spec in enumerate(specs)}
    even = {spec.name: np.zeros((2, 2), spec.dtype) for spec in specs}
    requests = [uneven, even, even, uneven, even]
    _same(_ask_all(service, requests), _alone(engines["echo"], requests))


def test_a_request_larger_than_a_batch_is_answered_too(
    opened: Callable[..., Service], engines: dict[str, Path]
) -> None:
    service = opened("first", max_batch=4)
    requests = [{"x": np.ones((size, 4), np.float32)} for size in (9, 2, 2, 11)]
    _same(_ask_all(service, requests), _alone(engines["first"], requests))
    assert set(_executions(service)) <= {2, 4, 9, 11}


def test_a_request_waits_for_company_no_longer_than_it_may(opened: Callable[..., Service]) -> None:
    service = opened("first", max_delay_ms=300.0, max_batch=4)
    one = {"x": np.ones((1, 4), np.float32)}

    async def ask() -> tuple[float, float]:
        began = time.perf_counter()
        first = asyncio.ensure_future(_ask(service, one))
        await asyncio.sleep(0.1)
        await asyncio.gather(first, _ask(service, one))
        after_two = time.perf_counter() - began
        began = time.perf_counter()
        await asyncio.gather(*(_ask(service, one) for _ in range(4)))
        return after_two, time.perf_counter() - began

    two_s, full_s = asyncio.run(ask())
    assert 0.29 < two_s < 1.0
    assert full_s < 0.2  # a full batch has nothing to wait for
    assert _executions(service) == {1: 2 + 4, 2: 1, 4: 1}


def test_an_engine_that_once_took_long_is_kept_off_the_event_loop(opened: Callable[..., Service]) -> None:
    service = opened("patient")
    long = {"turns": np.array([100_000])}
    lane = service.named("m").lane

    async def longest_stop() -> float:
        """Return the longest time for which the loop did nothing else while a long request was computed, in s."""
        answer = asyncio.ensure_future(_ask(service, long))
        stops, before = [0.0], time.perf_counter()
        while not answer.done():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            stops.append(now - before)
            before = now
        return max(stops)

    _ask_all(service, [{"turns": np.array([1])}])
    lane.run_ns = 1_000.0  # as if many short ones had been before
    asyncio.run(longest_stop())  # by mistake, once
    lane.run_ns = 1_000.0
    began = time.perf_counter()
    stopped = asyncio.run(longest_stop())
    assert stopped < (time.perf_counter() - began) / 2


class _Broken:
    """A runtime that gives fewer outputs than it was asked for."""

    def run(self, _: list[str], __: dict[str, Any]) -> list[Any]:
        return []


@pytest.mark.parametrize("quick", [True, False])
def test_a_fault_of_our_own_is_an_answer_too(
    opened: Callable[..., Service],
    quick: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = opened("first")
    one = {"x": np.ones((1, 4), np.float32)}
    lane = service.named("m").lane
    good = lane.session
    if quick:
        _ask_all(service, [one] * 5)
    lane.session = _Broken()
    (failure,) = _ask_all(service, [one])
    assert (getattr(failure, "status", None), str(failure)) == (500, "the server failed; its log has the reason")
    assert "m:v1: its requests could not be run" in caplog.text
    lane.session = good
    assert isinstance(_ask_all(service, [one])[0], dict)


@contextmanager
def _logged(service: Service) -> Iterator[list[Logged]]:
    found: list[Logged] = []
    service.log = found.append
    yield found
    service.log = None


def test_a_late_request_ends_and_those_that_wait_behind_it_do_too(opened: Callable[..., Service]) -> None:
    service = opened("patient", timeout_s=0.3, workers=1, max_batch=1)
    long, short = {"turns": np.array([300_000])}, {"turns": np.array([1])}
    began = time.perf_counter()
    with _logged(service) as logged:
        found = _ask_all(service, [long, short])
    assert time.perf_counter() - began < 10
    assert [getattr(one, "status", None) for one in found] == [504, 504]
    assert "there was no answer within 0.3 s" in str(found[0])
    assert service.slots.in_flight == 0
    assert [(one.version, one.error) for one in logged] == [("1", "there was no answer within 0.3 s")] * 2
    done = service.statistics("m")[0]
    assert (done["modelway"]["errors"], done["inference_stats"]["fail"]["count"]) == (2, 2)


def test_too_many_at_once_are_refused_and_the_next_ones_answered(opened: Callable[..., Service]) -> None:
    service = opened("first", max_concurrency=3)
    one = {"x": np.ones((1, 4), np.float32)}
    found = _ask_all(service, [one] * 5)
    assert [getattr(answer, "status", 200) for answer in found] == [200, 200, 200, 429, 429]
    assert "3 requests are under way, and no more are taken" in str(found[-1])
    assert service.slots.refused == 2
    assert isinstance(_ask_all(service, [one])[0], dict)


def test_a_slow_shadow_keeps_nobody_waiting_and_holds_no_more_than_one_bodys_memory(
    tmp_path: Path, engines: dict[str, Path], config_for: Callable[..., ServerConfig]
) -> None:
    hasty, patient = served("m", "v1", engines["hasty"]), served("m", "v2", engines["patient"], role="shadow")
    config = config_for(tmp_path, hasty, patient, workers=2, max_batch=1, limits=Limits(max_body_bytes=40))
    service = Service(config, token="t")  # noqa: S106 - guards nothing here
    shadow = service.named("m", "2").lane
    service.named("m").lane.stalled = True  # it needs a thread, as a larger model would

    async def ask() -> float:
        began = time.perf_counter()
        for _ in range(20):
            await _ask(service, {"turns": np.array([100_000])})
            assert len(shadow.waiting) <= 5  # inputs of 8 bytes each
        return time.perf_counter() - began

    took_s = asyncio.run(ask())
    assert service.computes
    assert service.statistics("m", "2")[0]["modelway"]["requests"] == 0
    service.close()
    assert took_s < 1.0  # the shadow takes twice as long for each of them


def test_the_log_is_told_of_every_request(opened: Callable[..., Service]) -> None:
    service = opened("picky")
    with _logged(service) as logged:
        _ask_all(service, [{"row": np.array([3])}, {"row": np.array([99])}])
    good, bad = sorted(logged, key=lambda one: one.error is not None)
    assert (good.model, good.version, good.role, good.protocol, good.error) == ("m", "1", "stable", "grpc", None)
    assert good.inputs["row"].tolist() == [3]
    assert good.outputs["y"].tolist() == [[6, 7]]
    assert good.latency_ms > 0
    assert good.time.utcoffset() is not None
    assert bad.outputs == {}
    assert "could not run" in str(bad.error)
