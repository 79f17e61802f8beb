"""Whether a canary may have more of the requests: its errors, latency and accuracy beside the stable one's; pure."""

from __future__ import annotations

import itertools
import math

from pydantic import Field, field_validator

from registry.base import Record, as_tuple
from registry.endpoints.target import Counted

_TAIL = 0.99


class CanarySettings(Record):
    """By which steps a version gets the requests, and what it must keep to at each.

    ``steps`` are shares of the requests, rising, above 0 and below 1; after the last it gets all of them. At each step
    it is watched for at least ``hold_s`` seconds and until ``min_requests`` have come to it, at most ``wait_s``.
    ``max_error_rate`` is of its own requests (0 to 1); ``max_latency_ratio`` its 99th percentile over the stable
    version's, of those that came in the same time. ``min_accuracy`` (0 to 1) and ``max_accuracy_drop`` (the stable
    version's minus its own) are held once ``min_labelled`` right answers came back for it; without them no labels are
    waited for. Where the target does not count, ``probe_requests`` golden samples are sent at each look, and what came
    of them is held to the bounds.
    """

    steps: tuple[float, ...] = (0.1, 0.5)
    hold_s: float = Field(default=60.0, ge=0.0)
    wait_s: float = Field(default=3600.0, gt=0.0)
    poll_s: float = Field(default=2.0, gt=0.0)
    min_requests: int = Field(default=100, ge=1)
    probe_requests: int = Field(default=50, ge=1)
    max_error_rate: float = Field(default=0.01, ge=0.0, le=1.0)
    max_latency_ratio: float | None = Field(default=1.5, gt=0.0)
    min_accuracy: float | None = Field(default=None, ge=0.0, le=1.0)
    max_accuracy_drop: float | None = Field(default=None, ge=0.0, le=1.0)
    min_labelled: int = Field(default=100, ge=1)

    @field_validator("steps", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return as_tuple(value)

    @field_validator("steps")
    @classmethod
    def _rising_shares(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        rising = all(low < high for low, high in itertools.pairwise(steps))
        if not steps or not rising or steps[0] <= 0.0 or steps[-1] >= 1.0:
            raise ValueError(f"the steps are shares that rise, above 0 and below 1, such as [0.1, 0.5]; found {steps}")
        return steps


class Verdict(Record):
    """What is to become of a canary at a step: ``passed`` is None as long as there is too little to say."""

    passed: bool | None
    words: str


def judge_canary(settings: CanarySettings, canary: Counted, stable: Counted, *, watched_s: float) -> Verdict:
    """Return whether a canary has passed its step, broken a bound, or has to be watched longer.

    A bound is broken as soon as there are enough requests to say so, before the time of the step is over.

    Args:
        settings: The bounds.
        canary: What it did since the step began.
        stable: What the stable version did in the same time.
        watched_s: Seconds since the step began, >= 0.
    """
    enough = canary.requests >= settings.min_requests
    if enough and (breach := _breach(settings, canary, stable)):
        return Verdict(passed=False, words=breach)
    labelled = not _wants_labels(settings) or canary.labelled >= settings.min_labelled
    if enough and labelled and watched_s >= settings.hold_s:
        return Verdict(passed=True, words=_seen(canary, stable))
    if watched_s >= settings.wait_s:
        missing = f"{canary.requests} of {settings.min_requests} requests"
        if not labelled:
            missing += f" and {canary.labelled} of {settings.min_labelled} right answers"
        return Verdict(passed=False, words=f"after {watched_s:.0f} s only {missing} had come: nothing speaks for it")
    return Verdict(passed=None, words=f"{canary.requests} requests in {watched_s:.0f} s")


def since(before: Counted | None, now: Counted) -> Counted:
    """Return what was counted between two looks; counters that began anew in between count from there."""
    if before is None or now.requests < before.requests:
        return now
    earlier = dict(before.latency_ms)
    return Counted(
        requests=now.requests - before.requests,
        errors=now.errors - before.errors,
        latency_sum_ms=now.latency_sum_ms - before.latency_sum_ms,
        latency_ms=tuple((bound, count - earlier.get(bound, 0)) for bound, count in now.latency_ms),
        labelled=max(0, now.labelled - before.labelled),
        correct=max(0, now.correct - before.correct),
    )


def quantile_ms(counted: Counted, q: float) -> float | None:
    """Return the latency below which a share ``q`` of the requests stayed, in ms; None without buckets or requests.

    Args:
        counted: Cumulative buckets; within one the requests are taken to be spread evenly, the first from 0.
        q: 0 to 1.

    Source: Prometheus, ``histogram_quantile``; in the last bucket without an upper bound its lower one is given.
    """
    total = counted.latency_ms[-1][1] if counted.latency_ms else 0
    if total == 0:
        return None
    rank, low, below = q * total, 0.0, 0
    for bound, count in counted.latency_ms:
        if count >= rank and count > below:
            return low if math.isinf(bound) else low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    return low


def _breach(settings: CanarySettings, canary: Counted, stable: Counted) -> str:
    """Return in words which bound is broken, nothing where none is."""
    rate, most = canary.errors / canary.requests, settings.max_error_rate
    if rate > most:
        return f"{canary.errors} of its {canary.requests} requests failed ({rate:.1%}, at most {most:.1%})"
    slower = _latency(canary, stable) if stable.requests >= settings.min_requests else None
    if slower is not None and settings.max_latency_ratio is not None and slower[1] > settings.max_latency_ratio:
        return f"its {slower[0]} is {slower[1]:.2f} times the stable version's (at most {settings.max_latency_ratio:g})"
    return _less_accurate(settings, canary, stable) if canary.labelled >= settings.min_labelled else ""


def _less_accurate(settings: CanarySettings, canary: Counted, stable: Counted) -> str:
    accuracy, least, most = canary.correct / canary.labelled, settings.min_accuracy, settings.max_accuracy_drop
    if least is not None and accuracy < least:
        return f"it was right in {accuracy:.1%} of {canary.labelled} answers (at least {least:.1%})"
    if most is not None and stable.labelled >= settings.min_labelled:
        drop = stable.correct / stable.labelled - accuracy
        if drop > most:
            return f"it was right {drop:.1%} less often than the stable version (at most {most:.1%})"
    return ""


def _latency(canary: Counted, stable: Counted) -> tuple[str, float] | None:
    """Return which latency could be compared, and the canary's over the stable version's."""
    own, others = quantile_ms(canary, _TAIL), quantile_ms(stable, _TAIL)
    if own is not None and others:
        return "99th percentile", own / others
    # Some servers count the time of all requests together, and no buckets.
    if not canary.requests or not stable.requests or not stable.latency_sum_ms:
        return None
    return "mean latency", (canary.latency_sum_ms / canary.requests) / (stable.latency_sum_ms / stable.requests)


def _wants_labels(settings: CanarySettings) -> bool:
    return settings.min_accuracy is not None or settings.max_accuracy_drop is not None


def _seen(canary: Counted, stable: Counted) -> str:
    parts = [f"{canary.requests} requests, {canary.errors} failed"]
    if (slower := _latency(canary, stable)) is not None:
        parts.append(f"{slower[0]} {slower[1]:.2f} times the stable version's")
    if canary.labelled:
        parts.append(f"{canary.correct} of {canary.labelled} right")
    return ", ".join(parts)
