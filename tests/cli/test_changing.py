"""What the verbs that change do, what they say of it, and what they leave when they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from registry import Guard, ModelRegistry, ModelStage

Modelway = Callable[..., Result]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Return a file to register."""
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    return path


def lines(result: Result) -> list[str]:
    """Return what a verb that succeeded printed."""
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


def stages(models: ModelRegistry) -> list[str]:
    """Return where the versions of ``digits`` stand, in order."""
    return [version.stage.value for version in models.list_versions("digits")]


def test_the_first_version_makes_the_model_and_the_registry(modelway: Modelway, place: Path, weights: Path) -> None:
    assert lines(modelway("models", "register", "digits", weights)) == [
        "digits:v1 is registered, in development",
        "to see it:      modelway models show digits v1",
        "to move it on:  modelway models promote digits v1 staging",
    ]
    assert ModelRegistry(place).load_artifact("digits", 1) == b"weights"


def test_a_version_is_registered_with_all_that_is_said_of_it(as_json: Callable[..., Any], weights: Path) -> None:
    new = as_json(
        "models", "register", "digits", str(weights), "--version", "1.0.0", "--metric", "accuracy=0.97",
        "--metric", "mine=2", "--tag", "team=vision", "--tag", "trial", "--param", "epochs=10",
        "--param", "layers=[1, 2]", "--param", "mode=fast", "--param", "limit=NaN", "--framework", "onnx",
        "--description", "reads digits",
    )  # fmt: skip
    described = new["described"]
    assert (new["version"], new["stage"], new["created_by"]) == ("1.0.0", "development", "ann")
    assert (described["metrics"]["accuracy"], described["metrics"]["custom"]) == (0.97, {"mine": 2.0})
    assert described["tags"] == {"team": "vision", "trial": ""}
    assert described["parameters"] == {"epochs": 10, "layers": [1, 2], "mode": "fast", "limit": "NaN"}
    assert (described["framework"], described["description"]) == ("onnx", "reads digits")
    assert as_json("models", "register", "digits", str(weights), "--bump", "minor")["version"] == "1.1.0"


def test_a_registration_repeated_under_its_key_gives_the_same_version(
    as_json: Callable[..., Any], weights: Path
) -> None:
    words = ("models", "register", "digits", str(weights), "--idempotency-key", "nightly-7")
    assert as_json(*words) == as_json(*words)


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (
            ["--metric", "accuracy=high"],
            "--metric accuracy=high: the value is no number. Write --metric accuracy=0.97.",
        ),
        (["--metric", "accuracy"], "Write --metric NAME=VALUE."),
        (["--metric", "a=1", "--metric", "a=2"], "--metric gives 'a' twice"),
        (["--param", "=1"], "Write --param NAME=VALUE."),
        (["--bump", "huge"], "bump is one of: major, minor, patch"),
        (["--framework", "abacus"], "'abacus'"),
        (["--version", "first"], "'first' is no version"),
    ],
)
def test_a_registration_that_makes_no_sense_leaves_no_model(
    modelway: Modelway, place: Path, weights: Path, words: list[str], mend: str
) -> None:
    ran = modelway("models", "register", "digits", weights, *words)
    assert ran.exit_code == 2
    assert mend in ran.stderr
    assert ModelRegistry(place).list_models() == []


def test_a_version_moves_and_the_next_step_is_told(modelway: Modelway, models: ModelRegistry) -> None:
    assert lines(modelway("models", "promote", "digits", "3", "staging")) == [
        "digits:v3 moved from development to staging",
        "to move it on:  modelway models promote digits v3 production",
    ]
    ran = modelway("models", "promote", "digits", "3", "--to", "prod", "--reason", "best yet", "--expect-current", "v2")
    assert lines(ran) == [
        "digits:v3 moved from staging to production; digits:v2 is archived",
        "to serve it:  modelway models deploy digits",
        "to go back:   modelway models rollback digits",
    ]
    assert stages(models) == ["archived", "archived", "production"]
    assert models.get_transitions("digits", 3)[-1].reason == "best yet"


def test_an_approver_is_recorded(modelway: Modelway, models: ModelRegistry) -> None:
    models.set_guard(
        Guard(require_approval=(ModelStage.PRODUCTION,), approvers=("*@example.com",), accept_asserted=True)
    )
    words = ("promote", "digits", "v3", "production", "--approved-by", "bob@example.com")
    assert lines(modelway(*words))[0] == "digits:v3 moved from development to production; digits:v2 is archived"
    assert [approval.approver for approval in models.get_version("digits", 3).approvals] == ["bob@example.com"]


