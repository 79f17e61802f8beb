"""What must hold before a move: thresholds, and no regression against the version in production; pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field, field_validator

from registry.base import Record, as_tuple
from registry.encoding import canonical_json, digest_of


class Comparison(StrEnum):
    """How a metric is held against its threshold; the names of document 002 (``Gte``) are aliases."""

    GTE = "gte"
    GT = "gt"
    LTE = "lte"
    LT = "lt"
    EQ = "eq"
    Gte = GTE
    Gt = GT
    Lte = LTE
    Lt = LT
    Eq = EQ

    @property
    def sign(self) -> str:
        """The comparison as people write it."""
        return {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<", "eq": "=="}[self.value]

    def holds(self, value: float, threshold: float) -> bool:
        """Return whether ``value`` stands in this relation to ``threshold``."""
        return _HOLDS[self](value, threshold)


_HOLDS: dict[Comparison, Callable[[float, float], bool]] = {
    Comparison.GTE: operator.ge,
    Comparison.GT: operator.gt,
    Comparison.LTE: operator.le,
    Comparison.LT: operator.lt,
    Comparison.EQ: operator.eq,
}


class MetricRequirement(Record):
    """A metric and the threshold that it must meet."""

    name: str
    comparison: Comparison = Field(default=Comparison.GTE, strict=False)
    threshold: float

    def __init__(self, name: str | None = None, **fields: Any) -> None:
        """Take the metric's name as first argument too, as document 002 writes it."""
        super().__init__(**({"name": name} if name is not None else {}), **fields)


class IncumbentRule(Record):
    """A metric that must not fall behind the version in production by more than ``may_drop``.

    ``direction`` says which way is better. ``may_drop`` is in the metric's own unit; a negative one demands a gain.
    """

    metric: str
    direction: Literal["higher", "lower"] = "higher"
    may_drop: float = 0.0


class PolicyResult(Record):
    """What a policy found; ``failures`` holds one sentence for each requirement that does not hold."""

    passed: bool
    failures: tuple[str, ...] = ()
    policy_digest: str

    def __bool__(self) -> bool:
        """Return whether the policy passed."""
        return self.passed


class PromotionPolicy(Record):
    """Requirements that a version must meet; built by ``require_metric``, which gives a new one, or from a file."""

    requirements: tuple[MetricRequirement, ...] = ()
    against_incumbent: tuple[IncumbentRule, ...] = ()

    _sequences = field_validator("requirements", "against_incumbent", mode="before")(as_tuple)

    def require_metric(self, requirement: MetricRequirement) -> Self:
        """Return this policy with one more requirement."""
        return self.model_copy(update={"requirements": (*self.requirements, requirement)})

    def not_worse_than_incumbent(self, rule: IncumbentRule) -> Self:
        """Return this policy with one more comparison against the version in production."""
        return self.model_copy(update={"against_incumbent": (*self.against_incumbent, rule)})

    @property
    def digest(self) -> str:
        """The sha256 of the policy's JSON; a decision carries it."""
        return digest_of(canonical_json(self.model_dump(mode="json")))

    def check(self, candidate: Evidence, incumbent: Evidence | None) -> PolicyResult:
        """Hold the policy against a version's metrics and, if one is in production, against the incumbent's.

        A metric that is missing (NaN is kept as missing) fails, and so does a comparison of metrics that were measured
        on different data.
        """
        failures = [words for rule in self.requirements if (words := _unmet(rule, candidate))]
        if incumbent is not None:
            failures += [words for rule in self.against_incumbent if (words := _behind(rule, candidate, incumbent))]
        return PolicyResult(passed=not failures, failures=tuple(failures), policy_digest=self.digest)


class Evidence(Record):
    """A version's metrics as a policy sees them; ``measured_on`` maps a metric to the digest of its data."""

    label: str
    metrics: Mapping[str, float]
    measured_on: Mapping[str, str] = Field(default_factory=dict)


def _unmet(rule: MetricRequirement, candidate: Evidence) -> str | None:
    value = candidate.metrics.get(rule.name)
    wanted = f"{rule.name} {rule.comparison.sign} {rule.threshold:g}"
    if value is None:
        known = ", ".join(sorted(candidate.metrics)) or "none"
        return f"{wanted} is required, and {rule.name} is missing (measured: {known})"
    return None if rule.comparison.holds(value, rule.threshold) else f"{wanted} is required, found {value:.6g}"


def _behind(rule: IncumbentRule, candidate: Evidence, incumbent: Evidence) -> str | None:
    mine, theirs = candidate.metrics.get(rule.metric), incumbent.metrics.get(rule.metric)
    if mine is None or theirs is None:
        who = candidate.label if mine is None else incumbent.label
        return f"{rule.metric} cannot be compared with the incumbent {incumbent.label}: {who} has no {rule.metric}"
    if candidate.measured_on.get(rule.metric) != incumbent.measured_on.get(rule.metric):
        return (
            f"{rule.metric} of {candidate.label} and of the incumbent {incumbent.label} were measured on different "
            f"data; evaluate both on the same data"
        )
    drop = theirs - mine if rule.direction == "higher" else mine - theirs
    if drop <= rule.may_drop + 1e-12:
        return None
    return (
        f"{rule.metric} {mine:.6g} is behind the incumbent {incumbent.label} ({theirs:.6g}) by {drop:.3g}, "
        f"allowed {rule.may_drop:g} ({rule.direction} is better)"
    )
