"""A real Prefect server for a module's runs, and a working folder for `modelway` commands."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from working_folder import House, house_in, kill_tree

STARTS_WITHIN_S = 90.0


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a real Prefect server on loopback, started for this module."""
    house = house_in(tmp_path_factory.mktemp("server"))
    port = _free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        cwd=house.folder,
        env=house.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/api"
    try:
        _wait_for(url, server)
        yield url
    finally:
        kill_tree(server.pid)
        server.wait()


@pytest.fixture
def house(tmp_path: Path, api_url: str) -> Iterator[House]:
    """A working folder whose runs go to the module's Prefect server."""
    made = house_in(tmp_path / "work", PREFECT_API_URL=api_url)
    try:
        yield made
    finally:
        made.kill_all()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < give_up_at:
        assert server.poll() is None, "the Prefect server ended at once"
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    pytest.fail(f"the Prefect server was not ready within {STARTS_WITHIN_S:.0f} s")
