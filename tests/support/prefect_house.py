"""A real Prefect server and real workers in a folder: started, killed, replaced and asked, as tests of runs need it.

    with PrefectHouse(tmp_path) as house:
        house.start_worker()
        deployment = house.apply("flows.lifecycle:lifecycle")
        run = house.run(deployment, config="digits.yaml")
        house.wait_for(run, "PAUSED")
        house.answer(run, decision="approve", approver="ann", reason="better")
        house.wait_for(run, "COMPLETED")

Flows are imported from the repository and run in ``house.work``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx
import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import LogFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import OrchestrationResult
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_LOCAL_STORAGE_PATH,
    temporary_settings,
)
from prefect.workers.process import ProcessWorker
from working_folder import ROOT, house_in, kill_tree

from deployments.server import server_environment

AUTH = "admin:a test's word"
POOL = "here"
WITHIN_S = 240.0
FORGOTTEN_WITHIN_S = 20.0

Found = TypeVar("Found")


def forget_the_server() -> None:
    """Have Prefect send this process's logs and events now, and drop the threads that send them.

    Prefect keeps one such thread for a process, whatever server it was made for: what a later module's runs have to
    tell would go to a server that is gone, for minutes. In a thread, because where an event loop runs, as it does under
    Playwright, they only promise to do it.
    """
    with ThreadPoolExecutor(1) as elsewhere:
        for service in (APILogWorker, EventsWorker):
            elsewhere.submit(service.drain_all, timeout=FORGOTTEN_WITHIN_S, at_exit=False).result()


@dataclass(frozen=True)
class Form:
    """What a paused run asks for: its JSON schema, the Markdown above it, and the key that the answer will have."""

    schema: dict[str, Any]
    description: str
    key: str


@dataclass
class Program:
    """A process of the house that can be started again; its output is kept in ``log``."""

    command: list[str]
    folder: Path
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment, start_new_session=True, **streams
            )

    def stop(self) -> None:
        """Ask it to end, as a supervisor would; kill it when it does not."""
        if self.process is not None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
            self.kill()

    def kill(self, *, children: bool = True) -> None:
        """End it with SIGKILL; ``children=False`` leaves those that it started, as an operator's kill -9 does."""
        if self.process is not None:
            if children:
                kill_tree(self.process.pid)
            else:
                self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class PrefectHouse:
    """A Prefect server of its own on a free port of 127.0.0.1, with its SQLite database in ``folder``.

    ``auth`` is the string that its clients must give, None for a server that asks for none. ``more`` are settings for
    everything that is started here.
    """

    folder: Path
    auth: str | None = None
    more: Mapping[str, str] = field(default_factory=dict)
    workers: dict[str, Program] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Choose the port; it stays the same when the server is started again."""
        self.work = self.folder / "work"
        self.work.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.api_url = f"{self.url}/api"
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        environment = {**self.environment, **self._server_environment()}
        self.server = Program(command, self.work, environment, self.folder / "server.log")

    def __enter__(self) -> Self:
        """Start the server."""
        try:
            self.start_server()
        except BaseException:  # what was started must not outlive a start that failed
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End everything that was started in this house, however often removed: runs and endpoints too."""
        forget_the_server()
        for program in (*self.workers.values(), self.server):
            program.kill()
        for process in self.processes(PREFECT_HOME=self.environment["PREFECT_HOME"]):
            kill_tree(process.pid)

    @property
    def environment(self) -> dict[str, str]:
        """For the house's clients and workers; a test may give it to commands of its own."""
        return {
            **house_in(self.folder).environment,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]),
            "PREFECT_API_URL": self.api_url,
            **({} if self.auth is None else {"PREFECT_API_AUTH_STRING": self.auth}),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            **self.more,
        }

    def _server_environment(self) -> dict[str, str]:
        database = f"sqlite+aiosqlite:///{self.folder}/prefect.db"
        if self.auth is not None:
            return server_environment(self.port, self.auth, database)
        return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database, "PREFECT_SERVER_UI_API_URL": self.api_url}

    @contextlib.contextmanager
    def settings(self) -> Iterator[None]:
        """Have Prefect's own functions in this process talk to this house."""
        home = Path(self.environment["PREFECT_HOME"])
        kept: dict[Any, Any] = {PREFECT_HOME: home, PREFECT_LOCAL_STORAGE_PATH: home / "storage"}
        with temporary_settings({**kept, PREFECT_API_URL: self.api_url, PREFECT_API_AUTH_STRING: self.auth}):
            yield

    @contextlib.contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """Open Prefect's client."""
        with self.settings(), SyncPrefectClient(self.api_url, auth_string=self.auth) as client:
            yield client

    # ------------------------------------------------------------------------------------------------- what is running
    def start_server(self) -> None:
        self.server.start()

        def ready() -> bool:
            assert self.server.process is None or self.server.process.poll() is None, self._tail(self.server)
            return httpx.get(f"{self.api_url}/health").is_success

        self.until(ready, lambda: f"the server is not ready:\n{self._tail(self.server)}")

    def replace_database(self) -> None:
        """Stop the server, throw its database away, and start it: Prefect has forgotten everything."""
        self.server.stop()
        for file in self.folder.glob("prefect.db*"):
            file.unlink()
        self.start_server()

    def start_worker(self, pool: str = POOL) -> Program:
        """Start a process worker on a pool, which is made when it is not there; ``workers[pool]`` from then on."""
        self._make_pool(pool)
        if pool not in self.workers:
            command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
            self.workers[pool] = Program(command, self.work, self.environment, self.folder / f"worker-{pool}.log")
        self.workers[pool].start()
        return self.workers[pool]

    def processes(self, **marks: str) -> list[psutil.Process]:
        """Return the processes whose environment has these values, e.g. ``PREFECT__FLOW_RUN_ID=str(run)``."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and marks.items() <= process.environ().items():
                    found.append(process)
        return found

    def engines(self, run: UUID) -> list[psutil.Process]:
        """Return the processes that carry a run, and what they started."""
        return self.processes(PREFECT_HOME=self.environment["PREFECT_HOME"], PREFECT__FLOW_RUN_ID=str(run))

    # ---------------------------------------------------------------------------------------------------- what is asked
    def apply(self, flow: str, *, pool: str = POOL, name: str = "test", **options: Any) -> UUID:
        """Deploy ``module:function`` to a pool, to be run in ``work``; ``options`` as Prefect's client takes them."""
        self._make_pool(pool)
        module, function = flow.split(":")
        with self.client() as client:
            return client.create_deployment(
                client.create_flow_from_name(function),
                name,
                entrypoint=f"{module}.{function}",
                work_pool_name=pool,
                job_variables={"working_dir": str(self.work), **options.pop("job_variables", {})},
                **options,
            )

    def run(self, deployment: UUID, **parameters: Any) -> UUID:
        with self.client() as client:
            return client.create_flow_run_from_deployment(deployment, parameters=parameters).id

    def read(self, run: UUID) -> FlowRun:
        with self.client() as client:
            return client.read_flow_run(run)

    def wait_for(self, run: UUID, *wanted: str, within_s: float = WITHIN_S) -> FlowRun:
        """Return the run once its state has one of these types or names; fail with its logs when it ends otherwise."""

        def there() -> FlowRun | None:
            found = self.read(run)
            state = found.state
            if state is None or not {state.type.value, state.name} & set(wanted):
                assert state is None or not state.is_final(), f"the run is {state}\n{self.logs(run)}"
                return None
            return found

        return self.until(there, lambda: f"the run is not {wanted}: {self.read(run).state}\n{self.logs(run)}", within_s)

    def form(self, run: UUID) -> Form:
        """Return what a paused run shows; Prefect saves it a moment after it has paused the run."""

        def there() -> Form | None:
            with self.client() as client:
                state = client.read_flow_run(run).state
                keys = state.state_details.run_input_keyset if state is not None and state.is_paused() else None
                assert keys is not None, f"the run is {state} and asks for nothing\n{self.logs(run)}"
                schema, description = (
                    client.read_flow_run_input(run, keys[what]) for what in ("schema", "description")
                )
                return Form(json.loads(schema), json.loads(description), keys["response"])

        return self.until(there, lambda: f"the run shows no form\n{self.logs(run)}")

    def answer(self, run: UUID, **fields: str) -> OrchestrationResult[Any]:
        """Resume a run as Prefect's UI does; ``.status`` says whether it was taken."""
        with self.client() as client:
            return client.resume_flow_run(run, run_input=fields)

    def logs(self, run: UUID) -> str:
        """Return what the run has logged, and the end of what its worker says."""
        with self.client() as client:
            lines = [
                log.message for log in client.read_logs(LogFilter.model_validate({"flow_run_id": {"any_": [run]}}))
            ]
        return "\n".join([*lines, *(self._tail(worker) for worker in self.workers.values())])

    def until(
        self, there: Callable[[], Found | None], otherwise: Callable[[], str], within_s: float = WITHIN_S
    ) -> Found:
        """Return what ``there`` finds; a server that is away for a while, or has not written it yet, is waited for."""
        give_up_at = time.monotonic() + within_s
        while True:
            with contextlib.suppress(httpx.TransportError, ObjectNotFound, PrefectHTTPStatusError):
                if found := there():
                    return found
            if time.monotonic() > give_up_at:
                pytest.fail(f"within {within_s:.0f} s: {otherwise()}")
            time.sleep(0.3)

    def _make_pool(self, pool: str) -> None:
        template = ProcessWorker.get_default_base_job_template()
        with self.client() as client, contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))

    def _tail(self, program: Program) -> str:
        return f"{program.log.name}: ..." + program.log.read_text(errors="replace")[-3000:]
