"""A request for approval and its answer: bound to what was asked for, and to nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TypeAlias

import pytest

from registry import ApprovalRequest, Guard, MetricRequirement, ModelRegistry, ModelStage, ModelStore, PromotionPolicy
from registry.errors import (
    ApprovalRequired,
    IllegalTransitionError,
    InvalidInputError,
    NotFoundError,
    StaleExpectationError,
)

NothingChanges: TypeAlias = Callable[[], AbstractContextManager[None]]

GRACE, LIN = "grace@example.com", "lin@example.com"
LISTED = Guard(
    require_approval=(ModelStage.STAGING, ModelStage.PRODUCTION), approvers=("*@example.com",), accept_asserted=True
)
FAST = PromotionPolicy().require_metric(MetricRequirement("speed", threshold=1.0))


@pytest.fixture
def asked(models: ModelRegistry) -> ModelRegistry:
    """Return a guarded registry with two versions, one of bytes and one without."""
    models.set_guard(LISTED)
    models.register("digits", b"weights", metrics={"speed": 2.0})
    models.register("digits", metrics={"speed": 3.0})
    return models


def _approved(models: ModelRegistry, version: int = 1, stage: str = "production") -> ApprovalRequest:
    request = models.request_approval("digits", version, stage)
    models.answer_approval("digits", request.id, "approve", approver=GRACE, reason="the numbers are fine")
    return request


def test_an_answered_request_lets_the_version_through(asked: ModelRegistry, nothing_changes: NothingChanges) -> None:
    request = asked.request_approval("digits", 1, "production", expires_in=timedelta(hours=1))
    with (
        nothing_changes(),
        pytest.raises(ApprovalRequired, match=f"approval {request.id} .* has not been answered yet"),
    ):
        asked.promote("digits", 1, "production", approval=request)

    answered = asked.answer_approval(
        "digits", request.id, "approve", approver=f" {GRACE} ", reason="fine", method="form"
    )
    promoted = asked.promote("digits", 1, "production", approval=request.id)

    assert [one.approver for one in answered.answers] == [GRACE]
    assert [(one.approver, one.method, one.request_id) for one in promoted.approvals] == [(GRACE, "form", request.id)]
    assert promoted.stage is ModelStage.PRODUCTION


def test_a_request_says_what_it_is_bound_to(asked: ModelRegistry) -> None:
    request = asked.request_approval("digits", 1, "prod", policy=FAST, expires_in=timedelta(hours=1), actor=LIN)
    version = asked.get_version("digits", 1)

    assert version.artifact is not None
    assert request.artifact_digest == version.artifact.digest
    assert (request.model, request.version, request.stage) == ("digits", "v1", ModelStage.PRODUCTION)
    assert (request.policy_digest, request.incumbent, request.requested_by) == (FAST.digest, None, LIN)
    assert request.expires_at == request.requested_at + timedelta(hours=1)
    assert asked.request_approval("digits", 2, "prod").artifact_digest == asked.get_version("digits", 2).metadata_digest


def test_asking_again_with_the_same_key_is_asking_once(asked: ModelRegistry, nothing_changes: NothingChanges) -> None:
    request = asked.request_approval("digits", 1, "production", idempotency_key="run-7")

    with nothing_changes():
        assert asked.request_approval("digits", 1, "production", idempotency_key="run-7") == request
    assert asked.request_approval("digits", 1, "production").id != request.id


def test_an_approval_of_another_version_is_refused(asked: ModelRegistry, nothing_changes: NothingChanges) -> None:
    request = _approved(asked, version=1)

    with (
        nothing_changes(),
        pytest.raises(
            ApprovalRequired, match=r"given for something else: version was v1, is v2; artifact was .* Ask anew"
        ),
    ):
        asked.promote("digits", 2, "production", approval=request)


def test_an_approval_of_another_target_is_refused(asked: ModelRegistry, nothing_changes: NothingChanges) -> None:
    request = _approved(asked, stage="staging")

    with nothing_changes(), pytest.raises(ApprovalRequired, match="something else: target was staging, is production"):
        asked.promote("digits", 1, "production", approval=request)


def test_an_approval_under_another_policy_is_refused(asked: ModelRegistry, nothing_changes: NothingChanges) -> None:
    request = _approved(asked)
    with nothing_changes(), pytest.raises(ApprovalRequired, match="something else: policy was sha256:"):
        asked.promote("digits", 1, "production", approval=request, policy=FAST)

    asked.set_guard(LISTED.model_copy(update={"policies": {ModelStage.PRODUCTION: FAST}}))
    with nothing_changes(), pytest.raises(ApprovalRequired, match="something else: policy was sha256:"):
        asked.promote("digits", 1, "production", approval=request)


def test_an_approval_against_another_incumbent_is_refused(
    asked: ModelRegistry, nothing_changes: NothingChanges
) -> None:
    request = _approved(asked, version=1)
    asked.promote("digits", 2, "production", approved_by=GRACE)

    with nothing_changes(), pytest.raises(ApprovalRequired, match="something else: incumbent was nothing, is 2"):
        asked.promote("digits", 1, "production", approval=request)


def test_an_approval_of_other_bytes_is_refused(models: ModelRegistry, store: ModelStore) -> None:
    models.set_guard(LISTED)
    models.register("digits", b"weights")
    request = _approved(models)
    other = ModelRegistry(actor="ada@example.com", store=store)
    forged = request.model_copy(update={"artifact_digest": "sha256:0"})
    known = other._read("digits")  # noqa: SLF001 - the digest of a version cannot change but by a forged log
    state = known.state.model_copy(
        update={"asked": {request.id: known.state.asked[request.id].model_copy(update={"request": forged})}}
    )
    other._log("digits")._known = type(known)(known.number, known.digest, state)  # noqa: SLF001 - as above

    with pytest.raises(ApprovalRequired, match="something else: artifact was sha256:0, is sha256:"):
        other.promote("digits", 1, "production", approval=request)


def test_an_expired_approval_is_refused(asked: ModelRegistry, nothing_changes: NothingChanges) -> None:
    request = asked.request_approval("digits", 1, "production", expires_in=timedelta(microseconds=1))

    with nothing_changes():
        with pytest.raises(ApprovalRequired, match=f"approval {request.id} expired at .* UTC; ask anew"):
            asked.answer_approval("digits", request.id, "approve", approver=GRACE)
        with pytest.raises(ApprovalRequired, match="expired"):
            asked.promote("digits", 1, "production", approval=request)


def test_a_rejected_request_stays_rejected(asked: ModelRegistry, nothing_changes: NothingChanges) -> None:
    request = _approved(asked)
    asked.answer_approval("digits", request.id, "reject", approver=LIN, reason="the data is stale")

    with nothing_changes():
        with pytest.raises(ApprovalRequired, match=f"rejected by {LIN}: the data is stale"):
            asked.promote("digits", 1, "production", approval=request)
        with pytest.raises(ApprovalRequired, match="rejected by"):
            asked.answer_approval("digits", request.id, "approve", approver="new@example.com")


def test_nobody_approves_their_own_request(asked: ModelRegistry, nothing_changes: NothingChanges) -> None:
    request = asked.request_approval("digits", 1, "production", actor=GRACE)

    with nothing_changes():
        for name in (GRACE, GRACE.upper()):
            with pytest.raises(ApprovalRequired, match="nobody approves their own request here"):
                asked.answer_approval("digits", request.id, "approve", approver=name)


def test_an_answer_is_given_once_and_not_changed(asked: ModelRegistry, nothing_changes: NothingChanges) -> None:
    request = _approved(asked)

    with nothing_changes():
        assert len(asked.answer_approval("digits", request.id, "approve", approver=GRACE).answers) == 1
        with pytest.raises(StaleExpectationError, match=r"has answered 'approve' .* already; ask anew"):
            asked.answer_approval("digits", request.id, "reject", approver=GRACE)


def test_an_answer_needs_a_request_and_a_name(asked: ModelRegistry, nothing_changes: NothingChanges) -> None:
    request = asked.request_approval("digits", 1, "production")

    with nothing_changes():
        with pytest.raises(NotFoundError, match=f"no approval 'nothing'. Asked for so far: {request.id}"):
            asked.answer_approval("digits", "nothing", "approve", approver=GRACE)
        with pytest.raises(NotFoundError, match="no approval 'nothing'"):
            asked.promote("digits", 1, "production", approval="nothing")
        with pytest.raises(InvalidInputError, match="needs the name of the person"):
            asked.answer_approval("digits", request.id, "approve", approver="  ")


def test_what_could_not_be_made_even_with_an_approval_is_not_asked_for(
    asked: ModelRegistry, nothing_changes: NothingChanges
) -> None:
    asked.archive("digits", 1)

    with nothing_changes(), pytest.raises(IllegalTransitionError, match="is in archived and cannot move to production"):
        asked.request_approval("digits", 1, "production")


def test_one_approval_is_for_one_move(asked: ModelRegistry, nothing_changes: NothingChanges) -> None:
    request = _approved(asked)
    asked.promote("digits", 1, "production", approval=request)
    asked.archive("digits", 1, reason="it answered nonsense")
    asked.restore("digits", 1)

    with nothing_changes(), pytest.raises(ApprovalRequired, match=f"approval {request.id} has been used already"):
        asked.promote("digits", 1, "production", approval=request)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"approvers": (LIN,)}, f"'{GRACE}' is no approver"),
        ({"accept_asserted": False}, "takes no asserted approvals"),
    ],
)
def test_an_answer_counts_by_the_guard_that_holds_at_the_move(
    asked: ModelRegistry, nothing_changes: NothingChanges, change: dict[str, object], message: str
) -> None:
    request = _approved(asked)
    asked.set_guard(LISTED.model_copy(update=change))

    with nothing_changes(), pytest.raises(ApprovalRequired, match=message):
        asked.promote("digits", 1, "production", approval=request)


def test_an_answer_from_before_there_was_a_guard_is_held_to_it(
    models: ModelRegistry, nothing_changes: NothingChanges
) -> None:
    models.register("digits")
    request = models.request_approval("digits", 1, "production")
    models.answer_approval("digits", request.id, "approve", approver="anybody")
    models.set_guard(LISTED)

    with nothing_changes(), pytest.raises(ApprovalRequired, match="'anybody' is no approver"):
        models.promote("digits", 1, "production", approval=request)


def test_a_rollback_needs_no_new_approval_because_it_had_one(asked: ModelRegistry) -> None:
    asked.promote("digits", 1, "production", approval=_approved(asked, 1))
    asked.promote("digits", 2, "production", approval=_approved(asked, 2))

    assert asked.rollback("digits").version == "v1"
