"""The verbs that move versions: one gated path to production, and the ways back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from registry.approving import Approving
from registry.errors import IllegalTransitionError
from registry.events import Annotated_, ModelEvent
from registry.log import Snapshot
from registry.metrics import ModelMetrics
from registry.plan import plan_alias, plan_move, plan_restore, plan_rollback
from registry.policy import PromotionPolicy
from registry.records import ApprovalRequest, ModelVersion, tags_of
from registry.stages import ModelStage
from registry.state import ModelState
from registry.versions import VersionRef
from registry.wishes import UNSET, Unset


class Moving(Approving):
    """The verbs that change where a version stands, or what is said of it."""

    def promote(  # noqa: PLR0913 - the public interface
        self,
        name: str,
        version: VersionRef,
        stage: ModelStage | str,
        *,
        approved_by: str | None = None,
        approval: str | ApprovalRequest | None = None,
        policy: PromotionPolicy | None = None,
        expect_current: VersionRef | Unset | None = UNSET,
        actor: str | None = None,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> ModelVersion:
        """Move a version forward, or to archived, if the registry's guard and ``policy`` allow it.

        To production, the version that held it is archived by the same event. A version that stands in ``stage``
        already is returned as it is.

        Args:
            name: The model.
            version: Number, label or alias.
            stage: Where to.
            approved_by: The name of a person who approved; recorded as asserted.
            approval: An answered request for approval, or its id.
            policy: Requirements beside the registry's own; both must hold.
            expect_current: Who must hold production now (None: nobody), else the move is refused.
            actor: Who is recorded as moving.
            reason: Why; recorded.
            idempotency_key: The same key moves once, however often the call is repeated.

        Raises:
            ModelNotFoundError, VersionNotFoundError: There is no such version.
            IllegalTransitionError: Backward, or out of archived.
            StaleExpectationError: Production is held by another than expected.
            PolicyFailed: A requirement does not hold.
            ApprovalRequired: An approval is needed and is not there, or does not fit.
        """
        wish = self._wish(
            name,
            version,
            stage,
            actor,
            policy=policy,
            approved_by=approved_by,
            approval=approval.id if isinstance(approval, ApprovalRequest) else approval,
            expect_current=expect_current,
            reason=reason,
            key=idempotency_key,
        )
        known = self._append_guarded(
            name, lambda state, root: plan_move(state, root.guard, root.guard_number, wish), actor=actor
        )
        return self._version(name, known, known.state.find(name, version))

    def transition_stage(self, name: str, version: VersionRef, stage: ModelStage | str, **same: Any) -> ModelVersion:
        """Move a version; the name that documents 000, 001 and 002 use for ``promote``."""
        return self.promote(name, version, stage, **same)

    def promote_model(
        self,
        model_name: str,
        version: VersionRef,
        target_stage: ModelStage | str,
        approved_by: str | None = None,
        **same: Any,
    ) -> ModelVersion:
        """Move a version; the name that document 004 uses for ``promote``."""
        return self.promote(model_name, version, target_stage, approved_by=approved_by, **same)

    def archive(self, name: str, version: VersionRef, *, reason: str = "", actor: str | None = None) -> ModelVersion:
        """Move a version to archived, from wherever it stands."""
        return self.promote(name, version, ModelStage.ARCHIVED, reason=reason, actor=actor)

    def restore(
        self,
        name: str,
        version: VersionRef,
        *,
        reason: str = "",
        actor: str | None = None,
        idempotency_key: str | None = None,
    ) -> ModelVersion:
        """Bring an archived version back to development; the same key does it once.

        Raises:
            IllegalTransitionError: It is not archived.
        """

        def decide(known: Snapshot[ModelState]) -> ModelEvent | None:
            return plan_restore(known.state, name, version, reason=reason, key=idempotency_key)

        return self._change(name, version, decide, actor)

    def rollback(  # noqa: PLR0913 - the public interface
        self,
        name: str,
        version: VersionRef | None = None,
        *,
        endpoint_name: str | None = None,
        actor: str | None = None,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> ModelVersion:
        """Give production back to a version that has held it; needs no new approval, because it had one.

        Args:
            name: The model.
            version: Which one; None for the holder before this one. Going back twice goes back twice.
            endpoint_name: An endpoint that is to serve it again as well.
            actor: Who is recorded.
            reason: Why; recorded.
            idempotency_key: The same key rolls back once.

        Raises:
            IllegalTransitionError: It has never held production, or there was no holder before.
            EndpointError: The endpoint cannot serve it; then nothing was changed. Or it could not be brought up, and
                the endpoint goes on serving what it did until it is reconciled.
        """
        if endpoint_name is not None:
            before = self._read(name)
            planned = plan_rollback(before.state, name, version=version, reason=reason, key=idempotency_key)
            if planned is not None:
                self._check_servable(self._version(name, before, planned.version), endpoint_name)
        known = self._append_existing(
            name,
            lambda known: plan_rollback(known.state, name, version=version, reason=reason, key=idempotency_key),
            actor=actor,
        )
        returned_to = known.state.recall("rolled_back", idempotency_key) or known.state.production or ""
        back = self._version(name, known, returned_to)
        if endpoint_name is not None:
            self._serve_again(back, endpoint_name, reason=reason, actor=actor, key=idempotency_key)
        return back

    def find_way_back(self, name: str) -> ModelVersion | None:
        """Return the version that ``rollback`` would give production to, None where there is none."""
        known = self._read(name)
        try:
            planned = plan_rollback(known.state, name, version=None, reason="", key=None)
        except IllegalTransitionError:
            return None
        return None if planned is None else self._version(name, known, planned.version)

    def annotate(  # noqa: PLR0913 - the public interface
        self,
        name: str,
        version: VersionRef,
        *,
        description: str | None = None,
        tags: Mapping[str, str] | Iterable[str] | None = None,
        metrics: ModelMetrics | Mapping[str, float] | None = None,
        measured_on: str | None = None,
        actor: str | None = None,
        idempotency_key: str | None = None,
    ) -> ModelVersion:
        """Say or measure something of a version; what it was registered with stays in its sidecar.

        Args:
            name: The model.
            version: Number, label or alias.
            description: Replaces the words said before.
            tags: Put over those there.
            metrics: Put over those there.
            measured_on: The digest of the data that ``metrics`` were measured on.
            actor: Who is recorded.
            idempotency_key: The same key says it once.
        """

        def decide(known: Snapshot[ModelState]) -> ModelEvent | None:
            if known.state.recall("annotated", idempotency_key):
                return None
            return Annotated_(
                version=known.state.find(name, version),
                description=description,
                tags=None if tags is None else tags_of(tags),
                metrics=None if metrics is None else ModelMetrics.of(metrics),
                measured_on=measured_on,
                key=idempotency_key,
            )

        return self._change(name, version, decide, actor)

    def set_alias(  # noqa: PLR0913 - the public interface
        self,
        name: str,
        alias: str,
        version: VersionRef,
        *,
        expect: VersionRef | Unset | None = UNSET,
        actor: str | None = None,
        idempotency_key: str | None = None,
    ) -> ModelVersion:
        """Point an alias at a version; an alias is one name at a time, and the same key points it once.

        Raises:
            StaleExpectationError: It does not point at ``expect`` (None: nowhere).
        """

        def decide(known: Snapshot[ModelState]) -> ModelEvent | None:
            return plan_alias(known.state, name, alias, version, expect=expect, key=idempotency_key)

        return self._change(name, version, decide, actor)

    def delete_alias(
        self,
        name: str,
        alias: str,
        *,
        expect: VersionRef | Unset | None = UNSET,
        actor: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Take an alias away; the same key does it once.

        Raises:
            NotFoundError: There is no such alias.
            StaleExpectationError: It does not point at ``expect``.
        """

        def decide(known: Snapshot[ModelState]) -> ModelEvent | None:
            return plan_alias(known.state, name, alias, None, expect=expect, key=idempotency_key)

        self._append_existing(name, decide, actor=actor)

    def _check_servable(self, version: ModelVersion, endpoint_name: str) -> None:
        raise NotImplementedError  # pragma: no cover - the class that deploys gives it

    def _serve_again(
        self, version: ModelVersion, endpoint_name: str, *, reason: str, actor: str | None, key: str | None
    ) -> None:
        raise NotImplementedError  # pragma: no cover - the class that deploys gives it
