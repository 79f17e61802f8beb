"""That `docs/cli.md` is this program's, and that what the verbs print under `--json` is what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import Result

from deployments.approval_pages import PRINTS as APPROVALS
from deployments.approvals_cli import VERBS as APPROVAL_VERBS
from deployments.cli import make_program
from registry import Guard, ModelRegistry
from registry.cli.app import ENDPOINTS, MODELS, OTHER_SPELLINGS
from registry.cli.reference import PRINTS, SAME

Modelway = Callable[..., Result]
Records = dict[str, dict[str, str]]

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
TEXT = PAGE.read_text(encoding="utf-8")


def section(title: str) -> str:
    """Return what stands under a heading of the page, up to the next one."""
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/cli.md has no section {title!r}"
    return found.group(1)


def rows(text: str) -> dict[str, str]:
    """Return a table of the page: what the first cell of a row has in backticks, and its second cell."""
    return {
        first.replace("\\|", "|"): second
        for first, second in re.findall(r"^\| `(.*?)` \| (.*) \|$", text, re.MULTILINE)
    }


RECORDS: Records = {title: rows(section(title)) for title in re.findall(r"^### (\w+)$", TEXT, re.MULTILINE)}


def differences(value: Any, words: str, where: str) -> list[str]:
    """Return where a JSON value is not what the page says of it."""
    found = [_difference(value, one, where) for one in words.split(" or ")]
    return [] if [] in found else min(found, key=len)


def _difference(value: Any, words: str, where: str) -> list[str]:
    if isinstance(value, list) and words.startswith("list of "):
        return [line for one in value for line in differences(one, words.removeprefix("list of "), f"{where}[]")]
    if isinstance(value, dict) and words.startswith("object of "):
        inner = words.removeprefix("object of ").removesuffix(" by name")
        return [line for name, one in value.items() for line in differences(one, inner, f"{where}.{name}")]
    if isinstance(value, dict) and (record := re.fullmatch(r"\[(\w+)\]\(#\w+\)", words)):
        fields = RECORDS[record.group(1)]
        if set(value) != set(fields):
            return [f"{where} is no {record.group(1)}: {sorted(set(value) ^ set(fields))}"]
        return [line for name, one in value.items() for line in differences(one, fields[name], f"{where}.{name}")]
    return [] if _is_simple(value, words) else [f"{where} is {value!r}, and not {words}"]


def _is_simple(value: Any, words: str) -> bool:
    if words.startswith("one of "):
        return value in re.findall(r"`(.*?)`", words)
    if words.startswith("time"):
        return isinstance(value, str) and value.endswith("Z") and datetime.fromisoformat(value).tzinfo is not None
    kinds = {"text": str, "number": float | int, "whole number": int, "boolean": bool, "null": type(None)}
    if isinstance(value, bool):
        return words in {"boolean", "anything"}
    return words == "anything" or (words in kinds and isinstance(value, kinds[words]))


def differences_of(as_json: Callable[..., Any], line: str) -> list[str]:
    """Run a command, and return where what it prints is not what the page says of its verb."""
    verb = re.search(r"(?:models|endpoints|approvals) \S+", line)
    assert verb is not None
    return differences(as_json(*line.split()), rows(section("What `--json` prints"))[verb.group()], verb.group())


def test_the_page_is_of_this_program(modelway: Modelway) -> None:
    written = modelway("reference")
    assert written.exit_code == 0, written.stderr
    assert written.stdout == TEXT, "write it again: modelway reference > docs/cli.md"


@pytest.mark.parametrize(
    "words",
    [f"models {verb}" for verb in MODELS]
    + [f"endpoints {verb}" for verb in ENDPOINTS]
    + [f"approvals {verb}" for verb in APPROVAL_VERBS]
    + ["run"],
)
def test_every_verb_and_each_of_its_options_stand_in_the_page_with_words_of_their_own(words: str) -> None:
    command: Any = typer.main.get_command(make_program())
    for word in words.split():
        command = command.commands[word]
    told = rows(section(words))
    assert " ".join(command.help.split()) in " ".join(section(words).split()) or words == "run"
    for parameter in (one for one in command.params if one.name != "help"):
        spelled = parameter.metavar if parameter.param_type_name == "argument" else ", ".join(parameter.opts)
        (explained,) = [text for name, text in told.items() if name == spelled or name.startswith(f"{spelled} ")]
        assert len(explained.split()) > 1


def test_every_verb_says_what_it_prints() -> None:
    assert set(PRINTS) == {f"models {verb}" for verb in MODELS} | {f"endpoints {verb}" for verb in ENDPOINTS}
    assert set(APPROVALS) == {f"approvals {verb}" for verb in APPROVAL_VERBS}
    assert set(rows(section("What `--json` prints"))) == set(PRINTS) | set(APPROVALS)


def test_every_other_spelling_is_told() -> None:
    assert {spelling.split()[0] for spelling in SAME} == set(OTHER_SPELLINGS)


def test_the_comparison_with_the_page_would_see_a_difference() -> None:
    version = dict.fromkeys(RECORDS["AliasGone"], "x") | {"version": None}
    assert differences(version, "[AliasGone](#aliasgone)", "it") == []
    assert differences(version | {"more": 1}, "[AliasGone](#aliasgone)", "it") == ["it is no AliasGone: ['more']"]
    assert differences(version | {"version": "v1"}, "text or [AliasGone](#aliasgone)", "it")
    assert differences([1, "2"], "list of whole number", "it") == ["it[] is '2', and not whole number"]
    assert differences(value=True, words="number", where="it")
    assert differences("2020-01-01", "time, ISO 8601 in UTC", "it")


@pytest.mark.parametrize(
    "line",
    [
        "models list", "models list digits", "models show digits v2", "models show letters",
        "models register digits weights --metric accuracy=0.5 --param layers=[1,2] --tag team=vision",
        "models check digits 2 --policy policy.yaml", "models promote digits 3 production",
        "models compare digits 1 2 3", "models log digits", "models rollback digits v1", "models download digits there",
        "models archive digits 3", "models restore digits 1", "models annotate digits 1 --metric accuracy=0.7",
        "models alias digits champion 2", "models alias digits best --delete", "models delete digits 3 --yes",
        "models verify", "models copy digits 2 --to other", "models export digits --to saved",
        "--url another models import kept",
        "models gc", "models rebuild", "models doctor", "endpoints list",
    ],
)  # fmt: skip
def test_a_verb_prints_what_the_page_says(
    as_json: Callable[..., Any], models: ModelRegistry, tmp_path: Path, line: str
) -> None:
    (tmp_path / "weights").write_bytes(b"weights")
    (tmp_path / "policy.yaml").write_text("requirements: [{name: accuracy, threshold: 0.9}]\n", encoding="utf-8")
    models.set_guard(Guard(accept_asserted=True, approvers=("*",)))
    models.set_alias("digits", "best", 2)
    if "import" in line:
        as_json("models", "export", "digits", "--to", "kept")
    assert differences_of(as_json, line) == []


@pytest.mark.usefixtures("iris")
def test_the_verbs_that_make_a_version_serve_print_what_the_page_says(
    as_json: Callable[..., Any], tmp_path: Path
) -> None:
    spec = "optimize: {engines: [onnxruntime], batch_sizes: [1], warmup: 1, repetitions: 5}\n"
    (tmp_path / "spec.yaml").write_text(spec, encoding="utf-8")
    for line in (
        "models optimize iris 1 --spec spec.yaml", "models show iris 1", "models deploy iris --version 1",
        "endpoints list", "endpoints show iris", "models list iris", "endpoints stop iris",
    ):  # fmt: skip
        assert differences_of(as_json, line) == []
