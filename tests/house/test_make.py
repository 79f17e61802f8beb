"""The two commands and their set-up: what is listed, what is done again, what is refused and how."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

STAMPS = (".torch", ".run", ".dev")
CONSTRAINT = re.compile(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!-]*")


@pytest.fixture
def checkout(tmp_path: Path, root: Path) -> Path:
    """Return a copy of what set-up reads, without an environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(root / name, tmp_path)
    shutil.copytree(root / ".ci", tmp_path / ".ci")
    return tmp_path


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with nothing of the make that may be running us."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False)


def pretend_set_up(checkout: Path) -> None:
    """Leave the stamps that a finished set-up leaves, all of them newer than what they depend on."""
    (checkout / ".venv").mkdir()
    for second, stamp in enumerate(STAMPS):
        (checkout / ".venv" / stamp).touch()
        moment = (checkout / "Makefile").stat().st_mtime + 10 + second
        os.utime(checkout / ".venv" / stamp, (moment, moment))
    for file in ("pyproject.toml", "constraints.txt", ".ci/environment"):
        shutil.copystat(checkout / "Makefile", checkout / file)
    (checkout / ".ci" / "environment").chmod(0o755)


def test_help_lists_every_target_and_is_what_bare_make_does(root: Path) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    targets = re.findall(r"^([a-z]+):", makefile, re.MULTILINE)
    asked, bare = run("make", "help", cwd=root), run("make", cwd=root)
    assert asked.stdout == bare.stdout
    assert re.findall(r"^  make (\w+)  +\S", asked.stdout, re.MULTILINE) == targets == phony.group(1).split()


def test_a_finished_set_up_is_not_done_again(checkout: Path) -> None:
    pretend_set_up(checkout)
    assert run("make", "--question", ".venv/.dev", cwd=checkout).returncode == 0


@pytest.mark.parametrize("cause", ["pyproject.toml", "constraints.txt", ".ci/environment"])
def test_a_set_up_is_done_again_after_a_change_of(checkout: Path, cause: str) -> None:
    pretend_set_up(checkout)
    moment = (checkout / ".venv" / ".dev").stat().st_mtime + 1
    os.utime(checkout / cause, (moment, moment))
    assert run("make", "--question", ".venv/.dev", cwd=checkout).returncode == 1


@pytest.mark.parametrize("missing", STAMPS)
def test_a_set_up_that_was_interrupted_is_done_again(checkout: Path, missing: str) -> None:
    pretend_set_up(checkout)
    for stamp in STAMPS[STAMPS.index(missing) :]:
        (checkout / ".venv" / stamp).unlink()
    assert run("make", "--question", ".venv/.dev", cwd=checkout).returncode == 1


def test_run_sets_up_without_the_tools_of_developers(checkout: Path) -> None:
    planned = run("make", "--dry-run", "run", cwd=checkout).stdout
    assert "[sklearn" in planned
    assert ",dev]" not in planned
    assert ",dev]" in run("make", "--dry-run", "test", cwd=checkout).stdout


def test_an_approver_reaches_the_command_line_as_one_word(checkout: Path) -> None:
    pretend_set_up(checkout)
    program = checkout / ".venv" / "bin" / "modelway"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    assert run("make", "run", "APPROVE_AS=", cwd=checkout).stdout == "<run><configs/digits.yaml>"
    named = run("make", "run", "ARGS=--keep-serving", cwd=checkout, APPROVE_AS="Ann O'Hara; $(date)")
    assert named.stdout == "<run><configs/digits.yaml><--approve-as><Ann O'Hara; $(date)><--keep-serving>"


def test_a_python_that_is_too_old_is_named_and_nothing_is_made(checkout: Path) -> None:
    old = checkout / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2" && exit 0\nexit 1\n', encoding="utf-8")
    old.chmod(0o755)
    refused = run("make", "run", f"PYTHON={old}", cwd=checkout)
    assert refused.returncode != 0
    assert "needs Python 3.11 or newer" in refused.stderr
    assert "Python 3.9.2" in refused.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_not_there_is_named(checkout: Path) -> None:
    refused = run("make", "run", "PYTHON=no-such-python", cwd=checkout)
    assert refused.returncode != 0
    assert "'no-such-python' is not there" in refused.stderr


def test_a_python_without_venv_gets_the_name_of_the_package(checkout: Path) -> None:
    bare = checkout / "python3"
    bare.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\n', encoding="utf-8")
    bare.chmod(0o755)
    refused = run("make", "run", f"PYTHON={bare}", cwd=checkout)
    assert refused.returncode != 0
    assert "apt install python3-venv" in refused.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.heavy  # makes a virtual environment
@pytest.mark.parametrize("needs", [(), ("nvidia-cublas; sys_platform == 'nowhere'",), ("nvidia-cudnn-cu13==9.1",)])
def test_a_torch_that_would_bring_cuda_is_refused_before_it_is_installed(
    checkout: Path, tmp_path: Path, needs: tuple[str, ...]
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels, needs)
    only_there = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PYTHON": sys.executable, "TORCH_INDEX": ""}
    made = run(".ci/environment", "venv", "torch==2.13.0", cwd=checkout, **only_there)
    installed = run("venv/bin/python", "-c", "import torch", cwd=checkout).returncode == 0
    if needs and "nowhere" not in needs[0]:
        assert made.returncode != 0
        assert "nvidia-cudnn-cu13" in made.stderr
        assert "TORCH_INDEX=URL" in made.stderr
        assert not installed
    else:
        assert made.returncode == 0, made.stderr
        assert installed


def write_wheel(folder: Path, needs: tuple[str, ...]) -> None:
    """Write a wheel that calls itself torch 2.13.0, holds an empty module, and needs what it is told to."""
    about = "torch-2.13.0.dist-info"
    metadata = "\n".join(
        ["Metadata-Version: 2.1", "Name: torch", "Version: 2.13.0"] + [f"Requires-Dist: {n}" for n in needs]
    )
    with zipfile.ZipFile(folder / "torch-2.13.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("torch.py", "")
        wheel.writestr(f"{about}/METADATA", metadata + "\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


def test_constraints_pin_every_package_by_version_alone(root: Path) -> None:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not CONSTRAINT.fullmatch(pin)] == []
    assert pins == sorted(pins, key=lambda pin: pin.upper())
    assert not [pin for pin in pins if pin.startswith("nvidia")]


def test_the_torch_of_the_makefile_is_the_torch_of_the_constraints(root: Path) -> None:
    chosen = re.search(r"^TORCH := (\S+)$", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert chosen
    assert chosen.group(1) in (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
