"""The lifecycle's steps as Prefect tasks: each is one call on the registry, and safe to run again.

A step that runs again, in a resumed or in another flow run, finds its own event in the registry by its idempotency
key, made of the run's id and the step's name, and returns what it did.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from registry import Endpoint, ModelRegistry, ModelVersion, PolicyResult, PromotionPolicy
from registry.progress import listen
from registry.records import EngineChoice
from registry.reports import GcReport
from registry.stages import ModelStage
from tasks import user_code
from tasks.judging import judge, score_of
from tasks.model import Model
from tasks.outcome import Trial
from tasks.pipeline import DeploySettings, PipelineConfig
from tasks.prefect_events import emit_version
from tasks.prefect_task import registry_step
from tasks.progress_artifacts import PrefectProgress
from tasks.publishing import publish_engines, publish_evaluation
from tasks.telling import tell
from tasks.training import run_trainer
from tasks.trial import try_endpoint


@registry_step
def prepare(url: str, pipeline: PipelineConfig) -> None:
    """Set the registry's guard from the pipeline, if it never had one; one that is there stays as it is."""
    registry = ModelRegistry(url)
    if pipeline.registry.guard is not None:
        guard = registry.set_guard(pipeline.registry.guard.to_guard(), only_if_unset=True)
        needs = ", ".join(guard.require_approval) or "nothing"
        tell("guard", f"approval needed for: {needs}; approvers: {', '.join(guard.approvers) or 'nobody'}")


@registry_step
def find_registered(url: str, pipeline: PipelineConfig, *, key: str) -> ModelVersion | None:
    """Look for the version that this run has registered already; then nothing is trained again."""
    found = ModelRegistry(url).find_done(pipeline.name, "reserved", key)
    if found is not None:
        tell("register", f"{found.full_name} is registered by this run already")
    return found


@registry_step
def train(pipeline: PipelineConfig) -> Model:
    """Run the pipeline's trainer on its data."""
    with listen(PrefectProgress()):
        model, seconds = run_trainer(pipeline)
    measured = (model.metrics or {}).get(pipeline.evaluation.metric)
    says = "" if measured is None else f", {pipeline.evaluation.metric} {measured:.4f} by its own account"
    tell("train", f"{pipeline.trainer.entry_point} in {seconds:.1f} s{says}")
    return model


@registry_step
def register(url: str, pipeline: PipelineConfig, model: Model, *, key: str) -> ModelVersion:
    """Register what was trained."""
    described = replace(model, tags=model.tags or pipeline.tags, description=model.description or pipeline.description)
    registry = ModelRegistry(url)
    with listen(PrefectProgress()):
        version = described.register_in(registry, idempotency_key=key)
    size = version.artifact.size_bytes if version.artifact else 0
    tell("register", f"{version.full_name}, {size / 1024:.0f} KiB, {version.artifact and version.artifact.digest[:19]}")
    emit_version("version.registered", registry, version, key=key)
    return version


@registry_step
def find(url: str, name: str, version: str) -> ModelVersion:
    """Look up a version that is registered already."""
    found = ModelRegistry(url).get_version(name, version)
    tell("register", f"{found.full_name} is registered and in {found.stage}")
    return found


@registry_step
def validate(url: str, pipeline: PipelineConfig, version: ModelVersion, *, key: str) -> PolicyResult:
    """Measure the registered bytes on the test data and hold the policy against them and the incumbent."""
    registry = ModelRegistry(url)
    judged, result = judge(registry, pipeline, version, key=key)
    metric, incumbent = pipeline.evaluation.metric, registry.get_production_model(version.name)
    beside = "" if incumbent is None else f" (incumbent {incumbent.version}: {_shown(incumbent, metric)})"
    verdict = "passed" if result.passed else "failed"
    publish_evaluation(registry, judged, result)
    tell("validate", f"{metric} {_shown(judged, metric)} on the test data{beside}; policy {verdict}")
    return result


@registry_step
def better_than_incumbent(url: str, pipeline: PipelineConfig, version: ModelVersion) -> PolicyResult:
    """Hold the new version against the one in production, measured on the same data by ``validate``."""
    registry, rule = ModelRegistry(url), pipeline.retraining.rule(pipeline.evaluation)
    result = registry.check_promotion_policy(version.name, version.version, PromotionPolicy(against_incumbent=(rule,)))
    words = "better" if result.passed else "not better"
    tell("compare", f"{version.full_name} is {words} by {-rule.may_drop:g} {rule.metric} than what is in production")
    return result


