"""Moving versions: one in production at a time, forward only, back by rollback, and every move in the history."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TypeAlias

import pytest

from registry import Guard, ModelRegistry, ModelStage, ModelStore
from registry.errors import (
    IllegalTransitionError,
    InvalidInputError,
    InvalidVersionError,
    ModelNotFoundError,
    NotFoundError,
    StaleExpectationError,
    VersionNotFoundError,
)
from registry.state import LONGEST_WAY

NothingChanges: TypeAlias = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def three(models: ModelRegistry) -> ModelRegistry:
    """Return a registry with three versions of digits that were in production one after the other."""
    for _ in range(3):
        version = models.register("digits")
        models.promote("digits", version.version, "production", reason=f"{version.version} is ready")
    return models


def _stages(models: ModelRegistry) -> list[str]:
    return [version.stage.value for version in models.list_versions("digits")]


def test_a_promotion_to_production_archives_the_holder_by_the_same_event(three: ModelRegistry) -> None:
    assert _stages(three) == ["archived", "archived", "production"]
    moves = three.get_transitions("digits")
    assert [(moved.number, moved.version, moved.from_stage.value, moved.to_stage.value) for moved in moves] == [
        (3, "v1", "development", "production"),
        (6, "v2", "development", "production"),
        (6, "v1", "production", "archived"),
        (9, "v3", "development", "production"),
        (9, "v2", "production", "archived"),
    ]
    assert [moved.reason for moved in moves[-2:]] == ["v3 is ready", "replaced by v3"]
    assert {moved.actor for moved in moves} == {"ada@example.com"}


def test_the_history_of_one_version_holds_its_own_moves(three: ModelRegistry) -> None:
    three.restore("digits", 1, reason="once more")
    three.rollback("digits", "v2", reason="v3 is slow")

    assert [moved.to_stage.value for moved in three.get_transitions("digits", "v1")] == [
        "production", "archived", "development",
    ]  # fmt: skip
    last = three.get_transitions("digits")[-2:]
    assert [(moved.version, moved.reason) for moved in last] == [("v2", "v3 is slow"), ("v3", "rolled back to v2")]
    with pytest.raises(VersionNotFoundError):
        three.get_transitions("digits", 9)


def test_the_three_names_of_promote_are_one_path(models: ModelRegistry) -> None:
    models.register("digits")

    models.promote("digits", 1, "validation")
    models.transition_stage("digits", "v1", ModelStage.STAGING, reason="transition_stage")
    models.promote_model("digits", "1", "PROD", approved_by="grace@example.com", reason="promote_model")

    moves = models.get_transitions("digits")
    assert [moved.to_stage.value for moved in moves] == ["validation", "staging", "production"]
    assert moves[-1].approval is not None
    assert (moves[-1].approval.approver, moves[-1].approval.method) == ("grace@example.com", "asserted")


def test_a_version_that_stands_there_already_is_given_back_as_it_is(
    three: ModelRegistry, nothing_changes: NothingChanges
) -> None:
    with nothing_changes():
        assert three.promote("digits", 3, "production").stage is ModelStage.PRODUCTION
        assert three.archive("digits", 1).stage is ModelStage.ARCHIVED
        assert three.rollback("digits", 3).version == "v3"


@pytest.mark.parametrize(
    ("version", "stage", "error", "message"),
    [
        (3, "staging", IllegalTransitionError, "digits:v3 is in production and cannot move to staging"),
        (
            1,
            "production",
            IllegalTransitionError,
            "digits:v1 is in archived and cannot move to production. Use restore",
        ),
        (1, "staging", IllegalTransitionError, "is in archived"),
        (9, "production", VersionNotFoundError, "digits has no version '9'. It has: v1, v2, v3."),
        ("1.0.0", "production", VersionNotFoundError, "has no version '1.0.0'"),
        ("champion", "production", InvalidVersionError, "'champion' is no version"),
        (3, "live", InvalidInputError, "'live' is no stage"),
    ],
)
def test_a_move_that_cannot_be_is_refused_and_nothing_changes(  # noqa: PLR0913, PLR0917 - what is asked and what is answered
    three: ModelRegistry,
    nothing_changes: NothingChanges,
    version: int | str,
    stage: str,
    error: type[Exception],
    message: str,
) -> None:
    with nothing_changes(), pytest.raises(error, match=message):
        three.promote("digits", version, stage)


def test_a_model_that_is_not_there_is_named_with_those_that_are_near(
    three: ModelRegistry, nothing_changes: NothingChanges
) -> None:
    with nothing_changes(), pytest.raises(ModelNotFoundError, match=r"no model 'digit' in .*Did you mean digits\?"):
        three.promote("digit", 1, "production")


def test_a_move_is_refused_when_somebody_else_holds_production(
    three: ModelRegistry, nothing_changes: NothingChanges
) -> None:
    three.register("digits")
    with nothing_changes():
        for expected, words in ((2, "2"), (None, "nothing")):
            with pytest.raises(
                StaleExpectationError, match=rf"expected {words} to hold production of digits, found v3"
            ):
                three.promote("digits", 4, "production", expect_current=expected)

    assert three.promote("digits", 4, "production", expect_current="v3").stage is ModelStage.PRODUCTION


def test_a_first_promotion_can_expect_that_nothing_is_in_production(models: ModelRegistry) -> None:
    models.register("digits")
    models.register("digits")

    models.promote("digits", 1, "production", expect_current=None)
    with pytest.raises(StaleExpectationError, match="found v1"):
        models.promote("digits", 2, "production", expect_current=None)


def test_going_back_twice_goes_back_twice(three: ModelRegistry, nothing_changes: NothingChanges) -> None:
    assert three.rollback("digits").version == "v2"
    assert _stages(three) == ["archived", "production", "archived"]
    assert three.rollback("digits").version == "v1"
    assert _stages(three) == ["production", "archived", "archived"]

    with nothing_changes(), pytest.raises(IllegalTransitionError, match="no earlier production version to go back to"):
        three.rollback("digits")


def test_after_a_rollback_the_way_goes_on_from_there(three: ModelRegistry) -> None:
    three.rollback("digits")
    three.register("digits")
    three.promote("digits", 4, "production")

    assert three.rollback("digits").version == "v2"
    assert three.rollback("digits", 3).version == "v3", "forward again, by name"
    assert three.rollback("digits").version == "v2"


def test_what_was_archived_by_hand_comes_back_by_rollback(three: ModelRegistry) -> None:
    three.archive("digits", 3, reason="it is broken")

    assert three.get_production_model("digits") is None
    assert three.rollback("digits").version == "v3"


def test_only_a_version_that_has_held_production_is_rolled_back_to(
    three: ModelRegistry, nothing_changes: NothingChanges
) -> None:
    three.register("digits")
    three.promote("digits", 4, "staging")

    with (
        nothing_changes(),
        pytest.raises(
            IllegalTransitionError, match=r"digits:v4 has never held production.*These have: v1, v2, v3\. .*use promote"
        ),
    ):
        three.rollback("digits", 4)


def test_only_archived_versions_are_restored(three: ModelRegistry, nothing_changes: NothingChanges) -> None:
    with nothing_changes(), pytest.raises(IllegalTransitionError, match="digits:v3 is in production; only archived"):
        three.restore("digits", 3)

    assert three.restore("digits", 1).stage is ModelStage.DEVELOPMENT
    assert three.promote("digits", 1, "production").stage is ModelStage.PRODUCTION
    assert three.rollback("digits").version == "v3"


def test_a_strict_path_is_the_registrys_and_holds_for_everybody(
    models: ModelRegistry, store: ModelStore, nothing_changes: NothingChanges
) -> None:
    models.register("digits")
    models.set_guard(Guard(strict_path=True))

    with nothing_changes(), pytest.raises(IllegalTransitionError, match="can move to: validation, archived"):
        ModelRegistry(store=store).promote("digits", 1, "staging")
    for stage in ("validation", "staging", "production"):
        models.promote("digits", 1, stage)


def test_a_key_moves_once_and_means_only_its_own_verb(models: ModelRegistry, nothing_changes: NothingChanges) -> None:
    first = models.register("digits", idempotency_key="run-1")
    models.register("digits")
    assert models.promote("digits", first.version, "production", idempotency_key="run-1").stage == "production"
    models.promote("digits", 2, "production")

    with nothing_changes():
        assert models.promote("digits", 1, "production", idempotency_key="run-1").stage is ModelStage.ARCHIVED
        assert models.register("digits", idempotency_key="run-1").version == "v1"
    assert models.rollback("digits", idempotency_key="run-1").version == "v1"
    models.archive("digits", 1)
    with nothing_changes():
        assert models.rollback("digits", idempotency_key="run-1").version == "v1", "what it did then"


def test_who_held_production_at_a_time_can_be_asked(three: ModelRegistry) -> None:
    moves = [moved for moved in three.get_transitions("digits") if moved.to_stage is ModelStage.PRODUCTION]
    archived = three.archive("digits", 3).stage_since
    three.rollback("digits", 1)

    def holder(at: datetime) -> str | None:
        held = three.get_production_model("digits", at=at)
        return None if held is None else held.version

    assert holder(moves[0].timestamp - timedelta(microseconds=1)) is None
    assert [holder(moved.timestamp) for moved in moves] == ["v1", "v2", "v3"]
    assert holder(archived) is None
    assert holder(three.get_version("digits", 1).stage_since) == "v1"
    with pytest.raises(InvalidInputError, match="has no time zone"):
        three.get_production_model("digits", at=moves[0].timestamp.replace(tzinfo=None))


def test_versions_are_found_by_stage_across_models(three: ModelRegistry) -> None:
    three.register("faces")

    assert three.list_models() == ["digits", "faces"]
    assert three.list_models(stage="prod") == ["digits"]
    assert [version.full_name for version in three.get_by_stage("archived")] == ["digits:v1", "digits:v2"]
    latest = three.get_latest_in_stage("digits", "archived")
    assert latest is not None
    assert latest.version == "v2"
    assert three.get_latest_in_stage("digits", "staging") is None
    model = three.get_model("digits")
    assert (model.latest_version, model.production_version) == (model.versions[2], model.versions[2])
    assert three.get_model_metadata("digits", stage="archived").version == "v2"
    assert three.get_model_metadata("faces").version == "v1"
    with pytest.raises(NotFoundError, match=r"faces has no version in staging. It has: v1 in development"):
        three.get_model_metadata("faces", stage="staging")
    with pytest.raises(InvalidInputError, match="ask by version, stage or alias, not by more than one"):
        three.get_model_metadata("digits", version=1, stage="production")


def test_going_back_twice_from_a_version_that_came_twice_goes_back_twice(models: ModelRegistry) -> None:
    for number in (1, 2):
        models.register("digits", b"%d" % number)
        models.promote("digits", number, "production")
    models.restore("digits", 1)
    models.promote("digits", 1, "production")

    assert [models.rollback("digits").version, models.rollback("digits").version] == ["v2", "v1"]


def test_the_way_back_has_an_end_and_older_holders_are_gone_back_to_by_name(models: ModelRegistry) -> None:
    models.register("digits", b"0")
    models.promote("digits", 1, "production")
    for number in range(2, LONGEST_WAY + 2):
        models.register("digits")
        models.promote("digits", number, "production")

    state = models._read("digits").state  # noqa: SLF001 - how long it is cannot be seen otherwise
    assert len(state.holders) == LONGEST_WAY
    assert models.rollback("digits", 1).version == "v1"
