"""Each exit code, from a process as a shell sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from registry import Guard, ModelRegistry, ModelStage
from registry.cli.app import make_app
from registry.cli.invocation import Verb

Modelway = Callable[..., Result]
MODELWAY = (sys.executable, "-c", "from deployments.cli import main; main()")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run([*MODELWAY, *words], capture_output=True, text=True, check=False)


def test_success_is_0_and_standard_error_stays_empty(models: ModelRegistry) -> None:
    ran = run("models", "list", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [model["name"] for model in json.loads(ran.stdout)] == models.list_models()


def test_an_error_is_1_in_one_line_on_standard_error(models: ModelRegistry) -> None:
    ran = run("--json", "models", "show", "digit")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"error: no model 'digit' in {models.url}. Did you mean digits?\n"


@pytest.mark.parametrize(
    "words",
    [
        ["models", "show"],
        ["models", "show", "digits", "--no-such-option"],
        ["models", "show", "digits", "not a version"],
        ["models", "show", "Not A Name"],
        ["models"],
        [],
    ],
)
@pytest.mark.usefixtures("models")
def test_usage_is_2(modelway: Modelway, words: list[str]) -> None:
    assert modelway(*words).exit_code == 2


def test_a_policy_that_fails_is_3(modelway: Modelway, models: ModelRegistry, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("requirements: [{name: accuracy, threshold: 0.96}]\n", encoding="utf-8")
    failed = modelway("models", "check", "digits", "v2", "--policy", policy)
    assert failed.exit_code == 3
    assert failed.stdout == (
        f"digits:v2 does not meet the policy in {policy}\n  - accuracy >= 0.96 is required, found 0.95\n"
    )
    refused = modelway("models", "register", "digits", policy, "--metric", "accuracy=0.5")
    refused = modelway("models", "promote", "digits", "v4", "staging", "--policy", policy)
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "accuracy >= 0.96 is required, found 0.5" in refused.stderr
    assert models.get_version("digits", 4).stage is ModelStage.DEVELOPMENT
    assert modelway("models", "check", "digits", "v3", "--policy", policy).exit_code == 0


def test_an_approval_that_is_missing_is_4(models: ModelRegistry) -> None:
    models.set_guard(Guard(require_approval=(ModelStage.PRODUCTION,), approvers=("bob@example.com",)))
    ran = run("promote", "digits", "v3", "production", "--approved-by", "eve@example.com")
    assert ran.returncode == 4
    assert "takes no asserted approvals for production" in ran.stderr
    production = models.get_production_model("digits")
    assert production is not None
    assert production.version == "v2"


def test_a_conflict_is_5(models: ModelRegistry) -> None:
    ran = run("models", "promote", "digits", "v3", "production", "--expect-current", "v1")
    assert ran.returncode == 5
    assert "expected v1 to hold production of digits, found v2" in ran.stderr
    assert models.get_version("digits", 3).stage is ModelStage.DEVELOPMENT


def test_a_changed_byte_is_6_and_nothing_is_downloaded(models: ModelRegistry, tmp_path: Path) -> None:
    folder = Path(models.get_version("digits", 1).artifact_path)
    (file,) = [path for path in folder.iterdir() if path.suffix != ".json"]
    file.chmod(0o644)
    file.write_bytes(b"Weights 0.900000")
    ran = run("models", "download", "digits", "v1", "there")
    assert ran.returncode == 6
    assert ran.stderr.startswith(f"error: {file} is not what was recorded: expected sha256:")
    assert list((tmp_path / "there").rglob("*")) == []


@pytest.mark.usefixtures("models")
def test_ctrl_c_is_130_without_a_traceback(tmp_path: Path) -> None:
    slow = tmp_path / "policy.yaml"
    os.mkfifo(slow)
    words = ("models", "check", "digits", "v1", "--policy", str(slow))
    with (
        subprocess.Popen([*MODELWAY, *words], stderr=subprocess.PIPE, text=True) as process,
        slow.open("w", encoding="utf-8"),  # opens when the verb has opened it: it waits for the policy now
    ):
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "interrupted\n")


@pytest.fixture
def broken() -> Modelway:
    """Return a program with a verb that has a bug."""
    app = make_app()

    def stumble(ctx: typer.Context) -> None:
        raise ZeroDivisionError(f"in a verb of {ctx.command_path}")

    app.command("stumble", cls=Verb)(stumble)
    return lambda *words: CliRunner().invoke(app, list(words), prog_name="modelway")


def test_what_was_not_foreseen_is_1_and_says_how_to_see_more(broken: Modelway) -> None:
    ran = broken("stumble")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr == (
        "error: ZeroDivisionError: in a verb of modelway stumble\n"
        "This was not foreseen: run again with --debug to see where it happened.\n"
    )


def test_debug_shows_where_an_error_comes_from(broken: Modelway, modelway: Modelway) -> None:
    for words in (("--debug", "stumble"), ("stumble", "--debug")):
        ran = broken(*words)
        assert ran.exit_code == 1
        assert "Traceback (most recent call last)" in ran.stderr
        assert "raise ZeroDivisionError" in ran.stderr
    expected = modelway("--debug", "models", "promote", "digits", "1")
    assert expected.exit_code == 2
    assert "Traceback" in expected.stderr


@pytest.mark.usefixtures("models")
def test_a_reader_that_has_gone_ends_the_program_quietly() -> None:
    with subprocess.Popen(
        [*MODELWAY, "models", "show", "digits", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