def _shown(version: ModelVersion, metric: str) -> str:
    value = version.metrics.get(metric)
    return "missing" if value is None else f"{value:.4f}"


@registry_step
def promote_to_staging(url: str, policy: PromotionPolicy, version: ModelVersion, *, key: str) -> ModelVersion:
    """Move the version to staging, unless it is there or further."""
    registry = ModelRegistry(url)
    stands = registry.get_version(version.name, version.version)
    if stands.stage in {ModelStage.STAGING, ModelStage.PRODUCTION}:
        return stands
    moved = registry.promote(version.name, version.version, ModelStage.STAGING, policy=policy, idempotency_key=key)
    tell("staging", f"{moved.full_name} is in staging")
    emit_version("version.promoted", registry, moved, key=key)
    return moved


@registry_step
def optimize(url: str, pipeline: PipelineConfig, version: ModelVersion, *, key: str) -> EngineChoice:
    """Build engines from the version, check them on the validation data, and choose one."""
    registry = ModelRegistry(url)
    if registry.find_done(version.name, "variant_chosen", key) is not None:
        return registry.get_choice(version.name, version.version)
    splits = user_code.load_splits(pipeline.data)
    with listen(PrefectProgress()):
        registry.optimize(
            version.name,
            version.version,
            spec=pipeline.optimize,
            samples=splits.validation.inputs,
            labels=splits.validation.labels,
            score=partial(score_of, pipeline),
            # What the ranges of int8 come from must not be what they are judged on.
            calibration=splits.train.inputs,
            report=lambda line: tell("optimise", line),
            idempotency_key=key,
        )
    publish_engines(registry, version)
    return registry.get_choice(version.name, version.version)


@registry_step
def deploy(url: str, version: ModelVersion, wanted: DeploySettings, *, why: str, key: str) -> Endpoint:
    """Serve the version at an endpoint, checked by its golden samples."""
    registry = ModelRegistry(url)
    served = registry.deploy_model(
        version.name,
        version.version,
        endpoint_name=wanted.endpoint_name,
        target=wanted.place,
        why=why,
        idempotency_key=key,
        # Minutes lie between the steps of other targets, and moments between those of a local one.
        report=lambda step: None if wanted.target == "local" else tell("deploy", f"{step}: {step.words}"),
    )
    deployed = served.endpoint
    golden = deployed.observed.golden if deployed.observed else None
    checked = f"{golden.samples} golden samples agree" if golden else "no golden samples to compare"
    tell("deploy", f"{version.full_name} at {deployed.url}; {checked}")
    emit_version("endpoint.deployed", registry, version, key=key)
    return deployed


@registry_step
def endpoint_of(url: str, name: str) -> Endpoint:
    """Return an endpoint as it stands."""
    return ModelRegistry(url).get_endpoint(name)


@registry_step
def try_out(pipeline: PipelineConfig, endpoint: Endpoint) -> Trial:
    """Send every test sample through the endpoint over HTTP."""
    trial, metric = try_endpoint(pipeline, endpoint), pipeline.evaluation.metric
    times = f"p50 {trial.p50_ms:.2f} ms, p99 {trial.p99_ms:.2f} ms"
    tell("try", f"{trial.samples} test samples over HTTP: {metric} {trial.metrics[metric]:.4f}; {times}")
    return trial


@registry_step
def stop(url: str, endpoint: Endpoint) -> None:
    """Stop the endpoint."""
    ModelRegistry(url).stop_endpoint(endpoint.name, reason="the run that started it was not asked to keep it")
    tell("stop", f"{endpoint.name} is stopped; --keep-serving would have left it running")


@registry_step
def roll_back(url: str, name: str, version: str | None, **how: Any) -> ModelVersion:
    """Give production back to a version that has held it, and have an endpoint serve it again."""
    registry = ModelRegistry(url)
    back = registry.rollback(name, version, **how)
    tell("rollback", f"{back.full_name} is in production again")
    emit_version("version.rolled-back", registry, back, key=str(how["idempotency_key"]))
    return back


@registry_step
def collect(url: str, *, apply: bool, grace_hours: float) -> GcReport:
    """List, or remove, what nothing refers to."""
    report = ModelRegistry(url).gc(dry_run=not apply, grace=timedelta(hours=grace_hours))
    done = "removed" if apply else "would be removed"
    tell("gc", f"{len(report.removed) + len(report.temporary)} files {done}, {len(report.kept)} kept for now")
    return report
