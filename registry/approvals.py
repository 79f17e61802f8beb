"""Who said yes: what an approval is bound to, and whether it is one; pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from registry.errors import ApprovalRequired, InvalidInputError, NotFoundError, StaleExpectationError
from registry.events import ApprovalAnswered, ApprovalAsked
from registry.guard import Guard
from registry.records import Approval, ApprovalRequest
from registry.stages import ModelStage, check_move
from registry.state import Asked, ModelState
from registry.version_state import VersionState
from registry.wishes import MoveRequest

Decision = Literal["approve", "reject"]
Method = Literal["asserted", "form", "signature"]


def plan_request(
    state: ModelState, guard: Guard, move: MoveRequest, *, request_id: str, expires_in: timedelta | None
) -> ApprovalAsked | None:
    """Return the event that asks for an approval of ``move``, None when its key has asked already.

    Raises:
        VersionNotFoundError: There is no such version.
        IllegalTransitionError: The move could not be made even with an approval.
    """
    if state.recall("approval_asked", move.key):
        return None
    found = state.versions[state.find(move.name, move.version)]
    check_move(f"{move.name}:{found.label}", found.stage, move.stage, strict_path=guard.strict_path)
    request = ApprovalRequest(
        id=request_id,
        model=move.name,
        version=found.label,
        stage=move.stage,
        artifact_digest=_bound_digest(found),
        policy_digest=guard.policy_for(move.stage, move.policy).digest,
        incumbent=state.production,
        requested_by=move.actor,
        requested_at=move.now,
        expires_at=None if expires_in is None else move.now + expires_in,
    )
    return ApprovalAsked(request=request, key=move.key)


def _bound_digest(version: VersionState) -> str:
    return version.artifact.digest if version.artifact is not None else version.metadata_digest


def plan_answer(state: ModelState, guard: Guard, answer: Approval) -> ApprovalAnswered | None:
    """Return the event that records an answer, None when this person has given it already.

    Raises:
        NotFoundError: No such request, or its version was deleted.
        InvalidInputError: An empty name.
        StaleExpectationError: This person has answered otherwise before.
        ApprovalRequired: Expired, rejected by somebody, or not a person whose word counts here.
    """
    asked = find_request(state, answer.request_id)
    state.find(asked.request.model, asked.request.version)  # an answer about a deleted version means nothing
    if not answer.approver.strip():
        raise InvalidInputError(f"approval {answer.request_id}: an answer needs the name of the person who gives it.")
    earlier = next((one for one in asked.answers if one.approver == answer.approver), None)
    if earlier is not None:
        if earlier.decision == answer.decision:
            return None
        raise StaleExpectationError(
            f"{answer.approver} has answered {earlier.decision!r} to approval {answer.request_id} already; ask anew."
        )
    if answer.decision == "approve":
        _check_alive(asked, answer.decided_at)
        _check_approver(guard, asked.request.stage, answer, requested_by=asked.request.requested_by)
    return ApprovalAnswered(answer=answer)


def find_request(state: ModelState, request_id: str) -> Asked:
    """Return a request and its answers.

    Raises:
        NotFoundError: No such request.
    """
    try:
        return state.asked[request_id]
    except KeyError:
        raise NotFoundError(
            f"no approval {request_id!r}. Asked for so far: {', '.join(state.asked) or 'none'}."
        ) from None


def check_approvals(
    state: ModelState, guard: Guard, request: MoveRequest, *, key: str, policy_digest: str
) -> tuple[Approval, ...]:
    """Return the approvals that a move rests on; empty where none is needed or given.

    Raises:
        ApprovalRequired: One is needed and none is given, or what is given does not hold.
    """
    if request.approval is not None:
        asked = find_request(state, request.approval)
        _check_alive(asked, request.now)
        _check_binding(state, asked.request, request, key=key, policy_digest=policy_digest)
        return _answers(state, guard, request, asked, key=key)
    if request.approved_by is not None:
        if not request.approved_by.strip():
            raise InvalidInputError(f"{request.name}: approved_by is empty; give the name of the person who approved.")
        given = Approval(
            request_id="",
            decision="approve",
            approver=request.approved_by,
            reason=request.reason,
            decided_at=request.now,
        )
        _check_approver(guard, request.stage, given, requested_by=request.actor)
        return (given,)
    if request.stage in guard.require_approval:
        label = state.versions[key].label
        raise ApprovalRequired(
            f"{request.name}:{label} needs an approval to move to {request.stage}, and none was given; "
            f"nothing was changed. {_how_to_approve(guard, request, label)}"
        )
    return ()


def _answers(state: ModelState, guard: Guard, request: MoveRequest, asked: Asked, *, key: str) -> tuple[Approval, ...]:
    bound = asked.request
    if any(one.request_id == bound.id for one in state.versions[key].approvals):
        # A version that was rolled back and restored would else go out again on the word that was given before.
        raise ApprovalRequired(f"approval {bound.id} has been used already: one approval is for one move. Ask anew.")
    approvals = tuple(answer for answer in asked.answers if answer.decision == "approve")
    if not approvals:
        raise ApprovalRequired(f"approval {bound.id} of {request.name}:{bound.version} has not been answered yet.")
    for answer in approvals:
        # The guard may have been tightened since the answer; what counts is who may approve now.
        _check_approver(guard, bound.stage, answer, requested_by=bound.requested_by)
    return approvals


def _how_to_approve(guard: Guard, request: MoveRequest, label: str) -> str:
    if guard.accept_asserted:
        command = f"modelway models promote {request.name} {label} {request.stage} --approved-by NAME"
        return f"An approver can give it: {command}"
    return "This registry takes no asserted names: ask by request_approval and let an approver answer."


def _check_alive(asked: Asked, now: datetime) -> None:
    request = asked.request
    if (rejection := next((answer for answer in asked.answers if answer.decision == "reject"), None)) is not None:
        raise ApprovalRequired(
            f"approval {request.id} was rejected by {rejection.approver}: {rejection.reason or 'no reason given'}."
        )
    if request.expires_at is not None and now > request.expires_at:
        raise ApprovalRequired(f"approval {request.id} expired at {request.expires_at:%Y-%m-%d %H:%M} UTC; ask anew.")


def _check_binding(
    state: ModelState, bound: ApprovalRequest, move: MoveRequest, *, key: str, policy_digest: str
) -> None:
    version = state.versions[key]
    facts = {
        "version": (bound.version, version.label),
        "artifact": (bound.artifact_digest, _bound_digest(version)),
        "target": (bound.stage, move.stage),
        "policy": (bound.policy_digest, policy_digest),
        "incumbent": (bound.incumbent, state.production),
    }
    changed = [
        f"{what} was {then or 'nothing'}, is {now or 'nothing'}" for what, (then, now) in facts.items() if then != now
    ]
    if changed:
        raise ApprovalRequired(f"approval {bound.id} was given for something else: {'; '.join(changed)}. Ask anew.")


def _check_approver(guard: Guard, stage: ModelStage, answer: Approval, *, requested_by: str) -> None:
    if stage not in guard.require_approval:
        return
    approver = answer.approver
    # Whatever the method says: as long as no signature is verified, a name is only a name.
    if not guard.accept_asserted:
        raise ApprovalRequired(
            f"{approver!r} is only a typed-in name, and this registry takes no asserted approvals for {stage}."
        )
    if not guard.lists(approver):
        listed = ", ".join(guard.approvers) or "nobody"
        raise ApprovalRequired(f"{approver!r} is no approver for {stage} in this registry. Listed: {listed}.")
    if _same_person(approver, requested_by) and not guard.allow_self_approval:
        raise ApprovalRequired(
            f"{approver!r} asked for this move, and nobody approves their own request here; somebody else must."
        )


def _same_person(name: str, other: str) -> bool:
    # As the list of approvers is read: a capital letter makes nobody somebody else.
    return name.strip().casefold() == other.strip().casefold()
