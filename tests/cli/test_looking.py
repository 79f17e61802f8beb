"""What the verbs that look print, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from registry import ModelRegistry

Modelway = Callable[..., Result]

VERSION_KEYS = {
    "name", "version", "ordinal", "stage", "stage_since", "created_at", "created_by", "described", "measured_on",
    "artifact", "artifact_path", "metadata_digest", "aliases", "approvals", "deployments", "variants", "as_of",
}  # fmt: skip
LOOKING = [
    ("models", "list"), ("models", "list", "digits"), ("models", "show", "digits"), ("models", "log", "digits"),
    ("models", "compare", "digits", "1", "2"), ("models", "download", "digits", "there"), ("endpoints", "list"),
    ("endpoints", "show", "digits"), ("endpoints", "stop", "digits"), ("list-models",), ("list-versions", "digits"),
    ("models", "promote", "digits", "1", "staging"), ("models", "rollback", "digits"), ("models", "deploy", "digits"),
]  # fmt: skip


def rows(result: Result) -> list[list[str]]:
    """Return the cells of the printed tables, without rules and empty lines; cells are two spaces apart or more."""
    assert result.exit_code == 0, result.stderr
    lines = [line.strip() for line in result.stdout.splitlines()]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines if line.strip("─ ")]


def test_models_are_listed_with_what_is_in_production(modelway: Modelway, models: ModelRegistry) -> None:
    since = models.get_version("digits", 2).stage_since
    assert rows(modelway("models", "list")) == [
        ["model", "versions", "latest", "production", "stages"],
        ["digits", "3", "v3", f"v2 since {since:%Y-%m-%d %H:%M:%S} UTC", "archived 1, production 1, development 1"],
        ["letters", "1", "1.0.0", "-", "development 1"],
    ]


@pytest.mark.usefixtures("models")
def test_models_are_listed_as_json(as_json: Callable[..., Any]) -> None:
    digits, letters = as_json("models", "list")
    since = digits["production"].pop("since")
    assert since.endswith("Z")
    assert digits == {
        "name": "digits", "versions": 3, "latest": "v3", "production": {"version": "v2"},
        "stages": {"archived": 1, "production": 1, "development": 1},
    }  # fmt: skip
    assert letters["production"] is None


@pytest.mark.usefixtures("models")
def test_only_the_models_with_a_version_in_a_stage_are_listed(as_json: Callable[..., Any]) -> None:
    assert [model["name"] for model in as_json("models", "list", "--stage", "prod")] == ["digits"]
    assert as_json("models", "list", "--stage", "validation") == []


@pytest.mark.usefixtures("models")
def test_versions_are_listed_with_metrics_and_aliases(modelway: Modelway, as_json: Callable[..., Any]) -> None:
    modelway("models", "alias", "digits", "champion", "2")
    headings, _, second, _ = rows(modelway("models", "list", "digits"))
    assert headings == ["version", "stage", "metrics", "aliases", "created (UTC)"]
    assert second[:2] == ["v2", "production"]
    assert second[2:4] == ["accuracy 0.95, loss 0.05", "champion"]
    listed = as_json("models", "list", "digits")
    assert [version["version"] for version in listed] == ["v1", "v2", "v3"]
    assert set(listed[0]) == VERSION_KEYS
    assert [version["version"] for version in as_json("models", "list", "digits", "--stage", "archived")] == ["v1"]


def test_everything_of_a_version_is_shown(modelway: Modelway, models: ModelRegistry) -> None:
    shown = modelway("models", "show", "digits", "v2").stdout
    version = models.get_version("digits", 2)
    assert version.artifact is not None
    for fact in (
        "digits:v2", "production since", "by ann", "accuracy 0.95", version.artifact.digest, version.metadata_digest,
        "approve by bob@example.com (asserted)", version.artifact_path, "it was not optimised",
    ):  # fmt: skip
        assert fact in shown
    assert "description" not in shown  # it has none


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["digits"], "v3"),
        (["digits", "1"], "v1"),
        (["digits", "--version", "v1"], "v1"),
        (["digits", "--stage", "production"], "v2"),
        (["digits@champion"], "v1"),
        (["digits", "champion"], "v1"),
        (["letters", "v1.0.0"], "1.0.0"),
    ],
)
def test_a_version_is_shown_by_any_of_its_names(
    modelway: Modelway, as_json: Callable[..., Any], words: list[str], found: str
) -> None:
    modelway("models", "alias", "digits", "champion", "1")
    page = as_json("models", "show", *words)
    assert page["version"]["version"] == found
    assert set(page) == {"version", "files", "engine", "variants", "judgement"}
    assert set(page["version"]) == VERSION_KEYS
    assert set(page["files"][0]) == {"path", "sha256", "size_bytes"}


@pytest.mark.usefixtures("models")
def test_a_version_that_is_asked_for_twice_is_refused(modelway: Modelway) -> None:
    ran = modelway("models", "show", "digits", "1", "--version", "2")
    assert ran.exit_code == 2
    assert ran.stderr == "error: give the version once; found VERSION '1', --version '2'.\n"


@pytest.mark.usefixtures("models")
def test_the_history_tells_who_moved_what_and_who_approved(modelway: Modelway, as_json: Callable[..., Any]) -> None:
    headings, first, second, third = rows(modelway("models", "log", "digits"))
    assert headings == ["time (UTC)", "version", "from", "to", "by", "reason, approval"]
    assert first[1:] == ["v1", "development", "production", "ann", "the first"]
    assert second[1:] == ["v2", "development", "production", "ann", "better; approved by bob@example.com (asserted)"]
    assert third[1:] == ["v1", "production", "archived", "ann", "replaced by v2"]
    assert [move["to_stage"] for move in as_json("models", "log", "digits", "v1")] == ["production", "archived"]
    assert "has not moved yet" in modelway("models", "log", "letters").stdout


def test_the_history_tells_of_runs_too_how_they_ended_and_why(
    modelway: Modelway, as_json: Callable[..., Any], models: ModelRegistry
) -> None:
    models.begin_run("digits", "run-1", kind="retraining", reason="the data drift")
    failed = "it does not meet the policy:\n  - accuracy"
    models.end_run("digits", "run-1", "policy_failed", version=3, words=failed)
    models.begin_run("letters", "run-2", kind="lifecycle")
    moves = as_json("models", "log", "digits")

    began, ended = rows(modelway("models", "log", "digits"))[4:]
    assert began[1:] == ["v3", "-", "-", "retraining", "run run-1 began: the data drift"]
    words = "run run-1 ended, policy failed: it does not meet the policy: - accuracy"
    assert ended[1:] == ["v3", "-", "-", "retraining", words]
    assert rows(modelway("models", "log", "digits", "v3"))[1:] == [began, ended]
    assert len(rows(modelway("models", "log", "digits", "v1"))) == 3, "those of one version alone"
    assert rows(modelway("models", "log", "letters"))[1][1:] == ["-", "-", "-", "lifecycle", "run run-2 began"]
    assert [move["version"] for move in moves] == ["v1", "v2", "v1"], "programs get the changes of stage, as before"


@pytest.mark.usefixtures("models")
def test_versions_are_compared_from_the_first_to_the_last(modelway: Modelway, as_json: Callable[..., Any]) -> None:
    table = rows(modelway("models", "compare", "digits", "1", "2", "3"))
    assert table[0] == ["digits:v1", "digits:v2", "digits:v3", "change"]
    assert table[2] == ["accuracy", "0.9", "0.95", "0.97", "+7.78% better"]
    compared = as_json("models", "compare", "digits", "1", "2")
    assert [version["version"] for version in compared["versions"]] == ["v1", "v2"]
    assert compared["metrics"]["loss"]["improved"] is True
    assert compared["metrics"]["loss"]["percent_change"] == pytest.approx(-50)


def test_a_change_from_zero_has_no_percentage(models: ModelRegistry, as_json: Callable[..., Any]) -> None:
    models.register("ratios", metrics={"gain": 0.0})
    models.register("ratios", metrics={"gain": 1.0})
    change = as_json("models", "compare", "ratios", "1", "2")["metrics"]["gain"]
    assert change == {"first": 0.0, "last": 1.0, "difference": 1.0, "percent_change": None, "improved": True}


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_a_place_without_a_registry_is_said_to_be_none_and_stays_so(
    modelway: Modelway, place: Path, words: tuple[str, ...]
) -> None:
    ran = modelway(*words)
    assert ran.exit_code == 1
    assert ran.stderr.startswith(
        f"error: no registry at {place.as_uri()} yet; `modelway models register` or `modelway run` makes one."
    )
    assert ran.stdout == ""
    assert not place.exists()


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (["models", "show", "digit"], "Did you mean digits?"),
        (["list-versions", "leters"], "Did you mean letters?"),
        (["models", "show", "digits", "v9"], "It has: v1, v2, v3."),
        (["models", "show", "digits", "v12"], "It has: v1, v2, v3. Did you mean v2 or v1?"),
        (["models", "promote", "letters", "1.0.1", "staging"], "It has: 1.0.0. Did you mean 1.0.0?"),
        (["models", "download", "letters", "1", "there"], "Did you mean 1.0.0?"),
        (["models", "list", "unlike-any"], "`modelway models list` shows what there is."),
        (["endpoints", "show", "digits"], "`modelway endpoints list` shows what there is."),
    ],
)
def test_what_is_not_there_gets_a_hint(modelway: Modelway, words: list[str], mend: str) -> None:
    ran = modelway(*words)
    assert ran.exit_code == 1
    assert ran.stdout == ""
    assert mend in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(("words", "meant"), [(["models", "lst"], "'list'"), (["endpoint", "list"], "'endpoints'")])
def test_a_verb_that_is_not_there_gets_a_hint(modelway: Modelway, words: list[str], meant: str) -> None:
    ran = modelway(*words)
    assert ran.exit_code == 2
    assert "Did you mean" in ran.stderr
    assert meant in ran.stderr


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("seed", "ours"),
    [
        (["list-models"], ["models", "list"]),
        (["list-versions", "digits"], ["models", "list", "digits"]),
        (["get-model", "digits", "--version", "v2"], ["models", "show", "digits", "v2"]),
        (["compare", "digits", "v1", "v2", "v3"], ["models", "compare", "digits", "v1", "v2", "v3"]),
    ],
)
def test_the_other_spelling_prints_the_same(modelway: Modelway, seed: list[str], ours: list[str]) -> None:
    for form in ([], ["--json"]):
        first, second = modelway(*form, *seed), modelway(*form, *ours)
        assert first.exit_code == 0, first.stderr
        assert first.stdout == second.stdout


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    "words",
    [
        ["--json", "--url", "registry", "models", "list"],
        ["models", "list", "--json", "--url", "registry"],
        ["--url", "elsewhere", "models", "list", "--url", "registry", "--json"],
    ],
)
def test_the_options_of_the_program_stand_before_the_verb_or_after_it(
    modelway: Modelway, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.delenv("MODELWAY_URL")
    ran = modelway(*words)
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.startswith("[")


def test_a_project_says_where_its_registry_lies(
    modelway: Modelway, models: ModelRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MODELWAY_URL")
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    without = modelway("models", "list")
    assert (tmp_path / "deeper" / ".modelway").as_uri() in without.stderr  # nothing says so: the default place
    (tmp_path / "pyproject.toml").write_text("[tool.modelway]\nurl = 'registry'\n", encoding="utf-8")
    assert "digits" in modelway("models", "list").stdout
    assert models.list_models() == ["digits", "letters"]


def test_what_users_wrote_is_neither_markup_nor_a_command_to_the_terminal(
    modelway: Modelway, models: ModelRegistry
) -> None:
    models.annotate("letters", "1.0.0", description="[red]not red[/red] :smile: \x1b[31mnor this\x07")
    shown = modelway("models", "show", "letters").stdout
    assert "[red]not red[/red] :smile: \\x1b[31mnor this\\x07" in shown
    assert "\x1b" not in shown


@pytest.mark.usefixtures("models")
def test_nothing_is_cut_short_for_a_pipe(modelway: Modelway, models: ModelRegistry) -> None:
    models.annotate("letters", "1.0.0", description="word " * 60)
    shown = modelway("models", "show", "letters").stdout
    assert " ".join(["word"] * 60) in shown
