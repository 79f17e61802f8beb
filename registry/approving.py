"""The verbs by which people are asked, and answer."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from registry import clock
from registry.approvals import (
    Decision,
    Method,
    Standing,
    find_request,
    plan_answer,
    plan_refusal,
    plan_request,
    stand_of,
)
from registry.encoding import digest_of
from registry.policy import PromotionPolicy
from registry.reading import Reading
from registry.records import Approval, ApprovalRequest, ModelVersion
from registry.stages import ModelStage
from registry.state import Asked
from registry.versions import VersionRef
from registry.wishes import MoveRequest


class Approving(Reading):
    """The verbs around a person's yes: ask, answer, look where it stands."""

    def request_approval(  # noqa: PLR0913 - the public interface
        self,
        name: str,
        version: VersionRef,
        stage: ModelStage | str,
        *,
        policy: PromotionPolicy | None = None,
        expires_in: timedelta | None = None,
        actor: str | None = None,
        idempotency_key: str | None = None,
    ) -> ApprovalRequest:
        """Ask for a person's approval of a move; the answer holds for just this artifact, policy, target and incumbent.

        Raises:
            IllegalTransitionError: The move could not be made even with an approval.
        """
        key = idempotency_key or uuid.uuid4().hex
        wish = self._wish(name, version, stage, actor, policy=policy, key=key)
        request_id, registry = digest_of(key.encode())[7:19], self.identity.id
        known = self._append_guarded(
            name,
            lambda state, root: plan_request(
                state, root.guard, wish, request_id=request_id, registry=registry, expires_in=expires_in
            ),
            actor=actor,
        )
        return known.state.asked[known.state.recall("approval_asked", key) or ""].request

    def answer_approval(  # noqa: PLR0913 - the public interface
        self,
        name: str,
        request_id: str,
        decision: Decision,
        *,
        approver: str,
        reason: str = "",
        method: Method = "asserted",
        signature: str | None = None,
        number: int | None = None,
        actor: str | None = None,
    ) -> Asked:
        """Record a person's answer to a request.

        Args:
            name: The model.
            request_id: What is answered.
            decision: Yes or no.
            approver: Who answers.
            reason: Why; recorded.
            method: What the name rests on; with a signature it is ``signature``.
            signature: By the approver's key, over ``registry.signing.payload``.
            number: Which question this answers, 0 for the first; one that was heard already is not heard again.
            actor: Who is recorded as writing it down.

        Returns:
            The request with all its answers.

        Raises:
            NotFoundError: No such request.
            ApprovalRequired: The request expired or was rejected, or this person's word does not count here.
        """
        answer = Approval(
            request_id=request_id,
            decision=decision,
            approver=approver.strip(),
            reason=reason,
            method=method if signature is None else "signature",
            decided_at=clock.now(),
            signature=signature,
        )
        known = self._append_guarded(
            name, lambda state, root: plan_answer(state, root.guard, answer, number=number), actor=actor
        )
        return find_request(known.state, request_id)

    def refuse_answer(  # noqa: PLR0913 - what a refusal is made of
        self, name: str, request_id: str, *, approver: str, why: str, number: int, actor: str | None = None
    ) -> Asked:
        """Record that somebody answered and it did not count; question ``number`` is over with it.

        Raises:
            NotFoundError: No such request.
        """
        now = clock.now()
        known = self._append_existing(
            name,
            lambda known: plan_refusal(
                known.state, request_id, approver=approver.strip(), why=why, at=now, number=number
            ),
            actor=actor,
        )
        return find_request(known.state, request_id)

    def get_approval(self, name: str, request_id: str, *, policy: PromotionPolicy | None = None) -> Standing:
        """Return where a request stands: open, granted, used, rejected, expired, or changed in what it is bound to.

        Args:
            name: The model.
            request_id: The request.
            policy: Requirements beside the registry's own that the move is to be made under.

        Raises:
            NotFoundError: No such request.
        """
        known, root = self._read(name), self._root.read().state
        bound = find_request(known.state, request_id).request
        key = known.state.find(name, bound.version)
        move = self._wish(name, bound.version, bound.stage, None, policy=policy, approval=request_id)
        digest = root.guard.policy_for(bound.stage, policy).digest
        return stand_of(known.state, root.guard, move, key=key, policy_digest=digest)

    def get_approvals(self, name: str) -> list[Asked]:
        """Return all requests of a model with their answers, the oldest first.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        return list(self._read(name).state.asked.values())

    def _wish(
        self, name: str, version: VersionRef, stage: ModelStage | str, actor: str | None, **more: Any
    ) -> MoveRequest:
        return MoveRequest(
            name=name,
            version=version,
            stage=ModelStage.parse(stage),
            actor=actor or self.actor,
            now=clock.now(),
            **more,
        )

    def _change(self, name: str, version: VersionRef, decide: Any, actor: str | None) -> ModelVersion:
        known = self._append_existing(name, decide, actor=actor)
        return self._version(name, known, known.state.find(name, version))
