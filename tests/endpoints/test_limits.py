"""What one client may take from the others: places, time, and nothing at the end of the process."""

from __future__ import annotations

import http.client
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import orjson
import psutil
import pytest
from served_models import served

from registry.endpoints.client import InferenceClient
from registry.endpoints.process import start_server, stop_server
from registry.endpoints.protocol import write_request
from registry.endpoints.tensors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from registry.endpoints.serving import RunningServer, ServerConfig

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each


@pytest.fixture
def start(
    tmp_path: Path, engines: dict[str, Path], config_for: Callable[..., ServerConfig]
) -> Iterator[Callable[..., RunningServer]]:
    """Return a starter of servers over one engine under the name m: ``start("patient", max_concurrency=1)``."""
    started: list[RunningServer] = []

    def begin(engine: str, **settings: Any) -> RunningServer:
        config = config_for(tmp_path, served("m", "v1", engines[engine]), **{"grpc": False, **settings})
        started.append(start_server(config, folder=tmp_path))
        return started[-1]

    yield begin
    for running in started:
        stop_server(running)


def _ask(url: str, turns: int) -> int:
    with InferenceClient(url) as client:
        try:
            client.infer("m", {"turns": np.array([turns])})
        except ProtocolError as refusal:
            return refusal.status
    return 200


def _connection(running: RunningServer) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=20)


def _wait_for_in_flight(running: RunningServer, count: int) -> None:
    deadline = time.monotonic() + 10
    while f"modelway_in_flight {count:.1f}" not in httpx.get(f"{running.url}/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_request_too_many_is_refused_before_its_body_is_read(start: Callable[..., RunningServer]) -> None:
    running = start("patient", max_concurrency=1)
    with ThreadPoolExecutor(1) as other:
        first = other.submit(_ask, running.url, 200_000)
        _wait_for_in_flight(running, 1)
        connection = _connection(running)
        connection.putrequest("POST", "/v2/models/m/infer")
        connection.putheader("Content-Length", "1000")
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        assert "1 requests are under way, and no more are taken" in orjson.loads(answer.read())["error"]
        connection.close()
        assert first.result() == 200
    assert _ask(running.url, 1) == 200
    assert "modelway_refused_total 1.0" in httpx.get(f"{running.url}/metrics").text


def test_a_late_answer_is_504_and_its_place_is_given_back(start: Callable[..., RunningServer]) -> None:
    running = start("patient", max_concurrency=1, workers=2, timeout_s=0.3)
    assert _ask(running.url, 300_000) == 504
    assert _ask(running.url, 1) == 200


def test_a_body_that_does_not_come_holds_no_place_for_ever(start: Callable[..., RunningServer]) -> None:
    running = start("first", max_concurrency=1, timeout_s=0.3)
    connection = _connection(running)
    connection.putrequest("POST", "/v2/models/m/infer")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"{")
    answer = connection.getresponse()
    assert (answer.status, orjson.loads(answer.read())) == (408, {"error": "the body had not come after 0.3 s"})
    connection.close()
    with InferenceClient(running.url) as client:
        assert client.infer("m", {"x": np.ones((1, 4), np.float32)})


def test_from_sigterm_on_the_server_is_not_ready_and_every_answer_is_its_connections_last(
    start: Callable[..., RunningServer],
) -> None:
    running = start("patient")
    process = psutil.Process(running.pid)
    idle = _connection(running)
    idle.request("GET", "/v2/health/ready")
    assert idle.getresponse().read() == b'{"ready":true}'
    with ThreadPoolExecutor(1) as other:
        first = other.submit(_ask, running.url, 200_000)
        _wait_for_in_flight(running, 1)
        process.send_signal(signal.SIGTERM)
        idle.request("GET", "/v2/health/ready")
        answer = idle.getresponse()
        assert (answer.status, answer.headers["Connection"], answer.read()) == (503, "close", b'{"ready":false}')
        assert first.result() == 200
    assert process.wait(timeout=10) == 0


def test_a_request_whose_head_is_half_read_is_answered_after_sigterm(start: Callable[..., RunningServer]) -> None:
    running = start("first")
    process = psutil.Process(running.pid)
    connection = _connection(running)
    connection.request("GET", "/v2/health/live")
    connection.getresponse().read()
    connection.sock.sendall(b"GET /v2/health/li")
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    time.sleep(1.5)  # longer than a connection may be silent
    connection.sock.sendall(b"ve HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert connection.sock.recv(4096).startswith(b"HTTP/1.1 200 OK")
    connection.close()
    assert process.wait(timeout=10) == 0


def test_an_inference_that_nobody_waits_for_any_more_does_not_hold_the_server(
    start: Callable[..., RunningServer],
) -> None:
    running = start("patient", timeout_s=0.3)
    process = psutil.Process(running.pid)
    assert _ask(running.url, 5_000_000) == 504
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    assert running.log_path.read_text().rstrip().endswith("has ended")


def test_a_silent_connection_is_closed_and_does_not_hold_the_server(start: Callable[..., RunningServer]) -> None:
    running = start("first", drain_s=8)
    idle = _connection(running)
    idle.request("GET", "/v2/health/live")
    idle.getresponse().read()
    untouched = _connection(running)
    untouched.connect()
    began = time.monotonic()
    assert stop_server(running)
    assert 0.9 < time.monotonic() - began < 4
    idle.close()
    untouched.close()


@pytest.mark.heavy
@pytest.mark.parametrize("attempt", range(3))
def test_no_accepted_request_is_dropped_when_a_server_ends_under_load(
    start: Callable[..., RunningServer], attempt: int
) -> None:
    """Clients keep their connections, and open another only where an answer said that it is the last one."""
    running = start("first")
    message = write_request({"x": np.ones((1, 4), np.float32)})
    answered, dropped, refused = [0] * 8, list[str](), [0] * 8

    def ask(number: int) -> None:
        connection = _connection(running)
        while True:
            try:
                connection.connect()
            except ConnectionError:
                refused[number] += 1
                return
            closing = False
            while not closing:
                try:
                    connection.request("POST", "/v2/models/m/infer", message.body, message.headers)
                    answer = connection.getresponse()
                    assert answer.status == 200
                    answer.read()
                    closing = answer.headers.get("Connection") == "close"
                    answered[number] += 1
                except Exception as error:  # noqa: BLE001 - whatever it is, it is what must not happen
                    dropped.append(repr(error))
                    return
            connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.7 + 0.1 * attempt)
    assert stop_server(running)
    for thread in threads:
        thread.join()
    assert dropped == []
    assert refused == [1] * 8
    assert min(answered) > 5
