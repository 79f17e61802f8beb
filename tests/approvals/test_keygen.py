"""`modelway approvals keygen`, and what the other verbs say where no server can be asked."""

from __future__ import annotations

import json
import re
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from deployments.cli import make_program
from registry import ModelRegistry
from registry.signing import public_of

Modelway = Callable[..., Result]


@pytest.fixture
def modelway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Modelway:
    """Return the command line in an empty folder: words in, what it wrote and its exit code out."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    program = make_program()
    return lambda *words: CliRunner().invoke(program, ["approvals", *map(str, words)], prog_name="modelway")


def test_a_key_is_made_that_only_its_owner_can_read(modelway: Modelway, tmp_path: Path) -> None:
    made = modelway("keygen", "ann.pem", "--as", "ann@example.com", "--json")
    assert made.exit_code == 0, made.output
    key = json.loads(made.stdout)
    assert key["file"] == "ann.pem"
    assert key["approver"] == "ann@example.com"
    private = (tmp_path / "ann.pem").read_bytes()
    assert public_of(private) == key["public"]
    assert stat.S_IMODE((tmp_path / "ann.pem").stat().st_mode) == 0o600
    assert private.decode() not in made.output


def test_without_a_file_the_key_goes_to_the_users_configuration(modelway: Modelway, tmp_path: Path) -> None:
    made = modelway("keygen")
    assert made.exit_code == 0, made.output
    (kept,) = tmp_path.rglob("*.pem")
    assert str(kept) in made.output
    assert public_of(kept.read_bytes()) in made.output


def test_a_key_is_never_written_over(modelway: Modelway, tmp_path: Path) -> None:
    (tmp_path / "ann.pem").write_text("precious")
    again = modelway("keygen", "ann.pem")
    assert again.exit_code == 2, again.output
    assert "ann.pem exists already, and a key is never written over" in again.stderr
    assert (tmp_path / "ann.pem").read_text() == "precious"
    (tmp_path / "link.pem").symlink_to(tmp_path / "elsewhere.pem")
    assert modelway("keygen", "link.pem").exit_code == 2
    assert not (tmp_path / "elsewhere.pem").exists()


def test_the_lines_that_it_prints_are_taken_by_a_guard(modelway: Modelway, tmp_path: Path) -> None:
    made = modelway("keygen", "ann.pem", "--as", 'ann "the boss"@example.com')
    yaml, python = re.split(r"\n\nor in Python:\n\n", made.stdout.partition("In the pipeline file:\n\n")[2])
    registry = ModelRegistry(tmp_path / "registry")
    listed: dict[str, Any] = YAML(typ="safe").load(yaml)["registry"]["guard"]
    assert listed["accept_asserted"] is False
    exec(python, {"registry": registry})  # noqa: S102 - the very line that people are told to write
    assert registry.guard.signers == listed["signers"]
    assert registry.guard.accept_asserted is False
    assert listed["signers"] == {'ann "the boss"@example.com': public_of((tmp_path / "ann.pem").read_bytes())}


@pytest.mark.parametrize("words", [["list"], ["show", "0"], ["approve", "0", "--as", "ann", "--reason", "x", "-y"]])
def test_without_a_server_the_error_says_how_to_name_one(modelway: Modelway, words: list[str]) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        ended = modelway(*words)
    assert ended.exit_code == 2, ended.output
    assert "no Prefect server is named: set PREFECT_API_URL" in ended.stderr


def test_a_server_that_is_away_is_told_at_once_with_its_address(modelway: Modelway) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: url}):
            ended = modelway("list")
    assert ended.exit_code == 1, ended.output
    assert f"the Prefect server at {url} cannot be reached" in ended.stderr
