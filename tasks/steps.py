"""The lifecycle's steps as Prefect tasks: each is one call on the registry, and safe to run again.

None is cached by Prefect, and none is retried: a step that runs again, in a resumed or in another run, finds its own
event in the registry by its idempotency key, and what fails here (a refusal, a wrong byte) would fail again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from registry import ApprovalRequest, Endpoint, ModelRegistry, ModelVersion, PolicyResult
from registry.records import Approval, EngineChoice
from registry.stages import ModelStage
from tasks import user_code
from tasks.evidence import evidence
from tasks.judging import judge, score_on
from tasks.model import Model
from tasks.outcome import Trial
from tasks.pipeline import PipelineConfig
from tasks.telling import tell
from tasks.training import run_trainer
from tasks.trial import try_endpoint

_step: Callable[..., Any] = task(cache_policy=NO_CACHE, persist_result=False)


@_step
def prepare(url: str, pipeline: PipelineConfig) -> None:
    """Set the registry's guard from the pipeline, if it never had one; one that is there stays as it is."""
    registry = ModelRegistry(url)
    if pipeline.registry.guard is not None:
        guard = registry.set_guard(pipeline.registry.guard.to_guard(), only_if_unset=True)
        needs = ", ".join(guard.require_approval) or "nothing"
        tell("guard", f"approval needed for: {needs}; approvers: {', '.join(guard.approvers) or 'nobody'}")


@_step
def train(pipeline: PipelineConfig) -> Model:
    """Run the pipeline's trainer on its data."""
    model, seconds = run_trainer(pipeline)
    measured = (model.metrics or {}).get(pipeline.evaluation.metric)
    says = "" if measured is None else f", {pipeline.evaluation.metric} {measured:.4f} by its own account"
    tell("train", f"{pipeline.trainer.entry_point} in {seconds:.1f} s{says}")
    return model


@_step
def register(url: str, pipeline: PipelineConfig, model: Model, *, key: str) -> ModelVersion:
    """Register what was trained."""
    described = replace(model, tags=model.tags or pipeline.tags, description=model.description or pipeline.description)
    version = described.register_in(ModelRegistry(url), idempotency_key=key)
    size = version.artifact.size_bytes if version.artifact else 0
    tell("register", f"{version.full_name}, {size / 1024:.0f} KiB, {version.artifact and version.artifact.digest[:19]}")
    return version


@_step
def find(url: str, pipeline: PipelineConfig, version: str) -> ModelVersion:
    """Look up a version that is registered already."""
    found = ModelRegistry(url).get_version(pipeline.name, version)
    tell("register", f"{found.full_name} is registered and in {found.stage}")
    return found


@_step
def validate(url: str, pipeline: PipelineConfig, version: ModelVersion, *, key: str) -> PolicyResult:
    """Measure the registered bytes on the test data and hold the policy against them and the incumbent."""
    registry = ModelRegistry(url)
    judged, result = judge(registry, pipeline, version, key=key)
    metric, incumbent = pipeline.evaluation.metric, registry.get_production_model(version.name)
    beside = "" if incumbent is None else f" (incumbent {incumbent.version}: {_shown(incumbent, metric)})"
    verdict = "passed" if result.passed else "failed"
    tell("validate", f"{metric} {_shown(judged, metric)} on the test data{beside}; policy {verdict}")
    return result


def _shown(version: ModelVersion, metric: str) -> str:
    value = version.metrics.get(metric)
    return "missing" if value is None else f"{value:.4f}"


@_step
def promote_to_staging(url: str, pipeline: PipelineConfig, version: ModelVersion, *, key: str) -> ModelVersion:
    """Move the version to staging, unless it is there or further."""
    registry = ModelRegistry(url)
    stands = registry.get_version(version.name, version.version)
    if stands.stage in {ModelStage.STAGING, ModelStage.PRODUCTION}:
        return stands
    moved = registry.promote(
        version.name, version.version, ModelStage.STAGING, policy=pipeline.policy, idempotency_key=key
    )
    tell("staging", f"{moved.full_name} is in staging")
    return moved


