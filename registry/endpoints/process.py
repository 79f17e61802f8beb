"""Serving processes: started as their own session, waited for, recognised and stopped."""

from __future__ import annotations

import subprocess
import sys
import time
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
from pydantic import ValidationError

from registry.endpoints.serving import RunningServer, ServerConfig, ServerState
from registry.errors import EndpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGES = Path(__file__).resolve().parents[2]
_POLL_S = 0.02
_SAME_PROCESS_S = 1.0  # create times drift by the clock's corrections; a pid does not come round again so soon
_LOG_TAIL_BYTES = 4000

# A Popen that is collected while its child runs warns, and only a parent can reap its child: those started are kept.
_children: dict[int, subprocess.Popen[bytes]] = {}


def start_server(config: ServerConfig, *, folder: Path, timeout_s: float = 30.0) -> RunningServer:
    """Start a serving process that outlives this one, and return it once it is ready.

    Args:
        config: What to serve. Relative paths in it are taken from the working directory of now.
        folder: Where the process's config (``server.json``) and, unless the config names one, its log are written.
        timeout_s: How long it may take until it answers that it is ready.

    Raises:
        EndpointError: It ended, or was late; the message has the end of its log; nothing is left running.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = _with_whole_paths(config, folder)
    config.state_file.unlink(missing_ok=True)
    child = _launch(config, folder)
    try:
        return _wait_until_ready(child, config, timeout_s=timeout_s)
    except BaseException:  # an interrupt as well: nobody else knows of this process yet
        child.kill()
        child.wait()
        _children.pop(child.pid, None)
        raise


def find_server(state_file: Path, *, log_path: Path) -> RunningServer | None:
    """Return the ready process that a state file tells of, or None where there is none, or another process has its pid.

    This is how a server is found again whose starter died before it could write down what it had started.
    """
    found = _named_in(state_file, log_path)
    return found if found is not None and _instance_at(found.url) == found.instance else None


def wait_for_answer(state_file: Path, *, log_path: Path, timeout_s: float = 10.0) -> RunningServer | None:
    """Return the process that a state file tells of once it answers; one that does not is ended, and None returned.

    Only a process that was started as our server from this very folder is ever ended.
    """
    began = time.monotonic()
    while (found := _named_in(state_file, log_path)) is not None and _serves_from(found, state_file.parent):
        if _instance_at(found.url) == found.instance:
            return found
        if time.monotonic() - began >= timeout_s:
            stop_server(found)
            return None
        time.sleep(_POLL_S)
    return None


def _named_in(state_file: Path, log_path: Path) -> RunningServer | None:
    """Return the process that a state file names, which may be another one by now."""
    try:
        state = ServerState.model_validate_json(state_file.read_bytes())
        create_time = psutil.Process(state.pid).create_time()
    except (FileNotFoundError, ValidationError, psutil.NoSuchProcess):
        return None
    return RunningServer(
        pid=state.pid,
        create_time=create_time,
        url=state.url,
        grpc=state.grpc,
        instance=state.instance,
        log_path=log_path.absolute(),
    )


def _serves_from(running: RunningServer, folder: Path) -> bool:
    process = find_process(running.pid, running.create_time)
    try:
        return process is not None and str(folder.absolute() / "server.json") in process.cmdline()
    except psutil.Error:
        return False


def find_process(pid: int, create_time: float) -> psutil.Process | None:
    """Return the process that was created at ``create_time``; None where it has ended, or another one has its pid.

    Args:
        pid: Its number.
        create_time: Seconds since the epoch, as the operating system said when it was asked first.
    """
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - create_time) > _SAME_PROCESS_S or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def is_running(running: RunningServer) -> bool:
    """Return whether this very process still runs; another one that took over its pid does not count."""
    return find_process(running.pid, running.create_time) is not None


def stop_server(running: RunningServer, *, timeout_s: float = 10.0) -> bool:
    """End a serving process: SIGTERM, which lets requests under way finish, then SIGKILL.

    Args:
        running: The process; only this very one is touched, not another one that took over its pid.
        timeout_s: How long it may take to end by itself.

    Returns:
        True if it was running and has ended, False if it was not running.

    Raises:
        EndpointError: It belongs to another user, or does not even end on SIGKILL.
    """
    if (process := find_process(running.pid, running.create_time)) is None:
        _reap(running.pid)
        return False
    try:
        process.terminate()
        _wait_for_end(process, timeout_s=timeout_s)
    except psutil.NoSuchProcess:
        pass  # it ended by itself in between
    except (psutil.AccessDenied, psutil.TimeoutExpired) as error:
        raise EndpointError(
            f"the server with pid {running.pid} at {running.url} could not be stopped: {error}"
        ) from error
    if child := _children.pop(running.pid, None):
        child.wait()
    return True


def _reap(pid: int) -> None:
    """Let go of a child that ended by itself: as long as nobody asks for its status it stays as a zombie."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]


def _with_whole_paths(config: ServerConfig, folder: Path) -> ServerConfig:
    places = {
        "models_file": config.models_file.absolute(),
        "state_file": config.state_file.absolute(),
        "log_file": (config.log_file or folder / "server.log").absolute(),
        "log_folder": None if config.log_folder is None else config.log_folder.absolute(),
    }
    return config.model_copy(update=places)


def _launch(config: ServerConfig, folder: Path) -> subprocess.Popen[bytes]:
    written = folder / "server.json"
    written.write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    # -P: a file in the working directory must not stand in for one of our modules.
    command = [sys.executable, "-P", "-m", "registry.endpoints.server", "--config", str(written.absolute())]
    with _log_path(config).open("ab") as log:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _children[child.pid] = child
    return child


def _environment(of_this_process: Mapping[str, str]) -> dict[str, str]:
    """Let the child find these packages also where they are not installed but run from a checkout."""
    known = of_this_process.get("PYTHONPATH", "")
    return {**of_this_process, "PYTHONPATH": f"{_PACKAGES}:{known}" if known else str(_PACKAGES)}


def _wait_until_ready(child: subprocess.Popen[bytes], config: ServerConfig, *, timeout_s: float) -> RunningServer:
    began = time.monotonic()
    while (waited_s := time.monotonic() - began) < timeout_s:
        if (status := child.poll()) is not None:
            raise EndpointError(_not_started(config, f"its server ended with status {status} after {waited_s:.1f} s"))
        found = find_server(config.state_file, log_path=_log_path(config))
        if found and found.instance == config.instance:
            return found
        time.sleep(_POLL_S)
    raise EndpointError(_not_started(config, f"its server was not ready after {timeout_s:g} s and was ended"))


def _instance_at(url: str) -> str | None:
    try:
        with httpx.Client(base_url=url, timeout=2.0, trust_env=False) as client:
            client.get("/v2/health/ready").raise_for_status()
            return str(client.get("/v2").raise_for_status().json()["modelway"]["instance"])
    except (httpx.HTTPError, ValueError, KeyError):
        return None


def _wait_for_end(process: psutil.Process, *, timeout_s: float) -> None:
    try:
        process.wait(timeout=timeout_s)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(timeout=timeout_s)


def _log_path(config: ServerConfig) -> Path:
    if config.log_file is None:
        raise EndpointError(f"the server of endpoint {config.endpoint!r} has no log file")
    return config.log_file


def _not_started(config: ServerConfig, what: str) -> str:
    log = _log_path(config)
    tail = log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
    ending = "\n".join(f"  {line}" for line in tail.splitlines()[-15:]) or "  (nothing)"
    return f"endpoint {config.endpoint!r} did not start: {what}. Its log, {log}, ends with:\n{ending}"
