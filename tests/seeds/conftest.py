"""The owner's documents as they were handed over, and how their examples are run: as they stand, in an empty folder."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

DOCUMENTS = Path(__file__).parent / "documents"
ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with nothing set that says where a registry lies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODELWAY_URL", raising=False)
    monkeypatch.setenv("MODELWAY_ACTOR", "ann")
    for name, folder in {"XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    return tmp_path


@pytest.fixture(scope="session")
def blocks() -> Callable[[str, str], list[str]]:
    """Return the reader of a document: its name and a language in, its examples in that language out."""

    def read(name: str, language: str) -> list[str]:
        text = (DOCUMENTS / f"{name}.txt").read_text(encoding="utf-8")
        return [body for found, body in BLOCK.findall(text) if found == language]

    return read


@pytest.fixture
def execute(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return how an example is run: its code and what came before it in, the names that it leaves out.

    ``packages`` maps the package that a document imports from to ours; nothing else of the code is changed.
    """

    def run(code: str, given: Mapping[str, Any] | None = None, *, packages: Mapping[str, str]) -> dict[str, Any]:
        for theirs, ours in packages.items():
            code = re.sub(rf"^from {re.escape(theirs)} import", f"from {ours} import", code, flags=re.MULTILINE)
        script = tmp_path / "example.py"
        script.write_text(code, encoding="utf-8")
        return runpy.run_path(str(script), init_globals=dict(given or {}))

    return run


@pytest.fixture
def shell(place: Path) -> Callable[[str], str]:
    """Return how a line of a document is run: by a real shell that finds `modelway`; it succeeds, and says this."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }

    def run(line: str) -> str:
        command = ["/usr/bin/env", "bash", "-c", line]
        ran = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert ran.returncode == 0, f"{line}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    return run
