"""The steps at the gate: ask a person, hear the answer, promote; each stands in the log and is safe to repeat."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

from registry import ApprovalRequest, ModelRegistry, ModelVersion
from registry.approvals import Standing
from registry.errors import ApprovalRequired, InvalidInputError, StaleExpectationError
from tasks.approval_form import ApprovalForm, SignedApprovalForm
from tasks.evidence import evidence
from tasks.gate import Gate, Question
from tasks.labels import label_flow_run
from tasks.notices import of_answer, of_question
from tasks.notifying import notify
from tasks.prefect_events import emit, emit_version
from tasks.prefect_task import registry_step
from tasks.telling import tell


@registry_step
def has_passed(gate: Gate, version: ModelVersion, *, key: str) -> bool:
    """Return whether the version stands behind the gate, or this run has brought it there before."""
    registry = ModelRegistry(gate.url)
    stands = registry.get_version(version.name, version.version).stage is gate.stage
    return stands or registry.find_done(version.name, "moved", key) is not None


@registry_step
def needs_approval(gate: Gate) -> bool:
    """Return whether a person must say yes: whoever started the run wants it, or the registry does."""
    return gate.required or gate.stage in ModelRegistry(gate.url).guard.require_approval


@registry_step
def ask(gate: Gate, version: ModelVersion, *, run: str, actor: str | None = None) -> Question:
    """Return the question that is open now: that of this run's newest request, or of a new one where it has changed.

    What a request is bound to is held against what is there now, each time: artifact, policy, target, incumbent,
    expiry, and who may approve.
    """
    registry = ModelRegistry(gate.url)
    refused = ""
    for attempt in count(1):
        request = registry.request_approval(
            version.name,
            version.version,
            gate.stage,
            policy=gate.policy,
            expires_in=timedelta(hours=gate.expires_in_hours),
            actor=actor,
            idempotency_key=f"{run}:ask-{attempt}",
        )
        standing = registry.get_approval(version.name, request.id, policy=gate.policy)
        if standing.stand not in {"changed", "expired", "used"}:
            break
        refused = standing.words
    refused = _why_asked_again(standing) or refused
    guard = registry.guard
    question = Question(
        request=request,
        number=standing.heard,
        stand=standing.stand,
        words=standing.words,
        signed=gate.stage in guard.require_approval and not guard.accept_asserted,
        evidence=evidence(registry, request, guard.policy_for(gate.stage, gate.policy), refused=refused),
    )
    if question.stand == "open":
        label_flow_run(question, registry.url)
        notify(gate.notify, of_question(request, question.evidence, url=registry.url), key=question.key)
        emit("approval.pending", request.model, labels=_labels(registry, request), key=question.key)
        tell("approval", f"{version.full_name} waits for a person to say yes (request {request.id})")
    return question


def _why_asked_again(standing: Standing) -> str:
    """Return why an open request is asked once more: what was said last did not count, or is not enough."""
    refused, answers = standing.asked.refused, standing.asked.answers
    if refused and (not answers or refused[-1].at > answers[-1].decided_at):
        return refused[-1].why
    return standing.words if answers else ""


@registry_step
def hear(gate: Gate, question: Question, form: ApprovalForm | None) -> None:
    """Write a person's answer into the registry's log, or why it does not count; None is a form that was not filled."""
    registry, request = ModelRegistry(gate.url), question.request
    who = "somebody" if form is None else form.approver
    try:
        _record(registry, gate, question, form)
    except (ApprovalRequired, InvalidInputError, StaleExpectationError) as error:
        registry.refuse_answer(
            request.model,
            request.id,
            approver="" if form is None else form.approver,
            why=str(error),
            number=question.number,
        )
        tell("approval", f"the answer of {who} was not taken: {error}")


def _record(registry: ModelRegistry, gate: Gate, question: Question, form: ApprovalForm | None) -> None:
    if form is None:
        raise InvalidInputError("the run was resumed without an answer: every field of the form is needed.")
    request = question.request
    asked = registry.answer_approval(
        request.model,
        request.id,
        form.decision,
        approver=form.approver,
        reason=form.reason,
        method="form",
        signature=form.signature if isinstance(form, SignedApprovalForm) else None,
        number=question.number,
    )
    tell("approval", f"{form.approver}: {form.decision} ({form.reason})")
    notify(gate.notify, of_answer(request, asked.answers[-1], url=registry.url), key=question.key)
    emit("approval.decided", request.model, labels=_labels(registry, request), key=question.key)


def _labels(registry: ModelRegistry, request: ApprovalRequest) -> dict[str, str]:
    return {"version": request.version, "stage": request.stage.value, "registry": registry.url, "request": request.id}


@registry_step
def promote(gate: Gate, version: ModelVersion, approval: str | None, *, key: str) -> ModelVersion:
    """Move the version behind the gate; the one that held production is archived by the same event."""
    registry = ModelRegistry(gate.url)
    before = registry.get_production_model(version.name)
    moved = registry.promote(
        version.name, version.version, gate.stage, policy=gate.policy, approval=approval, idempotency_key=key
    )
    replaced = f", {before.version} is archived" if before is not None and before.version != moved.version else ""
    tell(gate.stage.value, f"{moved.full_name} is in {gate.stage}{replaced}")
    emit_version("version.promoted", registry, moved, key=key)
    return moved
