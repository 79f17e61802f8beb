"""``modelway worker``: Prefect's own worker on this machine, which runs the flows."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Final, NoReturn

import typer

from deployments.server import DEFAULT_PORT, LOOPBACK, auth_file, kept_auth_string
from registry.cli.options import Context
from registry.errors import InvalidInputError

POOL: Final = "modelway"


def worker_environment() -> dict[str, str]:
    """Return the variables that lead a client to its server, to be put over those of its environment.

    The environment's ``PREFECT_API_URL`` decides. Where it names none it is the server of ``modelway server`` on this
    machine, with the auth string that was kept for it; that string is never sent to a server that somebody named.

    Raises:
        InvalidInputError: No server is named, and none was ever started here; or its auth string cannot be used.
    """
    environment = {"DO_NOT_TRACK": "1"}
    if os.environ.get("PREFECT_API_URL"):
        return environment
    environment["PREFECT_API_URL"] = f"http://{LOOPBACK}:{DEFAULT_PORT}/api"
    if not os.environ.get("PREFECT_API_AUTH_STRING"):
        if not auth_file().exists():
            raise InvalidInputError(
                f"PREFECT_API_URL names no server, and none was started here ({auth_file()} is not there). "
                f"Start one with `modelway server`, or set PREFECT_API_URL and PREFECT_API_AUTH_STRING."
            )
        environment["PREFECT_API_AUTH_STRING"] = kept_auth_string()
    return environment


def start(*, pool: str = POOL) -> NoReturn:
    """Turn this process into a worker of Prefect that runs flows as processes of this machine.

    Args:
        pool: The work pool that it serves; made as a process pool where there is none of that name.

    Raises:
        InvalidInputError: As ``worker_environment`` says.
    """
    environment = worker_environment()
    command = [
        sys.executable,
        "-P",
        "-m",
        "prefect",
        "--no-prompt",
        "worker",
        "start",
        "--pool",
        pool,
        "--type",
        "process",
    ]
    os.execve(sys.executable, command, {**os.environ, **environment})  # noqa: S606  # no shell: nothing is expanded


def worker(
    ctx: Context,
    *,
    pool: Annotated[str, typer.Option("--pool", metavar="NAME", help="The work pool to serve.")] = POOL,
) -> None:
    """Run the flows that Prefect's server hands out, on this machine."""
    if ctx.obj.as_json:
        raise InvalidInputError("worker tells people what it does, and prints no JSON.")
    start(pool=pool)
