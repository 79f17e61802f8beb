"""``modelway server``: Prefect's own server, on loopback and closed to whoever does not hold its auth string.

``server_environment`` is the whole of what makes it safe; tests that need a server start theirs with it too.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from registry.cli.options import Context
from registry.errors import EndpointError, InvalidInputError

LOOPBACK: Final = "127.0.0.1"
DEFAULT_PORT: Final = 4200
AUTH_FILE: Final = "modelway-auth"
DATABASE_VARIABLES: Final = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
DRIVERS: Final = {
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
}


def server_environment(
    port: int, auth_string: str, database: str | None = None, *, host: str = LOOPBACK
) -> dict[str, str]:
    """Return the variables of ``prefect server start``, to be put over those of its environment.

    A client of it needs ``PREFECT_API_URL=http://127.0.0.1:<port>/api`` and ``PREFECT_API_AUTH_STRING=<auth_string>``.

    Args:
        port: Where it listens.
        auth_string: What every request must bring.
        database: A URL that ``database_url`` takes; None is SQLite under PREFECT_HOME, or what the environment says.
        host: The address it binds.

    Raises:
        InvalidInputError: ``database`` is no URL of a database that Prefect can use.
    """
    environment = {
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_API_AUTH_STRING": auth_string,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        # Prefect's default is "*", every page that a browser has open.
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://{_in_url(host)}:{port}",
        # Relative to the page, so right for any port, for `localhost`, through a tunnel and behind a proxy.
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    if database is not None:
        environment[DATABASE_VARIABLES[0]] = database_url(database)
    return environment


def database_url(url: str) -> str:
    """Return the URL of a database with the driver that Prefect wants.

    Args:
        url: ``postgresql://user:password@host/name`` or ``sqlite:////absolute/path.db``, with or without a driver.

    Raises:
        InvalidInputError: It is something else. The message holds no part of it: it may be a password.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
        return parsed.set(drivername=DRIVERS[parsed.drivername]).render_as_string(hide_password=False)
    except (ArgumentError, KeyError, ValueError):
        raise InvalidInputError(
            "the database is not given as postgresql://USER:PASSWORD@HOST/NAME or sqlite:////PATH. Characters such as "
            "@ : / ? in the password are written as %40 %3A %2F %3F."
        ) from None


def prefect_home() -> Path:
    """Return the folder where Prefect keeps what it keeps."""
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()


def auth_file() -> Path:
    """Return where the auth string of this machine's server lies."""
    return prefect_home() / AUTH_FILE


def kept_auth_string() -> str:
    """Return the auth string of this machine's server; the first call makes it.

    Raises:
        InvalidInputError: Others can read the file, or it is empty.
    """
    from secrets import token_urlsafe

    path = auth_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        _create(path, f"modelway:{token_urlsafe(32)}\n")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise InvalidInputError(
            f"{path} holds the auth string of Prefect's server, and others on this machine may have read it. "
            f"Remove it: the next `modelway server` makes a new one."
        )
    kept = path.read_text().strip()
    if not kept:
        raise InvalidInputError(f"{path} is empty. Remove it: the next `modelway server` makes a new auth string.")
    return kept


def start(*, host: str = LOOPBACK, port: int = DEFAULT_PORT, database: str | None = None) -> NoReturn:
    """Turn this process into Prefect's server, after telling on standard output how to reach it.

    Args:
        host: The address to bind.
        port: The port to bind.
        database: As for ``server_environment``.

    Raises:
        EndpointError: The port is taken.
        InvalidInputError: The host is none of this machine, or the database or the auth string cannot be used.
    """
    os.umask(0o077)  # Prefect's database holds the parameters and logs of runs: for its owner only
    named = next((variable for variable in DATABASE_VARIABLES if os.environ.get(variable)), None)
    database = database or (os.environ[named] if named else None)
    given = os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
    environment = server_environment(port, given or kept_auth_string(), database, host=host)
    _check_free(host, port)
    if not _is_loopback(host):
        typer.secho("warning: ", fg="yellow", err=True, nl=False)
        typer.echo(_open_to_others(host), err=True)
    typer.echo(_welcome(host, port, database, auth_from_file=not given))
    sys.stdout.flush()
    # -P: a folder named like a module, where this was typed, is not imported in its place.
    command = [sys.executable, "-P", "-m", "prefect", "--no-prompt", "server", "start"]
    os.execve(sys.executable, command, {**os.environ, **environment})  # noqa: S606  # no shell: the words are fixed


def server(
    ctx: Context,
    *,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The port.")] = DEFAULT_PORT,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="The address to bind; anything but loopback opens it.")
    ] = LOOPBACK,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            help="postgresql://USER:PASSWORD@HOST/NAME; better in PREFECT_SERVER_DATABASE_CONNECTION_URL. Else SQLite.",
        ),
    ] = None,
) -> None:
    """Start Prefect's server on this machine: loopback, auth string, CSRF protection, CORS."""
    if ctx.obj.as_json:
        raise InvalidInputError("server tells people how to reach it, and prints no JSON.")
    start(host=host, port=port, database=database)


def _create(path: Path, text: str) -> None:
    """Create a file for its owner only, whole or not at all; leave one that somebody else made meanwhile."""
    from tempfile import mkstemp

    handle, temporary = mkstemp(dir=path.parent)  # with mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink()


def _check_free(host: str, port: int) -> None:
    """Raise unless the port can be bound now; Prefect says it less clearly, and later."""
    import socket

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        raise InvalidInputError(f"--host {host} is no address. Leave it away for {LOOPBACK}.") from None
    except OSError as error:
        raise EndpointError(
            f"Prefect's server cannot listen on {host}:{port}: {error.strerror}. If it runs there already, use that "
            f"one; else choose another port: modelway server --port N"
        ) from None


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _open_to_others(host: str) -> str:
    return (
        f"bound to {host}, the server can be reached from other machines, and nothing is encrypted: whoever listens on "
        f"the network learns the auth string, and whoever knows it can run flows and answer approvals here. "
        f"A reverse proxy with TLS before {LOOPBACK} is the better way (docs/operations.md)."
    )


def _welcome(host: str, port: int, database: str | None, *, auth_from_file: bool) -> str:
    """Return what a person needs to know next; neither the auth string nor the database's password is in it."""
    import shlex

    anywhere = host in {"0.0.0.0", "::"}  # noqa: S104  # compared with, not bound
    url = f"http://{_in_url(LOOPBACK if anywhere else host)}:{port}"
    home, file = prefect_home(), shlex.quote(str(auth_file()))
    kind = f"SQLite, {home / 'prefect.db'}" if database is None else database.partition(":")[0].partition("+")[0]
    source = f"cat {file}" if auth_from_file else 'echo "$PREFECT_SERVER_API_AUTH_STRING"'
    secret = f'"$({source})"' if auth_from_file else '"$PREFECT_SERVER_API_AUTH_STRING"'
    return f"""\
Prefect's server for modelway
  pages      {url}
  log in     with the auth string:  {source}
  database   {kind}

In every other terminal, first:
  export PREFECT_API_URL={url}/api
  export PREFECT_API_AUTH_STRING={secret}
then
  modelway deployments apply      once, and after every upgrade
  modelway worker                 runs the flows; keep it running

Ctrl-C ends the server.
"""
