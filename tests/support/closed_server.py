"""`modelway server` as a person would start it, in a folder of its own."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from working_folder import MODELWAY, House, kill_tree

READY_WITHIN_S = 600.0
PROGRAM = [str(MODELWAY)]
ANSWERS_WITHIN_S = 120.0


@dataclass
class Served:
    """A running server, and how to ask it."""

    house: House
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def auth_string(self) -> str:
        return (Path(self.house.environment["PREFECT_HOME"]) / "modelway-auth").read_text().strip()

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request with the auth string, as httpx does by itself: no CSRF token, no retries."""
        user, _, password = self.auth_string.partition(":")
        return self.ask_as_anybody(method, path, auth=(user, password), **more)

    def ask_as_anybody(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request with what is given here alone."""
        return httpx.request(method, f"{self.url}{path}", timeout=ANSWERS_WITHIN_S, **more)

    def stop(self, number: signal.Signals) -> None:
        """Signal it; see all its processes gone and its port free."""
        started = psutil.Process(self.process.pid)
        family = [started, *started.children(recursive=True)]
        self.process.send_signal(number)
        self.process.wait(timeout=ANSWERS_WITHIN_S)
        assert psutil.wait_procs(family, timeout=ANSWERS_WITHIN_S)[1] == []
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", self.port))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def serve(house: House, port: int, **environment: str) -> Served:
    """Start `modelway server` and wait until it answers; what it writes goes to ``server.log``, appended."""
    log = house.folder / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*PROGRAM, "server", "--port", str(port)],
            cwd=house.folder,
            env={**house.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    served = Served(house, port, process, log)
    try:
        _wait_for(served)
    except BaseException:
        kill_tree(process.pid)
        process.wait()
        raise
    return served


def _wait_for(served: Served) -> None:
    give_up_at = time.monotonic() + READY_WITHIN_S
    while True:
        assert served.process.poll() is None, served.log.read_text()
        try:
            if httpx.get(f"{served.url}/api/health").is_success:
                return
        except httpx.TransportError:
            if time.monotonic() > give_up_at:
                pytest.fail(f"the server was not ready within {READY_WITHIN_S:.0f} s:\n{served.log.read_text()}")
            time.sleep(0.3)


def words(text: str) -> str:
    """Return text without the line breaks and colours that a terminal adds."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())
