"""The real Triton Inference Server, of the wheel ``nvidia-pytriton``, as a process on ports of 127.0.0.1.

The wheel has NVIDIA's server and its Python backend. It never goes into the project's own environment, which it would
drag back to numpy 1; its backends run over packages of their own for the same reason.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from closed_server import free_port
from filelock import FileLock
from working_folder import kill_tree

VERSION = "0.7.0"
"""Of the wheel; its server calls itself 2.51."""

_PACKAGES = ["numpy==1.26.4", "onnxruntime==1.31.1"]  # with numpy 2 the Python backend gives empty outputs
_BACKENDS = ("onnxruntime", "tensorrt", "pytorch")
_READY_WITHIN_S = 60.0
_ENDS_WITHIN_S = 40.0


@dataclass(frozen=True)
class Addresses:
    """Where a server listens, each ``host:port``; ``log`` is what it wrote."""

    http: str
    grpc: str
    metrics: str
    pid: int
    log: Path


@contextlib.contextmanager
def running_triton(
    repository: Path | str, *, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Addresses]:
    """Run a server with explicit model control over a repository, with no model loaded.

    Args:
        repository: A folder, which is made where it is missing, or an address that Triton itself can read.
        arguments: Further ones for the server.
        environment: Variables for it, such as the credentials of an object store.
    """
    if isinstance(repository, Path):
        repository.mkdir(parents=True, exist_ok=True)
    home = _installed()
    folder = Path(tempfile.mkdtemp(prefix="triton-"))
    process, addresses = _start(home, str(repository), arguments, environment or {}, folder / "log")
    try:
        _wait_for(process, addresses)
        yield addresses
    finally:
        _end(process)
        shutil.rmtree(folder)


def help_text() -> str:
    """Return what the server says of its flags."""
    home = _installed()
    environment = {**os.environ, **_interpreter(home)}
    said = subprocess.run([_program(home), "--help"], check=False, capture_output=True, text=True, env=environment)
    return said.stdout + said.stderr


def _program(home: Path) -> str:
    return str(home / "wheel/pytriton/tritonserver/bin/tritonserver")


def _start(
    home: Path, repository: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> tuple[subprocess.Popen[bytes], Addresses]:
    ports = {service: free_port() for service in ("http", "grpc", "metrics")}
    listening = [f"--{name}-address=127.0.0.1" for name in ports] + [f"--{n}-port={p}" for n, p in ports.items()]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                _program(home),
                f"--model-repository={repository}",
                f"--backend-directory={home / 'backends'}",
                "--model-control-mode=explicit",
                "--strict-readiness=false",  # else a version that does not load makes the whole server unready
                *listening,
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_interpreter(home), **environment},
            start_new_session=True,
        )
    found = {service: f"127.0.0.1:{port}" for service, port in ports.items()}
    return process, Addresses(**found, pid=process.pid, log=log)


def _interpreter(home: Path) -> dict[str, str]:
    """Return the variables with which the Python backend, which heeds no PYTHONPATH, finds its own environment."""
    libraries = [str(home / "wheel/nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    return {
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PATH": os.pathsep.join([str(home / "environment/bin"), os.environ["PATH"]]),
    }


def _wait_for(process: subprocess.Popen[bytes], addresses: Addresses) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://{addresses.http}/v2/health/ready", timeout=5.0).status_code == httpx.codes.OK:
                return
        time.sleep(0.05)
    raise RuntimeError(f"Triton does not answer:\n{addresses.log.read_text()[-4000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it unload its models, which ends their processes too, or kill all of them."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        kill_tree(process.pid)
        process.wait()


def _installed() -> Path:
    """Return the folder of the server; installed beside this environment's packages once, whoever asks first."""
    home = Path(sys.prefix) / f"tritonserver-{VERSION}"
    with FileLock(f"{home}.lock"):
        if not (home / "backends").is_dir():
            _install_library()
            _pip("--no-deps", "--target", str(home / "wheel"), f"nvidia-pytriton=={VERSION}")
            environment = home / "environment"
            venv.create(environment, clear=True, symlinks=True)
            packages = sysconfig.get_path("purelib", vars={"base": str(environment)})
            _pip("--only-binary=:all:", "--target", packages, *_PACKAGES)
        _write_backends(home)
    return home


def _pip(*arguments: str) -> None:
    quiet = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq", "install", "--upgrade"]
    # Its output tells of conflicts with this environment, which has no part in it.
    done = subprocess.run([*quiet, *arguments], check=False, capture_output=True, text=True, timeout=280)
    if done.returncode:
        raise RuntimeError(f"pip could not install {arguments[-1]}:\n{done.stderr[-4000:]}")


def _install_library() -> None:
    """Install this interpreter as a library, for the Python backend, where Debian has it in a package of its own."""
    name = f"libpython{sysconfig.get_python_version()}"
    if not Path(sysconfig.get_config_var("LIBDIR"), f"{name}.so.1.0").exists():
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", name]):
            subprocess.run(["apt-get", "-qq", *arguments], check=True)  # noqa: S607 - from PATH


def _write_backends(home: Path) -> None:
    server = home / "wheel/pytriton/tritonserver"
    ours = Path(__file__).with_name("triton_backend.py").read_bytes()
    if all((home / f"backends/{name}/model.py").is_file() for name in _BACKENDS) and all(
        (home / f"backends/{name}/model.py").read_bytes() == ours for name in _BACKENDS
    ):
        return
    made = home / f"backends-{os.getpid()}"
    shutil.copytree(server / "backends/python", made / "python")
    stub = server / "python_backend_stubs" / sysconfig.get_python_version() / "triton_python_backend_stub"
    shutil.copy2(stub, made / "python")
    for name in _BACKENDS:
        (made / name).mkdir()
        (made / name / "model.py").write_bytes(ours)
    shutil.rmtree(home / "backends", ignore_errors=True)
    made.rename(home / "backends")
