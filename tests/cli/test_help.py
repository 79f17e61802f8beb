"""That everything is documented, and that asking for it is quick."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import Result

from deployments.cli import make_program
from registry.cli.app import OTHER_SPELLINGS

Modelway = Callable[..., Result]

VERBS = {
    "models": ["list", "show", "register", "check", "promote", "compare", "log", "rollback", "deploy", "optimize",
               "download", "archive", "restore", "annotate", "alias", "delete", "verify", "copy", "export", "import",
               "gc", "rebuild", "doctor"],
    "endpoints": ["list", "show", "log", "drift", "reconcile", "manifest", "stop"],
    "approvals": ["list", "show", "approve", "reject", "keygen"],
    "deployments": ["apply", "show", "request-retraining"],
}  # fmt: skip


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command, hidden ones too, by the words that call it."""
    program: Any = typer.main.get_command(make_program())
    for name, command in program.commands.items():
        yield name, command
        for verb, inner in getattr(command, "commands", {}).items():
            yield f"{name} {verb}", inner


def test_every_verb_is_there() -> None:
    spelled = {f"{group} {verb}" for group, verbs in VERBS.items() for verb in verbs}
    assert {words for words, _ in commands()} == spelled | set(VERBS) | set(OTHER_SPELLINGS) | {
        "run",
        "server",
        "worker",
        "card",
        "reference",
    }


@pytest.mark.parametrize("words", [words for words, _ in commands()])
def test_a_verb_and_each_of_its_options_are_documented(modelway: Modelway, words: str) -> None:
    command = dict(commands())[words]
    shown = modelway(*words.split(), "--help")
    assert shown.exit_code == 0
    assert command.help
    assert command.help.split()[0] in shown.stdout
    for parameter in command.params:
        assert parameter.help, f"{words}: {parameter.name} has no help"
        assert len(parameter.help.split()) > 1
        assert parameter.opts[0] in shown.stdout or parameter.metavar in shown.stdout


def test_the_options_of_the_program_stand_in_the_help_of_a_verb(modelway: Modelway) -> None:
    shown = modelway("models", "log", "--help").stdout
    for option in ("--url", "--json", "--debug"):
        assert option in shown


def test_the_help_of_the_program_names_the_groups_the_exit_codes_and_no_second_spelling(modelway: Modelway) -> None:
    shown = " ".join(modelway("--help").stdout.split())
    for words in ("models", "endpoints", "run", "0 ok, 1 error, 2 usage, 3 policy failed, 4 approval pending"):
        assert words in shown
    assert "list-models" not in shown
    assert "rollback" not in shown


def test_the_version_is_printed(modelway: Modelway) -> None:
    assert modelway("--version").stdout.startswith("modelway ")


def test_python_m_registry_has_all_but_run() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "registry", "--help"], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    assert "Usage: python -m registry [OPTIONS]" in shown
    assert "models" in shown
    assert "│ run " not in shown


def test_what_is_told_in_help_is_not_imported_for_it() -> None:
    program = "import sys, deployments.cli as cli; cli.make_program(); print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    ours = {
        name for name in imported.split() if name.partition(".")[0] in {"registry", "deployments", "tasks", "flows"}
    }
    assert ours == {
        "registry", "registry.cli", "registry.cli.app", "registry.cli.changing", "registry.cli.completing",
        "registry.cli.describing", "registry.cli.endpoints", "registry.cli.invocation", "registry.cli.keeping",
        "registry.cli.looking", "registry.cli.options", "registry.cli.serving", "registry.cli.text",
        "registry.errors", "deployments", "deployments.approvals_cli", "deployments.cli",
        "deployments.deployments_cli", "deployments.server", "deployments.worker",
    }  # fmt: skip


@pytest.mark.parametrize(("words", "also"), [(["models", "list"], {"rich"}), (["models", "list", "--json"], set())])
@pytest.mark.usefixtures("models")
def test_a_list_brings_nothing_heavy_and_json_no_tables(words: list[str], also: set[str]) -> None:
    program = (
        "import sys\nfrom deployments.cli import main\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert "digits" in ran.stdout
    imported = {name.partition(".")[0] for name in ran.stderr.split()}
    heavy = {"fastapi", "fsspec", "numpy", "onnx", "onnxruntime", "prefect", "rich", "torch", "uvicorn"}
    assert imported & heavy == also
    assert "typer" in imported


def test_run_names_the_line_of_a_mistake_before_anything_starts(modelway: Modelway, place: Any, tmp_path: Any) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("name: digits\ntrianer: {}\n", encoding="utf-8")
    ran = modelway("run", pipeline)
    assert ran.exit_code == 2
    assert f"{pipeline}:2" in ran.stderr
    assert not place.exists()


def test_run_prints_no_json(modelway: Modelway) -> None:
    ran = modelway("--json", "run", "pipeline.yaml")
    assert ran.exit_code == 2
    assert "modelway models show" in ran.stderr
