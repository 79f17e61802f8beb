"""Through the gate: ask until somebody has said yes or no, then promote; the registry's log decides what is open."""

from __future__ import annotations

import contextlib
from typing import Any, cast

from prefect import pause_flow_run, suspend_flow_run
from prefect.exceptions import FlowPauseTimeout, ObjectNotFound, Pause, PrefectHTTPStatusError
from prefect.runtime import deployment
from pydantic import ValidationError

from registry import ModelRegistry, ModelVersion
from registry.errors import ApprovalRequired, PolicyFailed
from registry.records import RunEnding
from tasks import gate_steps
from tasks.approval_form import ApprovalForm, SignedApprovalForm
from tasks.gate import Gate, Question
from tasks.outcome import Outcome

ASK_AT_MOST = 20


def pass_gate(gate: Gate, version: ModelVersion, *, run: str, ask_at_most: int, actor: str | None) -> Outcome | None:
    """Bring a version through the gate; None when it stands behind it, else how that ended.

    A run that is resumed comes here again from the top. What was asked, answered and refused stands in the registry's
    log, so that the question which is open now, and its key, are the same as before, and nothing is asked twice.

    Args:
        gate: What it must pass.
        version: The candidate.
        run: The run's id, which keys are made of.
        ask_at_most: How often a person may be asked while this process lives; 0 when nobody can be.
        actor: Who is recorded as asking.
    """
    key = f"{run}:{gate.stage}"
    if gate_steps.has_passed(gate, version, key=key):
        return None
    if not gate_steps.needs_approval(gate):
        return _promoted(gate, version, None, key=key)
    asked = 0
    while True:
        question = gate_steps.ask(gate, version, run=run, actor=actor)
        if question.stand == "rejected":
            return _stays(gate, version, "rejected", f"{question.words} It stays in")
        if question.stand == "granted":
            with contextlib.suppress(ApprovalRequired):  # something changed in between: the next question says what
                return _promoted(gate, version, question.request.id, key=key)
            continue
        if asked >= ask_at_most:
            words = question.words if asked or question.number else "There was nobody to ask."
            return _stays(gate, version, "approval_pending", f"{words} It waits in")
        try:
            form = _answer(gate, question)
        except FlowPauseTimeout:
            words = f"Nobody answered within {gate.timeout_s:g} s. It waits in"
            return _stays(gate, version, "approval_pending", words)
        asked += 1
        gate_steps.hear(gate, question, form)


def _promoted(gate: Gate, version: ModelVersion, approval: str | None, *, key: str) -> Outcome | None:
    try:
        gate_steps.promote(gate, version, approval, key=key)
    except PolicyFailed as error:
        return Outcome.of("policy_failed", gate.url, version, str(error))
    return None


def _answer(gate: Gate, question: Question) -> ApprovalForm | None:
    """Wait for the form; None when the run goes on without one, which no person at the form can bring about."""
    kind = SignedApprovalForm if question.signed else ApprovalForm
    form = kind.with_initial_data(description=question.evidence)
    try:
        if deployment.id is not None:  # the process ends here, and a worker begins again from the top
            return suspend_flow_run(wait_for_input=form, key=question.key)
        return pause_flow_run(wait_for_input=form, key=question.key, timeout=int(gate.timeout_s), poll_interval=1)
    except Pause as error:
        # Where the server's word of the suspension was lost, Prefect asks once more, is told that the run is paused,
        # and ends before it has saved the form: nobody could answer. A form that is there is not written again (409).
        keys = None if error.state is None else error.state.state_details.run_input_keyset
        if keys is not None:
            with contextlib.suppress(PrefectHTTPStatusError):
                form.save(cast("Any", keys))  # a plain dict in the state, and a typed one here
        raise
    except (ObjectNotFound, ValidationError):
        return None


def _stays(gate: Gate, version: ModelVersion, ending: RunEnding, words: str) -> Outcome:
    """Return how it ended; ``words`` go on with the stage that the version is left in."""
    stage = ModelRegistry(gate.url).get_version(version.name, version.version).stage
    return Outcome.of(ending, gate.url, version, f"{words} {stage}.")
