"""The words of the domain: names, version labels, stages; what is accepted, and what the refusal of the rest says."""

from __future__ import annotations

import pytest

from registry import ModelFramework, ModelStage
from registry.errors import (
    IllegalTransitionError,
    InvalidInputError,
    InvalidNameError,
    InvalidStageError,
    InvalidVersionError,
)
from registry.names import check_name, look_alike, near
from registry.stages import check_move, moves_from
from registry.versions import Bump, Strategy, canonical, label_of, next_number, next_semantic, strategy_of


@pytest.mark.parametrize("name", ["a", "digits", "object-detector", "resnet_50", "a1-b2_c3", "x" * 63])
def test_a_name_within_the_grammar_is_taken_as_it_is(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Digits",
        "1digits",
        "-a",
        "a-",
        "a--b",
        "a-_b",
        "a b",
        "a/b",
        "../a",
        "a.b",
        "x" * 64,
        "ä",
        "a\n",
        "٣",
        7,
        None,
    ],
)
def test_a_name_outside_the_grammar_is_refused(name: str) -> None:
    with pytest.raises(InvalidNameError, match="cannot be a model name: use 1 to 63 lower-case letters"):
        check_name(name)


@pytest.mark.parametrize("name", ["v1", "v12", "latest", "production", "models", "con", "lpt1"])
def test_a_word_that_would_be_read_as_something_else_is_no_name(name: str) -> None:
    with pytest.raises(InvalidNameError, match="would be read as a version, a stage, a route or a device"):
        check_name(name, kind="alias")


def test_a_refused_name_comes_with_one_that_would_do() -> None:
    with pytest.raises(InvalidNameError, match="'my-great-model' would do"):
        check_name("My Great  Model!")


def test_names_that_people_mix_up_are_found() -> None:
    assert look_alike("my_model", ["my-model"]) == "my-model"
    assert look_alike("my-model", ["my-model", "mymodel"]) is None
    assert near("digts", ["digits", "faces"]) == ("digits",)


@pytest.mark.parametrize(("version", "same"), [(1, "1"), ("1", "1"), ("v1", "1"), (" v12 ", "12"), ("v1.0.0", "1.0.0")])
def test_two_spellings_of_a_version_are_one(version: int | str, same: str) -> None:
    assert canonical(version) == same


def test_a_number_and_a_semantic_version_are_never_the_same() -> None:
    assert canonical(1) != canonical("1.0.0")
    assert strategy_of("v1") is Strategy.AUTOMATIC
    assert strategy_of("v1.0.0-rc.1") is Strategy.SEMANTIC


@pytest.mark.parametrize(
    "version",
    [0, -1, "v0", "01", "1.0", "1.0.0.0", "01.0.0", "", "v", "vv1", "latest", True, 1.5, None, "1" * 10, "1٢", "../1"],
)
def test_what_is_no_version_is_refused(version: int | str) -> None:
    with pytest.raises(InvalidVersionError, match="is no version: use a whole number from 1"):
        canonical(version)


def test_a_label_is_kept_as_it_was_given() -> None:
    assert [label_of(version) for version in (1, "1", "v1", " v1.0.0 ")] == ["v1", "1", "v1", "v1.0.0"]


def test_the_next_label_follows_the_greatest() -> None:
    assert next_number([]) == "v1"
    assert next_number(["1", "10", "9"]) == "v11"
    assert next_semantic([], Bump.MINOR) == "1.0.0"
    taken = ["1.9.0", "1.10.0", "1.10.0-rc.1"]
    assert [next_semantic(taken, bump) for bump in Bump] == ["2.0.0", "1.11.0", "1.10.1"]


@pytest.mark.parametrize(("word", "stage"), [("prod", "production"), ("DEV", "development"), (" Staging ", "staging")])
def test_a_stage_is_read_as_people_write_it(word: str, stage: str) -> None:
    assert ModelStage.parse(word) == ModelStage(stage)
    assert ModelFramework.parse("Torch") is ModelFramework.PYTORCH


def test_a_word_that_names_nothing_is_refused_with_those_that_do() -> None:
    with pytest.raises(
        InvalidStageError, match=r"'live' is no stage; the stages are: development, validation, staging"
    ):
        ModelStage.parse("live")
    with pytest.raises(InvalidInputError, match=r"'caffe' is no ModelFramework; there are: sklearn, pytorch"):
        ModelFramework.parse("caffe")


def test_the_way_goes_forward_and_to_archived() -> None:
    assert moves_from(ModelStage.DEVELOPMENT) == ("validation", "staging", "production", "archived")
    assert moves_from(ModelStage.DEVELOPMENT, strict_path=True) == ("validation", "archived")
    assert moves_from(ModelStage.STAGING) == ("production", "archived")
    assert moves_from(ModelStage.PRODUCTION) == ("archived",)
    assert moves_from(ModelStage.ARCHIVED) == ()


@pytest.mark.parametrize(
    ("start", "target", "mend"),
    [
        ("staging", "validation", "From there it can move to: production, archived."),
        ("production", "staging", "use rollback"),
        ("archived", "production", "Use restore to bring it back to development, or rollback"),
        ("development", "development", "From there it can move to"),
    ],
)
def test_a_move_off_the_way_is_refused_with_what_to_do_instead(start: str, target: str, mend: str) -> None:
    with pytest.raises(IllegalTransitionError, match=f"digits:v3 is in {start} and cannot move to {target}.") as caught:
        check_move("digits:v3", ModelStage(start), ModelStage(target))
    assert mend in str(caught.value)


def test_a_strict_path_forbids_skipping() -> None:
    check_move("digits:v3", ModelStage.DEVELOPMENT, ModelStage.VALIDATION, strict_path=True)
    with pytest.raises(IllegalTransitionError, match=r"cannot move to staging. From there it can move to: validation"):
        check_move("digits:v3", ModelStage.DEVELOPMENT, ModelStage.STAGING, strict_path=True)