@_step
def optimize(url: str, pipeline: PipelineConfig, version: ModelVersion) -> EngineChoice:
    """Build engines from the version, check them on the validation data, and choose one."""
    registry, validation = ModelRegistry(url), user_code.load_splits(pipeline.data).validation
    registry.optimize(
        version.name,
        version.version,
        spec=pipeline.optimize,
        samples=validation.inputs,
        score=score_on(pipeline, validation),
        report=lambda line: tell("optimise", line),
    )
    return registry.get_choice(version.name, version.version)


@_step
def needs_approval(url: str, pipeline: PipelineConfig, version: ModelVersion) -> bool:
    """Return whether a person must say yes: the pipeline or the registry wants it, and it is not in production."""
    registry = ModelRegistry(url)
    if registry.get_version(version.name, version.version).stage is ModelStage.PRODUCTION:
        return False
    return pipeline.approval.required or ModelStage.PRODUCTION in registry.guard.require_approval


@_step
def ask(
    url: str, pipeline: PipelineConfig, version: ModelVersion, *, refused: str, key: str
) -> tuple[ApprovalRequest, str]:
    """Ask for an approval to go to production; return the request and its evidence as Markdown."""
    registry = ModelRegistry(url)
    request = registry.request_approval(
        version.name,
        version.version,
        ModelStage.PRODUCTION,
        policy=pipeline.policy,
        expires_in=timedelta(hours=pipeline.approval.expires_in_hours),
        idempotency_key=key,
    )
    result = registry.check_promotion_policy(version.name, version.version, pipeline.policy)
    tell("approval", f"{version.full_name} waits for a person to say yes (request {request.id})")
    return request, evidence(registry, request, result, refused=refused)


@_step
def record_answer(
    url: str, request: ApprovalRequest, *, decision: Literal["approve", "reject"], approver: str, reason: str
) -> Approval:
    """Write a person's answer into the registry's log."""
    asked = ModelRegistry(url).answer_approval(
        request.model, request.id, decision, approver=approver, reason=reason, method="form"
    )
    tell("approval", f"{approver}: {decision} ({reason})")
    return next(answer for answer in asked.answers if answer.approver == approver)


@_step
def promote_to_production(
    url: str, pipeline: PipelineConfig, version: ModelVersion, approval: str | None, *, key: str
) -> ModelVersion:
    """Move the version to production; the one that held it is archived by the same event."""
    registry = ModelRegistry(url)
    before = registry.get_production_model(version.name)
    moved = registry.promote(
        version.name,
        version.version,
        ModelStage.PRODUCTION,
        policy=pipeline.policy,
        approval=approval,
        idempotency_key=key,
    )
    replaced = f", {before.version} is archived" if before is not None and before.version != moved.version else ""
    tell("production", f"{moved.full_name} is in production{replaced}")
    return moved


@_step
def deploy(url: str, pipeline: PipelineConfig, version: ModelVersion, *, key: str) -> Endpoint:
    """Serve the version at the pipeline's endpoint, checked by its golden samples."""
    deployed = (
        ModelRegistry(url)
        .deploy_model(
            version.name,
            version.version,
            endpoint_name=pipeline.deploy.endpoint_name,
            target=pipeline.deploy.target,
            why="lifecycle",
            idempotency_key=key,
        )
        .endpoint
    )
    golden = deployed.observed.golden if deployed.observed else None
    checked = f"{golden.samples} golden samples agree" if golden else "no golden samples to compare"
    tell("deploy", f"{version.full_name} at {deployed.url}; {checked}")
    return deployed


@_step
def try_out(pipeline: PipelineConfig, endpoint: Endpoint) -> Trial:
    """Send every test sample through the endpoint over HTTP."""
    trial, metric = try_endpoint(pipeline, endpoint), pipeline.evaluation.metric
    times = f"p50 {trial.p50_ms:.2f} ms, p99 {trial.p99_ms:.2f} ms"
    tell("try", f"{trial.samples} test samples over HTTP: {metric} {trial.metrics[metric]:.4f}; {times}")
    return trial


@_step
def stop(url: str, endpoint: Endpoint) -> None:
    """Stop the endpoint."""
    ModelRegistry(url).stop_endpoint(endpoint.name, reason="the run that started it was not asked to keep it")
    tell("stop", f"{endpoint.name} is stopped; --keep-serving would have left it running")
