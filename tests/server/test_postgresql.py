"""Prefect on PostgreSQL by one setting: an approval outlives the server, a worker gets through every lock."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import UUID

import pytest
from closed_server import PROGRAM, READY_WITHIN_S, free_port, serve, words
from postgresql import postgresql
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from working_folder import ROOT, House, house_in, kill_tree

from deployments.worker import POOL

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]  # a server takes minutes to start where many do


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgresql() as url:
        yield url


def test_an_approval_that_waits_on_postgresql_outlives_the_server_and_ends_the_run(
    tmp_path: Path, database: str
) -> None:
    house = house_in(tmp_path, PREFECT_WORKER_QUERY_SECONDS="10", PREFECT_API_DATABASE_CONNECTION_URL=database)
    served = serve(house, free_port())
    auth_string = served.auth_string
    with (
        _working(house, served.url, auth_string),
        temporary_settings({PREFECT_API_URL: f"{served.url}/api", PREFECT_API_AUTH_STRING: auth_string}),
    ):
        try:
            run = _ask()
            _wait_for(run, StateType.PAUSED)
            served.stop(signal.SIGINT)

            # The next one gets the same string in another way, which wins over the kept one: that is not made again.
            (tmp_path / "prefect" / "modelway-auth").unlink()
            served = serve(house, served.port, PREFECT_SERVER_API_AUTH_STRING=auth_string)
            assert served.ask_as_anybody("GET", "/api/admin/version").status_code == 401
            assert _state(run) == StateType.PAUSED
            with get_client(sync_client=True) as client:
                client.resume_flow_run(run, run_input={"decision": "approve"})
            _wait_for(run, StateType.COMPLETED)
            served.stop(signal.SIGTERM)
        finally:
            kill_tree(served.process.pid)
    assert not (tmp_path / "prefect" / "modelway-auth").exists()
    assert not (tmp_path / "prefect" / "prefect.db").exists()
    told = served.log.read_text() + (tmp_path / "worker.log").read_text()
    assert told.count("database   postgresql") == 2
    assert [secret for secret in (*_spellings(database), auth_string) if secret in told] == []


def test_a_database_that_refuses_the_password_ends_the_server_and_the_password_is_not_told(
    tmp_path: Path, database: str
) -> None:
    wrong = database.replace("modelway:", "modelway:wr%40ng-", 1)
    ended = subprocess.run(
        [*PROGRAM, "server", "--port", str(free_port()), "--database", wrong],
        env=house_in(tmp_path).environment,
        capture_output=True,
        text=True,
        timeout=READY_WITHIN_S,
        check=False,
    )
    assert ended.returncode != 0
    assert "password authentication failed" in words(ended.stdout + ended.stderr)
    assert [secret for secret in _spellings(wrong) if secret in ended.stdout + ended.stderr] == []


def _spellings(database: str) -> tuple[str, str]:
    written = urlsplit(database).password or ""
    return written, unquote(written)


@contextlib.contextmanager
def _working(house: House, url: str, auth_string: str) -> Iterator[None]:
    """Have `modelway worker` run what the server hands out, in the folder of this test."""
    folder = Path(__file__).parent
    with (house.folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [*PROGRAM, "worker"],
            cwd=house.folder,
            env={
                **house.environment,
                "PREFECT_API_URL": f"{url}/api",
                "PREFECT_API_AUTH_STRING": auth_string,
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
        assert worker.poll() is None, "the worker ended while the server was away"
    finally:
        kill_tree(worker.pid)
        worker.wait()


def _ask() -> UUID:
    """Deploy the flow that asks, once the worker has made its pool, and start a run of it."""
    with get_client(sync_client=True) as client:
        _until(lambda: POOL in [pool.name for pool in client.read_work_pools()], "the worker made no pool")
        flow = client.create_flow_from_name("ask")
        deployment = client.create_deployment(flow, "test", entrypoint="asking.ask", work_pool_name=POOL)
        return client.create_flow_run_from_deployment(deployment).id


def _state(run: UUID) -> StateType | None:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run).state_type


def _wait_for(run: UUID, wanted: StateType) -> None:
    def there() -> bool:
        state = _state(run)
        assert state not in {StateType.FAILED, StateType.CRASHED}, state
        return state == wanted

    _until(there, f"the run is not {wanted.value}")


def _until(there: Callable[[], bool], otherwise: str) -> None:
    give_up_at = time.monotonic() + READY_WITHIN_S
    while not there():
        if time.monotonic() > give_up_at:
            pytest.fail(f"{otherwise} within {READY_WITHIN_S:.0f} s")
        time.sleep(0.3)
