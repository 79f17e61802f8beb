"""The README tells the truth: its Python and its pipeline run, its commands answer, its capture is of this release."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
from working_folder import CONFIG, House, house_in

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [body for name, body in BLOCK.findall(TEXT) if name == language]


def file_in(body: str) -> str | None:
    """Return the file name that a block's first line gives it."""
    named = re.match(r"# (\w+\.(?:py|yaml))\n", body)
    return named.group(1) if named else None


def commands() -> list[list[str]]:
    lines = [line for body in blocks("console") for line in body.splitlines()]
    assert all(line.startswith("$ modelway ") for line in lines)
    return [shlex.split(line.removeprefix("$ modelway "), comments=True) for line in lines]


def steps_of(output: str) -> list[str]:
    """Return the names of a run's steps in the order in which they first speak."""
    return list(dict.fromkeys(re.findall(r"^ {1,9}([a-z]+)  \S", output, re.MULTILINE)))


def test_the_python_examples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "examples.py"
    script.write_text("\n".join(body for body in blocks("python") if file_in(body) is None), encoding="utf-8")
    runpy.run_path(str(script))
    said = capsys.readouterr().out
    assert said.startswith("object-detector:v1\n")
    assert "needs an approval to move to production" in said
    assert "object-detector:v2" in said


@pytest.mark.heavy
def test_the_readers_own_trainer_goes_the_whole_way(tmp_path: Path) -> None:
    house = house_in(tmp_path)
    for body in (*blocks("python"), *blocks("yaml")):
        if name := file_in(body):
            (tmp_path / name).write_text(body, encoding="utf-8")
    command = next(words for words in commands() if words[:1] == ["run"])
    ended = house.run(*command)
    assert ended.code == 0, ended.output
    assert "sums:v1: deployed" in ended.output


@pytest.mark.heavy
def test_the_commands_answer_after_two_runs_and_the_capture_shows_the_same_steps(tmp_path: Path) -> None:
    house = house_in(tmp_path)
    first, second = (house.run("run", str(CONFIG), "--approve-as", "you@example.com") for _ in range(2))
    assert (first.code, second.code) == (0, 0), first.output + second.output
    captured = blocks("text")[0]
    assert steps_of(captured) == steps_of(first.output)
    for words in commands():
        if words[0] != "run":
            ended = house.run(*words)
            assert ended.code == 0, f"modelway {' '.join(words)}\n{ended.output}"
    assert "production" in house.run("models", "show", "digits", "v1").output  # rolled back by the README's command


def test_what_is_said_to_be_not_built_is_not_built(tmp_path: Path) -> None:
    house: House = house_in(tmp_path)
    (tmp_path / "weights").write_bytes(b"weights")
    assert house.run("models", "register", "digits", "weights").code == 0
    ended = house.run("endpoints", "manifest", "digits", "--for", "sagemaker")
    assert ended.code == 2
    assert "sagemaker is not built" in ended.output
    assert "SageMaker" in TEXT[TEXT.index("## Not built yet") :]
