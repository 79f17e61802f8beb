"""Who said yes: what an approval is bound to, and whether it is one; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from registry.clock import minute
from registry.errors import ApprovalRequired, InvalidInputError, NotFoundError, StaleExpectationError
from registry.events import AnswerRefused, ApprovalAnswered, ApprovalAsked
from registry.guard import Guard, same_person
from registry.records import Approval, ApprovalRequest, RefusedAnswer
from registry.signing import payload, verifies
from registry.stages import ModelStage, check_move
from registry.state import Asked, ModelState
from registry.version_state import VersionState
from registry.wishes import MoveRequest

Decision = Literal["approve", "reject"]
Method = Literal["asserted", "form", "signature"]
Stand = Literal["open", "granted", "used", "rejected", "expired", "changed"]


@dataclass(frozen=True)
class Standing:
    """Where a request stands: whether the move may be made on it, and in words why not.

    ``heard`` is how often it was answered, whether that counted or not: the number of the question to ask next.
    """

    stand: Stand
    words: str
    asked: Asked

    @property
    def heard(self) -> int:
        """How often it was answered so far."""
        return self.asked.heard


def plan_request(  # noqa: PLR0913 - what a request is made of
    state: ModelState, guard: Guard, move: MoveRequest, *, request_id: str, registry: str, expires_in: timedelta | None
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
        registry=registry,
    )
    return ApprovalAsked(request=request, key=move.key)


def _bound_digest(version: VersionState) -> str:
    return version.artifact.digest if version.artifact is not None else version.metadata_digest


def plan_answer(
    state: ModelState, guard: Guard, answer: Approval, *, number: int | None = None
) -> ApprovalAnswered | None:
    """Return the event that records an answer, None when it is recorded already.

    Args:
        state: The model's state.
        guard: What the registry is held to.
        answer: The answer.
        number: Which question it answers, 0 for the first: one that was heard already is not heard again. None where
            nobody counts; then the same answer by the same person is taken for the same.

    Raises:
        NotFoundError: No such request, or its version was deleted.
        InvalidInputError: An empty name.
        StaleExpectationError: This person has answered otherwise before.
        ApprovalRequired: Expired, rejected by somebody, or not a person whose word counts here.
    """
    asked = find_request(state, answer.request_id)
    state.find(asked.request.model, asked.request.version)  # an answer about a deleted version means nothing
    if number is not None and number < asked.heard:
        return None
    if not answer.approver.strip():
        raise InvalidInputError(f"approval {answer.request_id}: an answer needs the name of the person who gives it.")
    earlier = next((one for one in asked.answers if same_person(one.approver, answer.approver)), None)
    if earlier is not None:
        if earlier.decision != answer.decision:
            raise StaleExpectationError(
                f"{answer.approver} has answered {earlier.decision!r} to approval {answer.request_id} already; "
                f"ask anew."
            )
        if number is None:
            return None
        raise ApprovalRequired(
            f"{answer.approver} has approved already, and this move needs {guard.min_approvals} people: somebody else "
            f"must say yes too."
        )
    if answer.decision == "approve":
        _check_alive(asked, answer.decided_at)
    _check_approver(guard, asked.request, answer)
    return ApprovalAnswered(answer=answer)


def plan_refusal(  # noqa: PLR0913 - what a refusal is made of
    state: ModelState, request_id: str, *, approver: str, why: str, at: datetime, number: int
) -> AnswerRefused | None:
    """Return the event that keeps an answer which did not count; None where that question was answered already.

    Raises:
        NotFoundError: No such request.
    """
    if number < find_request(state, request_id).heard:
        return None
    return AnswerRefused(request_id=request_id, refused=RefusedAnswer(approver=approver, why=why, at=at))


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
        standing = stand_of(state, guard, request, key=key, policy_digest=policy_digest)
        if standing.stand != "granted":
            raise ApprovalRequired(standing.words)
        return _approvals(standing.asked)
    if request.approved_by is not None:
        return (_asserted(guard, request),)
    if request.stage in guard.require_approval:
        label = state.versions[key].label
        raise ApprovalRequired(
            f"{request.name}:{label} needs an approval to move to {request.stage}, and none was given; "
            f"nothing was changed. {_how_to_approve(guard, request, label)}"
        )
    return ()


def stand_of(  # noqa: PLR0911 - one way out for each way to stand
    state: ModelState, guard: Guard, move: MoveRequest, *, key: str, policy_digest: str
) -> Standing:
    """Return where the request ``move.approval`` stands, held against the move that is to be made on it.

    Raises:
        NotFoundError: No such request.
    """
    asked = find_request(state, move.approval or "")
    bound = asked.request

    def stands(stand: Stand, words: str) -> Standing:
        return Standing(stand, f"approval {bound.id} {words}", asked)

    if any(one.request_id == bound.id for one in state.versions[key].approvals):
        # A version that was rolled back and restored would else go out again on the word that was given before.
        return stands("used", "has been used already: one approval is for one move. Ask anew.")
    if (words := _rejection(asked)) is not None:
        return stands("rejected", words)
    if bound.expires_at is not None and move.now > bound.expires_at:
        return stands("expired", _expired(bound.expires_at))
    if changed := _changes(state, bound, move, key=key, policy_digest=policy_digest):
        return stands("changed", f"was given for something else: {'; '.join(changed)}. Ask anew.")
    approvals = _approvals(asked)
    if not approvals:
        return stands("open", f"of {bound.model}:{bound.version} has not been answered yet.")
    try:
        for answer in approvals:
            # The guard may have been tightened since the answer; what counts is who may approve now.
            _check_approver(guard, bound, answer)
    except ApprovalRequired as error:
        return Standing("changed", str(error), asked)
    if len(approvals) < guard.min_approvals and bound.stage in guard.require_approval:
        given = ", ".join(answer.approver for answer in approvals)
        return stands(
            "open",
            f"has {len(approvals)} of {guard.min_approvals} approvals ({given}); somebody else must say yes too.",
        )
    return stands("granted", "is granted.")


def _approvals(asked: Asked) -> tuple[Approval, ...]:
    return tuple(answer for answer in asked.answers if answer.decision == "approve")


def _asserted(guard: Guard, request: MoveRequest) -> Approval:
    if not (request.approved_by or "").strip():
        raise InvalidInputError(f"{request.name}: approved_by is empty; give the name of the person who approved.")
    if guard.min_approvals > 1 and request.stage in guard.require_approval:
        raise ApprovalRequired(
            f"{request.stage} needs {guard.min_approvals} people here, and approved_by names one: ask by "
            f"request_approval and let each of them answer."
        )
    given = Approval(
        request_id="",
        decision="approve",
        approver=request.approved_by or "",
        reason=request.reason,
        decided_at=request.now,
    )
    _check_listed(guard, request.stage, given, requested_by=request.actor)
    return given


def _how_to_approve(guard: Guard, request: MoveRequest, label: str) -> str:
    if guard.accept_asserted and guard.min_approvals == 1:
        command = f"modelway models promote {request.name} {label} {request.stage} --approved-by NAME"
        return f"An approver can give it: {command}"
    wanted = "no asserted names" if not guard.accept_asserted else f"no move without {guard.min_approvals} people"
    return f"This registry takes {wanted}: ask by request_approval and let an approver answer."


def _rejection(asked: Asked) -> str | None:
    for answer in asked.answers:
        if answer.decision == "reject":
            return f"was rejected by {answer.approver}: {answer.reason or 'no reason given'}."
    return None


def _expired(at: datetime) -> str:
    return f"expired at {minute(at)}; ask anew."


def _check_alive(asked: Asked, now: datetime) -> None:
    request = asked.request
    if (words := _rejection(asked)) is not None:
        raise ApprovalRequired(f"approval {request.id} {words}")
    if request.expires_at is not None and now > request.expires_at:
        raise ApprovalRequired(f"approval {request.id} {_expired(request.expires_at)}")


def _changes(
    state: ModelState, bound: ApprovalRequest, move: MoveRequest, *, key: str, policy_digest: str
) -> list[str]:
    version = state.versions[key]
    facts = {
        "version": (bound.version, version.label),
        "artifact": (bound.artifact_digest, _bound_digest(version)),
        "target": (bound.stage, move.stage),
        "policy": (bound.policy_digest, policy_digest),
        "incumbent": (bound.incumbent, state.production),
    }
    return [
        f"{what} was {then or 'nothing'}, is {now or 'nothing'}" for what, (then, now) in facts.items() if then != now
    ]


def _check_approver(guard: Guard, request: ApprovalRequest, answer: Approval) -> None:
    """Hold an answer to a request against the guard: a signature where one is given or wanted, then who it is."""
    if answer.signature is not None:
        key = guard.key_of(answer.approver)
        if key is None:
            raise ApprovalRequired(
                f"{answer.approver!r} has no key in this registry, so the signature proves nothing. "
                f"Keys of: {', '.join(guard.signers) or 'nobody'}."
            )
        signed = payload(
            request.registry, request, decision=answer.decision, approver=answer.approver, reason=answer.reason
        )
        if not verifies(key, answer.signature, signed):
            raise ApprovalRequired(
                f"the signature is not that of {answer.approver!r} over this answer to approval {request.id}."
            )
    elif answer.method == "signature":
        raise ApprovalRequired(f"the answer of {answer.approver!r} to approval {request.id} has no signature.")
    if answer.decision == "reject" and same_person(answer.approver, request.requested_by):
        return  # whoever asked may take it back
    _check_listed(guard, request.stage, answer, requested_by=request.requested_by)


def _check_listed(guard: Guard, stage: ModelStage, answer: Approval, *, requested_by: str) -> None:
    if stage not in guard.require_approval:
        return
    approver = answer.approver
    if answer.signature is None and not guard.accept_asserted:
        raise ApprovalRequired(
            f"{approver!r} is only a typed-in name, and this registry takes no asserted approvals for {stage}: sign "
            f"the answer with `modelway approvals {answer.decision} --key FILE`."
        )
    if not guard.lists(approver):
        listed = ", ".join(guard.approvers) or "nobody"
        raise ApprovalRequired(f"{approver!r} is no approver for {stage} in this registry. Listed: {listed}.")
    if answer.decision == "approve" and same_person(approver, requested_by) and not guard.allow_self_approval:
        raise ApprovalRequired(
            f"{approver!r} asked for this move, and nobody approves their own request here; somebody else must."
        )
