"""Debian's PostgreSQL on a free port of 127.0.0.1, in a folder that is removed afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from closed_server import free_port
from working_folder import kill_tree

PASSWORD = "a p@ss:w/rd? of 100%"  # noqa: S105  # every character that means something in a URL
READY_WITHIN_S = 60.0


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Run a server of its own, and give the URL of its one database as `--database` takes it."""
    programs, user = _programs(), _user()
    # Not below pytest's folder, which is closed to others: PostgreSQL refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    data, word, port = folder / "data", folder / "word", free_port()
    word.write_text(PASSWORD)
    if user:
        for path in (folder, word):
            os.chown(path, user["user"], user["group"])
    try:
        _run(
            [programs / "initdb", "-D", data, "-U", "modelway", "--pwfile", word, "-A", "scram-sha-256", "--no-sync"],
            cwd=folder,
            **user,
        )
        settings = ["listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}", "fsync=off"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *(word for setting in settings for word in ("-c", setting))],
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                **user,
            )
        try:
            _wait_for(programs, port, server, folder / "log")
            yield f"postgresql://modelway:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        finally:
            kill_tree(server.pid)
            server.wait()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    """Return the folder of the newest PostgreSQL; installed from Debian where there is none."""
    if not _installed():
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "postgresql"]):
            _run(["apt-get", *words], env=quiet)
    return _installed()[-1]


def _installed() -> list[Path]:
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")  # not on PATH: Debian keeps several side by side
    return sorted((path.parent for path in found), key=lambda path: float(path.parent.name))


def _user() -> dict[str, Any]:
    """Return options of ``Popen`` for a process that is not root's; none where we are not root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _run(command: list[str | Path], **options: Any) -> None:
    ended = subprocess.run(command, capture_output=True, timeout=280, check=False, **options)
    assert ended.returncode == 0, ended.stderr.decode()


def _wait_for(programs: Path, port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + READY_WITHIN_S
    while subprocess.run([programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], check=False).returncode:
        assert server.poll() is None, log.read_text()
        if time.monotonic() > give_up_at:
            pytest.fail(f"PostgreSQL was not ready within {READY_WITHIN_S:.0f} s:\n{log.read_text()}")
        time.sleep(0.2)
