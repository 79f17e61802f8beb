"""Measure a registered version on data: loaded from the registry, so that what is judged is what would serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry import ModelRegistry, ModelVersion, PolicyResult
from tasks import user_code

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.data import Split
    from tasks.pipeline import PipelineConfig


def score_of(pipeline: PipelineConfig, outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the pipeline's own metric for outputs, shape (n, ...), and what is right for each."""
    return user_code.evaluate(pipeline.evaluation, outputs, labels)[pipeline.evaluation.metric]


def evaluate(
    registry: ModelRegistry, pipeline: PipelineConfig, version: ModelVersion, split: Split, *, key: str
) -> ModelVersion:
    """Measure a registered version on ``split`` and record what was found, with the digest of the data.

    Args:
        registry: Where the version is.
        pipeline: Says how to measure.
        version: What to measure; loaded from the registry, verified.
        split: The data.
        key: The idempotency key of the recording; what it has recorded is not measured again.

    Raises:
        IntegrityError: Its bytes are not what was registered.
        EngineError: It is nothing that can be called on an array.
    """
    if (done := registry.find_done(version.name, "annotated", key)) is not None:
        return done
    from registry.frameworks.predict import predictor_of

    predict = predictor_of(registry.load(version.name, version.version), version.full_name)
    found = user_code.evaluate(pipeline.evaluation, predict(split.inputs), split.labels)
    return registry.annotate(
        version.name, version.version, metrics=found, measured_on=split.digest, idempotency_key=key
    )


def judge(
    registry: ModelRegistry, pipeline: PipelineConfig, version: ModelVersion, *, key: str
) -> tuple[ModelVersion, PolicyResult]:
    """Measure a version, and the incumbent where it was last measured on other data, and hold the policy against both.

    Args:
        registry: Where they are.
        pipeline: Says how to measure, on what, and what must hold.
        version: The candidate.
        key: The idempotency key that the recordings' keys are made of.

    Returns:
        The version with its new metrics, and what the policy says of it.
    """
    test = user_code.load_splits(pipeline.data).test
    judged = evaluate(registry, pipeline, version, test, key=f"{key}:{version.version}")
    incumbent = registry.get_production_model(version.name)
    if incumbent is not None and incumbent.version != version.version and not _measured_on(incumbent, test):
        evaluate(registry, pipeline, incumbent, test, key=f"{key}:{incumbent.version}")
    return judged, registry.check_promotion_policy(version.name, version.version, pipeline.policy)


def _measured_on(version: ModelVersion, split: Split) -> bool:
    return split.digest in version.measured_on.values()
