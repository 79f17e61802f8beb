"""The way of a model, as one flow: train, register, validate, promote, optimise, ask, promote, deploy, try."""

from __future__ import annotations

from prefect import flow, pause_flow_run
from prefect.exceptions import FlowPauseTimeout
from prefect.runtime import flow_run

from registry import ModelVersion
from registry.errors import ApprovalRequired
from tasks import steps
from tasks.approval_form import ApprovalForm
from tasks.outcome import Ending, Outcome
from tasks.pipeline import PipelineConfig, load_pipeline

ASK_AT_MOST = 20


@flow(name="lifecycle", flow_run_name="{config}", validate_parameters=False)
def lifecycle(
    config: str,
    *,
    url: str | None = None,
    version: str | None = None,
    keep_serving: bool = True,
    ask_at_most: int = ASK_AT_MOST,
) -> Outcome:
    """Bring a model from training to serving.

    Args:
        config: The path of a pipeline file.
        url: The registry, instead of the one that the file names.
        version: Take this registered version on its way instead of training a new one.
        keep_serving: Leave the endpoint running when all is done.
        ask_at_most: How often a person may be asked: again after an answer that was not taken; 0 when nobody can.

    Returns:
        How it ended. A policy that does not hold and a person who says no are endings, not errors.

    Raises:
        InvalidPipelineError: The file cannot be run; names its line.
        ModelwayError: A step failed; what was done until then stands in the registry.
    """
    pipeline = load_pipeline(config)
    url = url or pipeline.registry.url
    steps.prepare(url, pipeline)
    candidate = _trained(url, pipeline) if version is None else steps.find(url, pipeline, version)
    result = steps.validate(url, pipeline, candidate, key=_key("validate"))
    if not result.passed:
        listed = "\n".join(f"  - {failure}" for failure in result.failures)
        return _ended(
            "policy_failed", url, candidate, f"it does not meet the policy and stays in {candidate.stage}:\n{listed}"
        )
    candidate = steps.promote_to_staging(url, pipeline, candidate, key=_key("staging"))
    steps.optimize(url, pipeline, candidate)
    ending = _into_production(url, pipeline, candidate, ask_at_most)
    if ending is not None:
        return ending
    endpoint = steps.deploy(url, pipeline, candidate, key=_key("deploy"))
    trial = steps.try_out(pipeline, endpoint)
    if not keep_serving:
        steps.stop(url, endpoint)
    ended = _ended("deployed", url, candidate, f"it is in production and answered {trial.samples} requests")
    return ended.model_copy(
        update={"endpoint": endpoint.name, "endpoint_url": endpoint.url if keep_serving else None, "trial": trial}
    )


def _trained(url: str, pipeline: PipelineConfig) -> ModelVersion:
    model = steps.train(pipeline)
    registered: ModelVersion = steps.register(url, pipeline, model, key=_key("register"))
    return registered


def _into_production(url: str, pipeline: PipelineConfig, candidate: ModelVersion, ask_at_most: int) -> Outcome | None:
    """Promote, asking a person where the pipeline or the registry wants one; None when it is in production."""
    if not steps.needs_approval(url, pipeline, candidate):
        steps.promote_to_production(url, pipeline, candidate, None, key=_key("production"))
        return None
    refused = ""
    for attempt in range(1, ask_at_most + 1):
        request, evidence = steps.ask(url, pipeline, candidate, refused=refused, key=_key(f"ask-{attempt}"))
        try:
            form = pause_flow_run(
                wait_for_input=ApprovalForm.with_initial_data(description=evidence),
                key=f"approval-{request.id}",  # two waits with one key would share one answer
                timeout=int(pipeline.approval.timeout_s),
                poll_interval=1,
            )
            answer = steps.record_answer(
                url, request, decision=form.decision, approver=form.approver, reason=form.reason
            )
            if answer.decision == "reject":
                words = f"{answer.approver} said no: {answer.reason}. It stays in staging."
                return _ended("rejected", url, candidate, words)
            steps.promote_to_production(url, pipeline, candidate, request.id, key=_key(f"production-{attempt}"))
        except ApprovalRequired as error:
            refused = str(error)
        except FlowPauseTimeout:
            refused = f"Nobody answered within {pipeline.approval.timeout_s:g} s."
            break
        else:
            return None
    words = refused or "There was nobody to ask."
    return _ended("approval_pending", url, candidate, f"{words} It waits in staging.")


def _key(step: str) -> str:
    """Return the idempotency key of a step of this run."""
    return f"{flow_run.get_id()}:{step}"


def _ended(ending: Ending, url: str, candidate: ModelVersion, words: str) -> Outcome:
    return Outcome(ending=ending, model=candidate.name, version=candidate.version, url=url, words=words)
