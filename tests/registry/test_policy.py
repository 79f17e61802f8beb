"""What a policy lets through: thresholds that hold, and no falling behind the version in production."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import pytest
from pydantic import ValidationError

from registry import (
    Comparison,
    Guard,
    IncumbentRule,
    MetricRequirement,
    ModelRegistry,
    ModelStage,
    ModelStore,
    PromotionPolicy,
)
from registry.errors import PolicyFailed

NothingChanges: TypeAlias = Callable[[], AbstractContextManager[None]]

ACCURATE = PromotionPolicy().require_metric(MetricRequirement("accuracy", comparison=Comparison.Gte, threshold=0.9))
NO_WORSE = PromotionPolicy().not_worse_than_incumbent(IncumbentRule(metric="accuracy", may_drop=0.01))


@pytest.mark.parametrize(
    ("comparison", "value", "holds"),
    [
        ("gte", 0.9, True), ("gte", 0.8999, False), ("gt", 0.9, False), ("gt", 0.91, True),
        ("lte", 0.9, True), ("lte", 0.91, False), ("lt", 0.9, False), ("lt", 0.89, True),
        ("eq", 0.9, True), ("eq", 0.91, False),
    ],
)  # fmt: skip
def test_a_threshold_is_met_as_its_sign_says(
    models: ModelRegistry,
    comparison: str,
    value: float,
    holds: bool,  # noqa: FBT001 - an expected value
) -> None:
    models.register("digits", metrics={"accuracy": value})
    policy = PromotionPolicy().require_metric(
        MetricRequirement("accuracy", comparison=Comparison(comparison), threshold=0.9)
    )

    result = models.check_promotion_policy("digits", 1, policy)

    assert (result.passed, bool(result), len(result.failures)) == (holds, holds, 0 if holds else 1)
    assert result.policy_digest == policy.digest


@pytest.mark.parametrize("accuracy", [{}, {"accuracy": math.nan}])
def test_a_metric_that_is_missing_or_nan_fails(
    models: ModelRegistry, nothing_changes: NothingChanges, accuracy: dict[str, float]
) -> None:
    models.register("digits", metrics={"mse": 0.5, **accuracy})

    with (
        nothing_changes(),
        pytest.raises(PolicyFailed, match=r"accuracy >= 0.9 is required, and accuracy is missing \(measured: mse\)"),
    ):
        models.promote("digits", 1, "staging", policy=ACCURATE)


def test_every_failure_is_told_and_nothing_changes(models: ModelRegistry, nothing_changes: NothingChanges) -> None:
    models.register("digits", metrics={"accuracy": 0.5, "latency_ms": 40.0})
    policy = ACCURATE.require_metric(MetricRequirement("latency_ms", comparison=Comparison.LTE, threshold=10.0))

    with nothing_changes(), pytest.raises(PolicyFailed, match="nothing was changed") as caught:
        models.promote("digits", 1, "production", policy=policy)

    assert caught.value.failures == (
        "accuracy >= 0.9 is required, found 0.5",
        "latency_ms <= 10 is required, found 40",
    )
    assert caught.value.exit_code == 3


def test_a_first_version_has_no_incumbent_to_fall_behind(models: ModelRegistry) -> None:
    models.register("digits", metrics={"accuracy": 0.1})

    assert models.promote("digits", 1, "production", policy=NO_WORSE).stage is ModelStage.PRODUCTION


@pytest.mark.parametrize(
    ("direction", "incumbent", "candidate", "passes"),
    [
        ("higher", 0.95, 0.94, True),
        ("higher", 0.95, 0.93, False),
        ("higher", 0.95, 0.99, True),
        ("lower", 0.5, 0.51, True),
        ("lower", 0.5, 0.52, False),
        ("lower", 0.5, 0.1, True),
    ],
)
def test_a_version_may_fall_behind_the_incumbent_only_so_far_in_the_direction_that_counts(
    models: ModelRegistry,
    direction: str,
    incumbent: float,
    candidate: float,
    passes: bool,  # noqa: FBT001 - expected
) -> None:
    models.register("digits", metrics={"score": incumbent})
    models.promote("digits", 1, "production")
    models.register("digits", metrics={"score": candidate})
    rule = IncumbentRule.model_validate({"metric": "score", "direction": direction, "may_drop": 0.01})

    assert bool(models.check_promotion_policy("digits", 2, PromotionPolicy(against_incumbent=(rule,)))) is passes


def test_a_gain_can_be_demanded(models: ModelRegistry) -> None:
    for accuracy in (0.9, 0.905):
        models.register("digits", metrics={"accuracy": accuracy})
    models.promote("digits", 1, "production")
    gain = PromotionPolicy().not_worse_than_incumbent(IncumbentRule(metric="accuracy", may_drop=-0.01))

    result = models.check_promotion_policy("digits", 2, gain)

    assert result.failures == (
        "accuracy 0.905 is behind the incumbent digits:v1 (0.9) by -0.005, allowed -0.01 (higher is better)",
    )


@pytest.mark.parametrize(("first", "second", "who"), [({}, {"accuracy": 1.0}, "v1"), ({"accuracy": 1.0}, {}, "v2")])
def test_what_was_not_measured_on_both_cannot_be_compared(
    models: ModelRegistry, nothing_changes: NothingChanges, first: dict[str, float], second: dict[str, float], who: str
) -> None:
    models.register("digits", metrics=first)
    models.promote("digits", 1, "production")
    models.register("digits", metrics=second)

    with nothing_changes(), pytest.raises(PolicyFailed, match=f"cannot be compared .*digits:{who} has no accuracy"):
        models.promote("digits", 2, "production", policy=NO_WORSE)


def test_metrics_of_different_data_are_not_compared(models: ModelRegistry, nothing_changes: NothingChanges) -> None:
    for version in (1, 2):
        models.register("digits", metrics={"accuracy": 0.9})
        models.annotate("digits", version, metrics={"accuracy": 0.9}, measured_on=f"sha256:{version}")
    models.promote("digits", 1, "production")

    with nothing_changes(), pytest.raises(PolicyFailed, match="measured on different data; evaluate both on the same"):
        models.promote("digits", 2, "production", policy=NO_WORSE)

    models.annotate("digits", 2, metrics={"accuracy": 0.9}, measured_on="sha256:1")
    assert models.promote("digits", 2, "production", policy=NO_WORSE).stage is ModelStage.PRODUCTION


def test_the_registrys_policy_holds_beside_the_callers(
    models: ModelRegistry, store: ModelStore, nothing_changes: NothingChanges
) -> None:
    models.set_guard(Guard(policies={ModelStage.PRODUCTION: ACCURATE}))
    models.register("digits", metrics={"accuracy": 0.5, "mse": 0.1})
    lax = PromotionPolicy().require_metric(MetricRequirement("mse", comparison=Comparison.LTE, threshold=1.0))

    assert models.promote("digits", 1, "staging").stage is ModelStage.STAGING
    with nothing_changes():
        for client in (models, ModelRegistry(store=store)):
            for policy in (None, lax, PromotionPolicy()):
                with pytest.raises(PolicyFailed, match=r"accuracy >= 0.9 is required, found 0.5"):
                    client.promote("digits", 1, "production", policy=policy)


def test_a_decision_carries_the_digest_of_what_it_was_held_to(models: ModelRegistry) -> None:
    models.register("digits", metrics={"accuracy": 0.95})
    models.promote("digits", 1, "production", policy=ACCURATE)

    assert models.get_transitions("digits")[0].policy_digest == ACCURATE.digest
    assert PromotionPolicy().digest != ACCURATE.digest != NO_WORSE.digest


def test_a_policy_is_read_from_a_file_as_strictly_as_it_is_built() -> None:
    read = PromotionPolicy.model_validate(
        {"requirements": [{"name": "accuracy", "comparison": "gte", "threshold": 0.9}], "against_incumbent": []}
    )
    assert read.digest == ACCURATE.digest
    wrongs: tuple[dict[str, Any], ...] = (
        {"requirement": []},
        {"requirements": [{"name": "accuracy", "threshold": math.nan}]},
        {"requirements": [{"name": "accuracy", "threshold": "0.9"}]},
        {"against_incumbent": [{"metric": "accuracy", "direction": "up"}]},
    )
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            PromotionPolicy.model_validate(wrong)
