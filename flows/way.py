"""The parts of the way that several flows go: train and register, judge, optimise and pass the gate, serve."""

from __future__ import annotations

from flows.canary import by_steps
from flows.gate import pass_gate
from registry import Endpoint, ModelVersion
from registry.records import Run
from tasks import canarying, steps
from tasks.gate import Gate
from tasks.outcome import Outcome
from tasks.pipeline import DeploySettings, PipelineConfig


def trained(url: str, pipeline: PipelineConfig, run: Run) -> ModelVersion:
    """Return the version that this run trains and registers; a run that has registered one trains no other."""
    key = f"{run.id}:register"
    version: ModelVersion | None = steps.find_registered(url, pipeline, key=key)
    return version or steps.register(url, pipeline, steps.train(pipeline), key=key)


def judged(url: str, pipeline: PipelineConfig, version: ModelVersion, run: Run) -> Outcome | None:
    """Measure the version and hold the policy against it; None when it passed."""
    result = steps.validate(url, pipeline, version, key=f"{run.id}:validate")
    if result.passed:
        return None
    words = f"it does not meet the policy and stays in {version.stage}:\n{listed(result.failures)}"
    return Outcome.of("policy_failed", url, version, words)


def to_serving(  # noqa: PLR0913 - what the way is made of
    url: str,
    pipeline: PipelineConfig,
    version: ModelVersion,
    run: Run,
    *,
    keep_serving: bool,
    ask_at_most: int,
    actor: str | None,
) -> Outcome:
    """Bring a version that was judged to staging, optimise it, pass the gate to production, serve it and try it."""
    steps.promote_to_staging(url, pipeline.policy, version, key=f"{run.id}:staging")
    steps.optimize(url, pipeline, version, key=f"{run.id}:optimize")
    gate = Gate(
        url=url,
        model=pipeline.name,
        policy=pipeline.policy,
        required=pipeline.approval.required,
        expires_in_hours=pipeline.approval.expires_in_hours,
        timeout_s=pipeline.approval.timeout_s,
        notify=pipeline.notify,
    )
    stopped = pass_gate(gate, version, run=run.id, ask_at_most=ask_at_most, actor=actor)
    if stopped is not None:
        return stopped
    served = serve(url, version, pipeline.deploy, run)
    if isinstance(served, Outcome):
        return served
    endpoint = served
    trial = steps.try_out(pipeline, endpoint)
    if not keep_serving:
        steps.stop(url, endpoint)
    deployed = Outcome.of("deployed", url, version, f"it is in production and answered {trial.samples} requests")
    return deployed.model_copy(
        update={"endpoint": endpoint.name, "endpoint_url": endpoint.url if keep_serving else None, "trial": trial}
    )


def serve(url: str, version: ModelVersion, wanted: DeploySettings, run: Run) -> Endpoint | Outcome:
    """Serve the version, by the steps of a canary where another one serves; how it ended if it was taken back."""
    if wanted.canary is not None and canarying.serves_another(url, version, wanted.endpoint_name):
        outcome = by_steps(url, version, wanted.endpoint_name, wanted.canary, run)
        if outcome.ending != "deployed":
            return outcome
        found: Endpoint = steps.endpoint_of(url, wanted.endpoint_name)
        return found
    endpoint: Endpoint = steps.deploy(url, version, wanted, why=f"{run.kind} {run.id}", key=f"{run.id}:deploy")
    return endpoint


def listed(failures: tuple[str, ...]) -> str:
    """Return sentences as lines of a list."""
    return "\n".join(f"  - {failure}" for failure in failures)
