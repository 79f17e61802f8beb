"""A working folder for `modelway` commands as a person would start them, and the ends of processes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "digits.yaml"
MODELWAY = Path(sys.executable).with_name("modelway")
RUNS_WITHIN_S = 150.0


@dataclass
class Ended:
    """How a command ended."""

    code: int
    output: str


@dataclass
class House:
    """A working folder of its own for `modelway` commands, with everything that they would keep elsewhere below it."""

    folder: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def registry(self) -> Path:
        return self.folder / ".modelway"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [str(MODELWAY), *arguments]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, within_s: float = RUNS_WITHIN_S) -> Ended:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=within_s)
        return Ended(process.returncode, output)

    def kill_all(self) -> None:
        """End what was started and is not over, with its children, by their process ids."""
        for process in self.started:
            if process.poll() is None:
                kill_tree(process.pid)
            process.communicate()


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants with SIGKILL."""
    try:
        parent = psutil.Process(pid)
        family = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue


def house_in(folder: Path, **more: str) -> House:
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MODELWAY_"))},
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        **more,
    }
    return House(folder, environment)
