"""What a real bash offers after Tab, by the script that `modelway` gives it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry import ModelRegistry

Offer = Callable[..., list[str]]
MODELWAY = Path(sys.executable).with_name("modelway")


@pytest.fixture
def bash(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Return a bash that has been taught to complete `modelway`: a script in, what it wrote out."""
    environment = {**os.environ, "PATH": f"{MODELWAY.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    teach = subprocess.run(
        [MODELWAY],
        env={**environment, "_MODELWAY_COMPLETE": "source_bash"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "--norc", "-c", f"{teach}\n{script}"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    return run


@pytest.fixture
def offered(bash: Callable[[str], subprocess.CompletedProcess[str]]) -> Offer:
    """Return what bash offers in place of the last of the words; nothing comes on standard error."""

    def offer(*words: str) -> list[str]:
        typed = " ".join(shlex.quote(word) for word in ("modelway", *words))
        ran = bash(
            f"COMP_WORDS=({typed}); COMP_CWORD={len(words)}\n"
            "_modelway_completion modelway 2>&1\n"
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        assert ran.stderr == ""
        return ran.stdout.split()

    return offer


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["mod"], ["models"]),
        (["models", "re"], ["register", "restore", "rebuild"]),
        (["models", "show", ""], ["digits", "letters"]),
        (["models", "show", "le"], ["letters"]),
        (["models", "show", "digits", ""], ["v3", "v2", "v1", "champion"]),
        (["models", "show", "digits", "--version", "v"], ["v3", "v2", "v1"]),
        (["models", "compare", "digits", "v1", "v2", "v3"], ["v3"]),
        (["models", "list", "--stage", "p"], ["production"]),
        (["models", "promote", "digits", "v3", ""], ["validation", "staging", "production", "archived"]),
        (["models", "promote", "digits", "v3", "production", "--expect-current", ""],
         ["v3", "v2", "v1", "champion", "none"]),
        (["models", "alias", "digits", ""], ["champion"]),
        (["models", "register", "digits", "file", "--bump", "m"], ["major", "minor"]),
        (["models", "register", "digits", "file", "--framework", "o"], ["onnx"]),
        (["get-model", "letters", "--version", ""], ["1.0.0"]),
        (["models", "promote", "--ex"], ["--expect-current"]),
        (["endpoints", "show", ""], []),
    ],
)  # fmt: skip
def test_bash_is_offered_what_the_registry_has(
    models: ModelRegistry, offered: Offer, words: list[str], found: list[str]
) -> None:
    models.set_alias("digits", "champion", 2)
    assert offered(*words) == found


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("named", [["--url", "elsewhere", "models", "show"], ["models", "show", "--url", "elsewhere"]])
def test_the_registry_that_the_line_names_is_asked(offered: Offer, named: list[str]) -> None:
    ModelRegistry("elsewhere").register("faces")
    assert offered(*named, "") == ["faces"]


@pytest.mark.parametrize(
    "words",
    [
        ["models", "show", ""],
        ["--url", "no/such/place", "models", "show", "digits", ""],
        ["--url", "nonsense://x", "models", "show", ""],
        ["models", "show", "Not A Name", ""],
    ],
)
def test_where_there_is_nothing_to_offer_tab_is_silent_and_makes_nothing(
    offered: Offer, place: Path, words: list[str]
) -> None:
    assert offered(*words) == []
    assert not place.exists()


@pytest.mark.usefixtures("models")
def test_a_damaged_registry_offers_nothing_and_says_nothing(offered: Offer, place: Path) -> None:
    for record in (place / "log").iterdir():
        record.chmod(0o644)
        record.write_text("{", encoding="utf-8")
    assert offered("models", "show", "") == []


@pytest.mark.usefixtures("models")
def test_a_shell_that_keeps_a_word_with_an_at_sign_whole_is_offered_aliases(models: ModelRegistry) -> None:
    models.set_alias("digits", "champion", 2)
    ran = subprocess.run(
        [MODELWAY],
        env={**os.environ, "_MODELWAY_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args",
             "_TYPER_COMPLETE_ARGS": "modelway models show digits@ch"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (ran.stdout, ran.stderr) == ("digits@champion\tv2\n", "")