def test_a_version_that_stands_there_already_stays(modelway: Modelway, models: ModelRegistry) -> None:
    before = models.get_transitions("digits")
    assert lines(modelway("models", "promote", "digits", "2", "production")) == [
        "digits:v2 is in production already; nothing was changed",
        "to see it:  modelway models show digits v2",
    ]
    assert models.get_transitions("digits") == before


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize(
    ("words", "exit_code", "mend"),
    [
        (["promote", "digits", "v2", "staging"], 1, "use rollback"),
        (["promote", "digits", "v1", "production"], 1, "Use restore to bring it back"),
        (["promote", "digits", "v3"], 2, "none was given"),
        (["promote", "digits", "v3", "staging", "--to", "staging"], 2, "give the stage once"),
        (["promote", "digits", "v3", "live"], 2, "the stages are: development"),
        (["promote", "digits", "v3", "production", "--expect-current", "v1"], 5, "found v2"),
        (["promote", "digits", "v3", "production", "--expect-current", "none"], 5, "found v2"),
        (["models", "rollback", "digits", "v3"], 1, "has never held production"),
        (["models", "restore", "digits", "v2"], 1, "only archived versions are restored"),
        (["models", "archive", "digits", "v8"], 1, "It has: v1, v2, v3."),
        (["models", "annotate", "digits", "v3"], 2, "give --description, --tag or --metric"),
        (["models", "annotate", "digits", "v3", "--tag", "a", "--measured-on", "x"], 2, "give them with --metric"),
        (["models", "alias", "digits", "champion"], 2, "or --delete"),
        (["models", "alias", "digits", "champion", "v1", "--delete"], 2, "or --delete"),
        (["models", "alias", "digits", "champion", "--delete"], 1, "has no alias 'champion'"),
        (["models", "alias", "digits", "champion", "v1", "--expect", "v2"], 5, "found nothing"),
        (["models", "register", "digits", "weights.bin", "--version", "v1"], 5, "Leave the version out"),
        (["models", "register", "digits", "nowhere.bin"], 1, "there is no file or folder at nowhere.bin"),
        (["models", "deploy", "digits", "--target", "moon"], 2, "'moon' is not one of 'local'"),
        (["models", "deploy", "digits"], 1, "run `modelway models optimize digits v2 --spec FILE` first"),
    ],
)
def test_a_refusal_says_why_and_leaves_everything_as_it_was(
    modelway: Modelway, models: ModelRegistry, words: list[str], exit_code: int, mend: str
) -> None:
    before = models.list_versions("digits")
    ran = modelway(*words)
    assert (ran.exit_code, ran.stdout) == (exit_code, "")
    assert mend in ran.stderr
    assert models.list_versions("digits") == before


def test_production_goes_back_and_forth_again(modelway: Modelway, models: ModelRegistry) -> None:
    assert lines(modelway("rollback", "digits", "--reason", "too slow")) == [
        "digits:v1 is in production again; digits:v2 is archived",
        "to see how it went:  modelway models log digits",
        "to undo this:        modelway models rollback digits v2",
    ]
    assert stages(models) == ["production", "archived", "development"]
    assert lines(modelway("models", "rollback", "digits", "v2"))[0] == (
        "digits:v2 is in production again; digits:v1 is archived"
    )
    assert stages(models) == ["archived", "production", "development"]


def test_a_version_is_archived_and_restored(modelway: Modelway, models: ModelRegistry) -> None:
    assert lines(modelway("models", "archive", "digits", "3")) == [
        "digits:v3 is archived",
        "to bring it back:  modelway models restore digits v3",
    ]
    assert lines(modelway("models", "restore", "digits", "3"))[0] == "digits:v3 is back in development"
    assert lines(modelway("models", "archive", "digits", "2", "--reason", "recalled")) == [
        "digits:v2 is archived; nothing is in production of digits now",
        "to bring it back:  modelway models rollback digits v2",
    ]
    assert stages(models) == ["archived", "archived", "development"]


def test_more_is_said_of_a_version(as_json: Callable[..., Any], models: ModelRegistry) -> None:
    as_json("models", "annotate", "digits", "3", "--description", "slow", "--tag", "a=b", "--metric", "accuracy=0.5")
    version = models.get_version("digits", 3)
    assert (version.description, dict(version.tags), version.metrics["accuracy"]) == ("slow", {"a": "b"}, 0.5)
    as_json("models", "annotate", "digits", "3", "--metric", "recall=0.4", "--measured-on", "sha256:1")
    version = models.get_version("digits", 3)
    assert (version.description, version.measured_on["recall"]) == ("slow", "sha256:1")


def test_an_alias_points_moves_and_goes(modelway: Modelway, models: ModelRegistry) -> None:
    assert lines(modelway("models", "alias", "digits", "champion", "v2", "--expect", "none")) == [
        "digits@champion points at v2",
        "to use it:        modelway models show digits@champion",
        "to take it away:  modelway models alias digits champion --delete",
    ]
    lines(modelway("models", "alias", "digits", "champion", "v3", "--expect", "v2"))
    assert models.get_version("digits", "champion").version == "v3"
    assert lines(modelway("models", "alias", "digits", "champion", "--delete")) == ["digits@champion is gone"]
    assert models.get_version("digits", 3).aliases == ()


def test_a_next_step_reaches_the_same_registry(modelway: Modelway, models: ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "registry").rename(tmp_path / "my registry")
    told = lines(modelway("--url", "my registry", "promote", "digits", "3", "staging"))
    assert told[1] == "to move it on:  modelway --url 'my registry' models promote digits v3 production"
    assert models.url != ""


@pytest.mark.parametrize(
    ("words", "version"),
    [(["digits", "v1"], "v1"), (["digits"], "v3"), (["digits@champion"], "v2"), (["digits", "champion"], "v2")],
)
def test_a_version_is_downloaded(
    modelway: Modelway, as_json: Callable[..., Any], models: ModelRegistry, words: list[str], version: str
) -> None:
    models.set_alias("digits", "champion", 2)
    assert lines(modelway("models", "download", *words, "there")) == [f"digits:{version} is in there, verified"]
    (file,) = Path("there").iterdir()
    assert file.read_bytes() == models.load_artifact("digits", version)
    told = as_json("models", "download", *words, "there")  # the same bytes: they stay
    assert (told["path"], told["version"]["version"]) == ("there", version)


def test_a_download_overwrites_nothing(modelway: Modelway, models: ModelRegistry) -> None:
    modelway("models", "download", "digits", "v1", "there")
    ran = modelway("models", "download", "digits", "v2", "there")
    assert ran.exit_code == 2
    assert "is not overwritten" in ran.stderr
    (file,) = Path("there").iterdir()
    assert file.read_bytes() == models.load_artifact("digits", 1)
    assert modelway("models", "download", "digits", "v1", "there", "more").exit_code == 2
