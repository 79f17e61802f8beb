"""Serving processes started, recognised, drained and stopped; and those that cannot start."""

from __future__ import annotations

import http.client
import os
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import orjson
import psutil
import pytest
from pydantic import ValidationError
from served_models import served

from registry.endpoints.client import InferenceClient
from registry.endpoints.process import find_server, is_running, start_server, stop_server
from registry.endpoints.serving import (
    RunningServer,
    ServedModels,
    ServedVersion,
    ServerConfig,
    ServerState,
    read_state,
)
from registry.errors import EndpointError, InvalidNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each

BODY = orjson.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]})


@pytest.fixture
def config(tmp_path: Path, engines: dict[str, Path], config_for: Callable[..., ServerConfig]) -> ServerConfig:
    return config_for(tmp_path, served("iris", "v1", engines["first"]))


@pytest.fixture
def running(config: ServerConfig, tmp_path: Path) -> Iterator[RunningServer]:
    started = start_server(config, folder=tmp_path)
    yield started
    stop_server(started)


def _processes_of(folder: Path) -> list[int]:
    """Return the pids of processes that were started with something in ``folder``."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and any(str(folder) in part for part in process.info["cmdline"] or ())
    ]


def test_a_started_server_tells_who_and_where_it_is(running: RunningServer, config: ServerConfig) -> None:
    state = ServerState.model_validate_json(config.state_file.read_bytes())
    assert (state.pid, state.url, state.instance) == (running.pid, running.url, config.instance)
    assert state.url == f"http://127.0.0.1:{state.port}"
    assert (state.grpc, running.grpc) == (f"127.0.0.1:{_grpc_port(state)}",) * 2
    assert sorted(_listens_on(running.pid)) == sorted([("127.0.0.1", state.port), ("127.0.0.1", _grpc_port(state))])
    assert os.getsid(running.pid) == running.pid
    assert find_server(config.state_file, log_path=running.log_path) == running
    assert RunningServer.model_validate_json(running.model_dump_json()) == running


def _listens_on(pid: int) -> list[tuple[str, int]]:
    found = psutil.Process(pid).net_connections("inet")
    # gRPC listens on an IPv6 socket, bound to the same address of loopback in its IPv6 form.
    return [(one.laddr.ip.removeprefix("::ffff:"), one.laddr.port) for one in found if one.status == psutil.CONN_LISTEN]


def _grpc_port(state: ServerState) -> int:
    return int((state.grpc or "").rpartition(":")[2])


def test_the_state_file_is_for_its_owner_alone_and_the_running_server_tells_no_token(
    running: RunningServer, config: ServerConfig
) -> None:
    assert stat.S_IMODE(config.state_file.stat().st_mode) == 0o600
    state = read_state(config.state_file)
    assert state is not None
    assert len(state.token) > 30
    assert state.token not in repr(state)
    assert state.token not in running.model_dump_json()


def test_a_state_file_that_cannot_be_read_is_no_server_that_is_not_there(tmp_path: Path) -> None:
    assert read_state(tmp_path / "state.json") is None
    (tmp_path / "state.json").write_text('{"pid": 1}')
    with pytest.raises(EndpointError, match="does not tell of a server as this release starts them"):
        read_state(tmp_path / "state.json")


def test_a_port_that_is_given_is_kept_by_the_next_process(config: ServerConfig, tmp_path: Path) -> None:
    first = start_server(config, folder=tmp_path)
    with InferenceClient(first.url) as client:  # its connection is closed by the server's end, which holds the port
        assert client.ready()
        assert stop_server(first)
    kept = config.model_copy(update={"port": int(first.url.rpartition(":")[2])})
    again = start_server(kept, folder=tmp_path)
    try:
        assert again.url == first.url
        other = kept.model_copy(update={"state_file": tmp_path / "other.json", "log_file": tmp_path / "other.log"})
        with pytest.raises(EndpointError, match=r"nothing can listen on 127\.0\.0\.1:[0-9]+: Address already in use"):
            start_server(other, folder=tmp_path / "other")
        assert is_running(again)
    finally:
        assert stop_server(again)


def test_records_of_servers_without_grpc_still_load(running: RunningServer) -> None:
    earlier = orjson.loads(running.model_dump_json())
    del earlier["grpc"]
    assert RunningServer.model_validate_json(orjson.dumps(earlier)).grpc is None


def test_stopping_is_done_once_and_leaves_nothing(config: ServerConfig, tmp_path: Path) -> None:
    running = start_server(config, folder=tmp_path)
    assert is_running(running)
    assert stop_server(running)
    assert not is_running(running)
    assert not stop_server(running)
    assert _processes_of(tmp_path) == []
    assert not config.state_file.exists()
    assert find_server(config.state_file, log_path=running.log_path) is None
    assert running.log_path.read_text().rstrip().endswith("has ended")


def test_a_process_that_took_over_the_pid_is_left_alone(running: RunningServer) -> None:
    earlier = running.model_copy(update={"create_time": running.create_time - 3600})
    assert not is_running(earlier)
    assert not stop_server(earlier)
    assert is_running(running)


def test_a_killed_server_is_seen_as_not_running(running: RunningServer, config: ServerConfig) -> None:
    os.kill(running.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while is_running(running) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(running)
    assert not stop_server(running)
    assert config.state_file.exists()
    assert find_server(config.state_file, log_path=running.log_path) is None


def test_the_same_endpoint_starts_again_beside_a_stale_state_file(
    running: RunningServer, config: ServerConfig, tmp_path: Path
) -> None:
    os.kill(running.pid, signal.SIGKILL)
    again = start_server(config, folder=tmp_path)
    assert again.pid != running.pid
    assert stop_server(again)


def test_a_server_outlives_the_process_that_started_it(config: ServerConfig, tmp_path: Path) -> None:
    given = tmp_path / "given.json"
    given.write_text(config.model_dump_json())
    starter = (
        "import sys, pathlib\n"
        "from registry.endpoints.process import start_server\n"
        "from registry.endpoints.serving import ServerConfig\n"
        "config = ServerConfig.model_validate_json(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "print(start_server(config, folder=pathlib.Path(sys.argv[1]).parent).model_dump_json())\n"
    )
    done = subprocess.run([sys.executable, "-c", starter, str(given)], check=True, capture_output=True, timeout=60)
    started = RunningServer.model_validate_json(done.stdout)
    try:
        assert is_running(started)
        assert find_server(config.state_file, log_path=started.log_path) == started
    finally:
        assert stop_server(started)
    assert not is_running(started)


CANNOT_SERVE = {
    "digest": (6, "is not what was recorded: expected sha256:0000"),
    "missing": (1, "cannot be read: "),
    "garbage": (1, "onnxruntime does not open"),
    "text": (1, "its tensor 'words' is tensor(string), and the endpoint takes numbers only"),
}


@pytest.mark.parametrize("change", CANNOT_SERVE)
def test_a_server_that_cannot_serve_ends_with_the_reason_and_leaves_nothing(
    tmp_path: Path, engines: dict[str, Path], config_for: Callable[..., ServerConfig], change: str
) -> None:
    status, reason = CANNOT_SERVE[change]
    engine = tmp_path / "model.onnx"
    engine.write_bytes(
        b"no model" if change == "garbage" else engines["text" if change == "text" else "first"].read_bytes()
    )
    version = served("iris", "v1", engine)
    if change == "missing":
        engine.unlink()
    if change == "digest":
        version = version.model_copy(update={"digest": "0" * 64})
    config = config_for(tmp_path, version)
    with pytest.raises(EndpointError) as failure:
        start_server(config, folder=tmp_path)
    words = str(failure.value)
    assert f"endpoint 'trial' did not start: its server ended with status {status} after " in words
    assert reason in words
    assert str(tmp_path / "server.log") in words
    assert _processes_of(tmp_path) == []
    assert not config.state_file.exists()


def test_weights_in_a_second_file_are_never_read(
    tmp_path: Path, engines: dict[str, Path], config_for: Callable[..., ServerConfig]
) -> None:
    # Also not where onnxruntime would look for them: in the server's working directory.
    (tmp_path / "weights.data").write_bytes(engines["split"].with_name("weights.data").read_bytes())
    with pytest.raises(EndpointError, match="serves ONNX models that are one file, without external data"):
        start_server(config_for(tmp_path, served("iris", "v1", engines["split"])), folder=tmp_path)
    assert _processes_of(tmp_path) == []


def test_a_server_that_is_late_is_ended(config: ServerConfig, tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match=r"its server was not ready after 0\.05 s and was ended"):
        start_server(config, folder=tmp_path, timeout_s=0.05)
    assert _processes_of(tmp_path) == []


def test_a_request_under_way_is_answered_after_sigterm(running: RunningServer, config: ServerConfig) -> None:
    process = psutil.Process(running.pid)
    with _half_sent(running) as connection:
        process.send_signal(signal.SIGTERM)
        _until_refused(running)
        connection.send(BODY[10:])
        answer = connection.getresponse()
        assert (answer.status, list(orjson.loads(answer.read()))) == (200, ["model_name", "model_version", "outputs"])
    assert process.wait(timeout=10) == 0
    assert not config.state_file.exists()


def test_a_request_that_never_ends_does_not_hold_the_server(config: ServerConfig, tmp_path: Path) -> None:
    running = start_server(config.model_copy(update={"drain_s": 1}), folder=tmp_path)
    with _half_sent(running):
        began = time.monotonic()
        assert stop_server(running, timeout_s=20)
        assert time.monotonic() - began < 10
    assert running.log_path.read_text().rstrip().endswith("has ended")


class _half_sent:  # noqa: N801 - reads as a word in a with statement
    """A request whose head and first bytes have arrived, and whose rest has not."""

    def __init__(self, running: RunningServer) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=20)

    def __enter__(self) -> http.client.HTTPConnection:
        connection = self._connection
        # Answered once, so that the server surely knows of this connection before the signal comes.
        connection.request("GET", "/v2/health/live")
        connection.getresponse().read()
        connection.putrequest("POST", "/v2/models/iris/infer")
        connection.putheader("Content-Length", str(len(BODY)))
        connection.endheaders(BODY[:10])
        time.sleep(0.1)
        return connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _until_refused(running: RunningServer) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=5)
        try:
            connection.connect()
        except ConnectionRefusedError:
            return
        finally:
            connection.close()
        time.sleep(0.01)
    pytest.fail("the server goes on listening after SIGTERM")


@pytest.mark.parametrize("delay_s", [0.0, 0.002, 0.005, 0.01, 0.3])
def test_a_server_ended_at_any_moment_after_it_is_ready_says_nothing_on_standard_output(
    config: ServerConfig, tmp_path: Path, delay_s: float
) -> None:
    given = tmp_path / "given.json"
    given.write_text(config.model_copy(update={"log_file": tmp_path / "own.log"}).model_dump_json())
    command = [sys.executable, "-m", "registry.endpoints.server", "--config", str(given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while not config.state_file.exists() and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(delay_s)
        process.terminate()
        assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == 0
    assert f"instance {config.instance}) listens on http://127.0.0.1:" in (tmp_path / "own.log").read_text()


def test_a_config_that_is_none_ends_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "given.json").write_text('{"endpoint": "trial"}')
    command = [sys.executable, "-m", "registry.endpoints.server", "--config", str(tmp_path / "given.json")]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is no ServerConfig: 2 validation errors" in done.stderr


def test_the_server_needs_neither_torch_nor_prefect_nor_onnx() -> None:
    program = (
        "import sys, registry.endpoints.server as _; print({'torch', 'prefect', 'onnx', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60, text=True)
    assert done.stdout.strip() == "set()"


def test_a_models_file_has_each_version_once_and_shares_of_a_whole(engines: dict[str, Path]) -> None:
    stable = served("iris", "v1", engines["first"])
    canary = served("iris", "v2", engines["second"], role="canary", share=0.25)
    for versions, reason in (
        ((stable, served("iris", "1", engines["first"], role="shadow")), "iris:1 is listed more than once"),
        (
            (stable, stable.model_copy(update={"version": "v2"})),
            "iris has more than one version of a role: stable, sta",
        ),
        ((canary,), "iris has a canary version and no stable one"),
        ((stable, canary), "the shares of iris's stable and canary versions add up to 1.25, not to 1"),
    ):
        with pytest.raises(ValidationError, match=reason):
            ServedModels(generation=1, versions=versions)
    most = stable.model_copy(update={"share": 0.75})
    again = stable.model_copy(update={"role": "candidate"})
    assert [one.address for one in ServedModels(versions=(most, canary, again)).versions] == ["1", "2", "candidate"]


def test_names_outside_the_grammar_and_digests_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises((InvalidNameError, ValidationError), match="cannot be a model name"):
        ServedVersion(model="../iris", version="v1", engine=tmp_path, digest="0" * 64)
    with pytest.raises(ValidationError, match="digest"):
        ServedVersion(model="iris", version="v1", engine=tmp_path, digest="abc")
