"""Who must say yes, and how many: signatures, two people, answers that do not count, and where a request stands."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, TypeAlias

import pytest

from registry import ApprovalRequest, Guard, ModelRegistry, ModelStage
from registry.errors import ApprovalRequired, NotFoundError
from registry.signing import generate, payload, sign

NothingChanges: TypeAlias = Callable[[], AbstractContextManager[None]]

GRACE, LIN, EVE = "grace@example.com", "lin@example.com", "eve@example.com"
KEYS = {who: generate() for who in (GRACE, LIN, EVE)}
SIGNED = Guard(
    require_approval=(ModelStage.PRODUCTION,),
    approvers=("*@example.com",),
    signers={who: KEYS[who][1] for who in (GRACE, LIN)},
)


@pytest.fixture
def asked(models: ModelRegistry) -> ApprovalRequest:
    """Return a request in a registry that takes only signed approvals."""
    models.set_guard(SIGNED)
    models.register("digits", b"weights")
    models.register("digits", b"other weights")
    return models.request_approval("digits", 1, "production", expires_in=timedelta(hours=1))


def signed(request: ApprovalRequest, who: str, *, by: str | None = None, **said: str) -> dict[str, Any]:
    """Return the arguments of an answer by ``who``, signed with the key of ``by``."""
    words = {"decision": "approve", "approver": who, "reason": "fine", **said}
    return {**words, "signature": sign(KEYS[by or who][0], payload(request.registry, request, **words))}


def test_a_signed_answer_lets_the_version_through(models: ModelRegistry, asked: ApprovalRequest) -> None:
    models.answer_approval("digits", asked.id, **signed(asked, GRACE))
    assert models.get_approval("digits", asked.id).stand == "granted"

    promoted = models.promote("digits", 1, "production", approval=asked)

    (approval,) = promoted.approvals
    assert (approval.approver, approval.method) == (GRACE, "signature")
    assert approval.signature is not None
    assert models.get_approval("digits", asked.id).stand == "used"


def test_a_signature_that_is_not_the_approvers_is_refused(
    models: ModelRegistry, asked: ApprovalRequest, nothing_changes: NothingChanges
) -> None:
    other = models.request_approval("digits", 2, "production")
    forged = {
        "of another key": signed(asked, GRACE, by=EVE),
        "of another's name": {**signed(asked, LIN), "approver": GRACE},
        "of other words": {**signed(asked, GRACE), "reason": "not what was signed"},
        "of a no": {**signed(asked, GRACE, decision="reject"), "decision": "approve"},
        "of another request": signed(other, GRACE),
        "of nothing": {**signed(asked, GRACE), "signature": "ed25519:AAAA"},
    }
    for what, answer in forged.items():
        with nothing_changes(), pytest.raises(ApprovalRequired, match="the signature is not that of") as caught:
            models.answer_approval("digits", asked.id, **answer)
        assert asked.id in str(caught.value), what

    with nothing_changes(), pytest.raises(ApprovalRequired, match=f"'{EVE}' has no key in this registry"):
        models.answer_approval("digits", asked.id, **signed(asked, EVE))


def test_a_typed_in_no_is_no_answer_either_where_answers_are_signed(
    models: ModelRegistry, asked: ApprovalRequest, nothing_changes: NothingChanges
) -> None:
    with nothing_changes(), pytest.raises(ApprovalRequired, match="sign the answer with `modelway approvals reject"):
        models.answer_approval("digits", asked.id, "reject", approver=GRACE)

    models.answer_approval("digits", asked.id, **signed(asked, GRACE, decision="reject"))
    assert models.get_approval("digits", asked.id).stand == "rejected"


def test_whoever_asked_may_take_it_back(models: ModelRegistry, asked: ApprovalRequest) -> None:
    models.answer_approval("digits", asked.id, "reject", approver=asked.requested_by, reason="a mistake")

    assert models.get_approval("digits", asked.id).words.endswith(f"was rejected by {asked.requested_by}: a mistake.")


def test_a_key_that_is_taken_away_takes_its_approval_along(
    models: ModelRegistry, asked: ApprovalRequest, nothing_changes: NothingChanges
) -> None:
    models.answer_approval("digits", asked.id, **signed(asked, GRACE))
    models.set_guard(SIGNED.model_copy(update={"signers": {LIN: KEYS[LIN][1]}}))

    assert models.get_approval("digits", asked.id).stand == "changed"
    with nothing_changes(), pytest.raises(ApprovalRequired, match="has no key"):
        models.promote("digits", 1, "production", approval=asked)


def test_two_must_say_yes_and_one_of_them_twice_is_one(
    models: ModelRegistry, asked: ApprovalRequest, nothing_changes: NothingChanges
) -> None:
    models.set_guard(SIGNED.model_copy(update={"min_approvals": 2}))
    models.answer_approval("digits", asked.id, **signed(asked, GRACE), number=0)

    standing = models.get_approval("digits", asked.id)
    assert (standing.stand, standing.heard) == ("open", 1)
    assert f"has 1 of 2 approvals ({GRACE})" in standing.words
    with nothing_changes():
        with pytest.raises(ApprovalRequired, match="somebody else must say yes too"):
            models.promote("digits", 1, "production", approval=asked)
        with pytest.raises(ApprovalRequired, match="has approved already, and this move needs 2 people"):
            models.answer_approval("digits", asked.id, **signed(asked, GRACE), number=1)
        with pytest.raises(ApprovalRequired, match="production needs 2 people here, and approved_by names one"):
            models.promote("digits", 1, "production", approved_by=LIN)

    models.answer_approval("digits", asked.id, **signed(asked, LIN), number=1)
    promoted = models.promote("digits", 1, "production", approval=asked)
    assert [approval.approver for approval in promoted.approvals] == [GRACE, LIN]


def test_a_question_that_was_heard_is_not_heard_again(
    models: ModelRegistry, asked: ApprovalRequest, nothing_changes: NothingChanges
) -> None:
    models.refuse_answer("digits", asked.id, approver=" eve ", why="no approver", number=0)
    with nothing_changes():
        models.refuse_answer("digits", asked.id, approver="eve", why="no approver", number=0)
        models.answer_approval("digits", asked.id, **signed(asked, GRACE), number=0)
    assert models.get_approval("digits", asked.id).heard == 1

    models.answer_approval("digits", asked.id, **signed(asked, GRACE), number=1)
    with nothing_changes():
        models.answer_approval("digits", asked.id, **signed(asked, GRACE), number=1)

    (found,) = models.get_approvals("digits")
    assert [(one.approver, one.why) for one in found.refused] == [("eve", "no approver")]
    assert [one.approver for one in found.answers] == [GRACE]


def test_a_request_whose_ground_has_changed_says_what(models: ModelRegistry, asked: ApprovalRequest) -> None:
    models.set_guard(SIGNED.model_copy(update={"accept_asserted": True}))
    models.answer_approval("digits", asked.id, **signed(asked, GRACE))
    models.promote("digits", 2, "production", approved_by=LIN)

    standing = models.get_approval("digits", asked.id)

    assert standing.stand == "changed"
    assert "incumbent was nothing, is 2" in standing.words
    with pytest.raises(NotFoundError, match="no approval 'deadbeef'"):
        models.get_approval("digits", "deadbeef")


def test_an_unanswered_request_expires(models: ModelRegistry, asked: ApprovalRequest) -> None:
    late = models.request_approval("digits", 1, "production", expires_in=timedelta(microseconds=1))

    assert models.get_approval("digits", asked.id).stand == "open"
    assert models.get_approval("digits", late.id).stand == "expired"


@pytest.mark.parametrize("key", ["ed25519:AAAA", "rsa:" + "A" * 44, "", "ed25519:" + "!" * 44])
def test_a_public_key_that_is_none_is_refused_by_the_guard(key: str) -> None:
    with pytest.raises(ValueError, match="is no public key"):
        Guard(signers={GRACE: key})
