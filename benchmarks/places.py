"""Where the sides run: environments of their own for the peers, and folders that are filled once and copied."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.contestants import ROOT, Place, SideFailed, Worker
from benchmarks.sides.answering import Sizes, as_argument

OURS = "ours"
FLOOR = "floors"
PEERS = {"mlflow": "mlflow==3.17.2", "modelstore": "modelstore==0.0.82", "bentoml": "bentoml==1.4.39"}
"""The peers, each with what pip installs into its environment."""

SERVER_STARTS_WITHIN_S = 120.0

_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "BENTOML_DO_NOT_TRACK": "True", "PYTHONPATH": str(ROOT)}


def python_of(side: str, cache: Path) -> Path:
    """Return the interpreter of a side; a peer's environment is made at first need, with pip as it is configured here.

    Raises:
        CalledProcessError: pip could not install it; what it said has been shown.
    """
    if side not in PEERS:
        return Path(sys.executable)
    folder = cache / "environments" / PEERS[side].replace("==", "-")
    python, finished = folder / "bin" / "python", folder / "finished"
    if not finished.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = (python, "-m", "pip", "--disable-pip-version-check", "-q")
        subprocess.run([*pip, "install", PEERS[side]], check=True)
        finished.touch()
    return python


def place_of(side: str, cache: Path, scratch: Path, sizes: Sizes) -> Place:
    """Return a side's place below ``scratch``, with a copy of what its ``fill`` makes.

    Raises:
        SideFailed: It could not be filled.
    """
    folder = scratch / side
    environment = {
        **_QUIET,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "BENTOML_HOME": str(folder / "home"),
    }
    place = Place(python_of(side, cache), folder, environment)
    if side == FLOOR:
        folder.mkdir()
        return place
    # Of ours nothing is ever rewritten in place, so links will do; the others change their files.
    copy: Callable[[str, str], object] = os.link if side == OURS else shutil.copy2
    shutil.copytree(_filled(side, place, cache, sizes), folder, copy_function=copy)
    return place


def _filled(side: str, place: Place, cache: Path, sizes: Sizes) -> Path:
    """Return the folder that a side's ``fill`` made, now or in an earlier run with the same code and sizes."""
    counts = f"{sizes.versions}-{sizes.models}"
    fixture = cache / "filled" / f"{side}-{counts}-{_digest(side, sizes)}"
    if fixture.exists():
        return fixture
    for old in fixture.parent.glob(f"{side}-{counts}-*"):
        shutil.rmtree(old)
    unfinished = fixture.with_name(f".{side}-{os.getpid()}")
    unfinished.mkdir(parents=True)
    worker = Worker(side, "fill", Place(place.python, unfinished, place.environment), sizes)
    try:
        worker.measure()
        unfinished.rename(fixture)
    finally:
        worker.close()
        shutil.rmtree(unfinished, ignore_errors=True)
    return fixture


def _digest(side: str, sizes: Sizes) -> str:
    sources = [ROOT / "benchmarks" / "sides" / f"{side}.py"]
    if side == OURS:
        sources += sorted((ROOT / "registry").rglob("*.py"))
    digest = hashlib.sha256((PEERS.get(side, "") + as_argument(sizes)).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def mlflow_server(direct: Place) -> Iterator[Place]:
    """Give a place like ``direct``, with a copy of its database behind a server, for as long as the context lasts.

    The server is lean: one worker, and no jobs. As it comes, every request to it stalls for 44 ms, because uvicorn
    shares one selector with the processes of the jobs; a comparison with that would flatter us.

    Raises:
        SideFailed: It did not answer within ``SERVER_STARTS_WITHIN_S``.
    """
    folder = direct.folder.with_name("mlflow-server")
    shutil.copytree(direct.folder, folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {**direct.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [
                *(direct.python, "-m", "mlflow", "server", "--workers", "1"),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--default-artifact-root", folder),
            ],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,  # it starts processes of its own, and all of them are ended together
        )
    try:
        _wait_for(f"{url}/health", server)
        yield Place(direct.python, folder, {**environment, "MLFLOW_TRACKING_URI": url})
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        server.wait(timeout=30)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + SERVER_STARTS_WITHIN_S
    while time.monotonic() < give_up_at and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - the address was made above
            return
        time.sleep(0.2)
    raise SideFailed(f"the server of mlflow did not answer at {url}; its log lies beside its database")
