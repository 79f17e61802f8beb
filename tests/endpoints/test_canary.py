"""Whether a canary may have more of the requests: bounds, time, and what counters say between two looks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.endpoints.canary import CanarySettings, judge_canary, quantile_ms, since
from registry.endpoints.target import Counted

SETTINGS = CanarySettings(hold_s=10, wait_s=100, min_requests=100, min_labelled=50)


def _counted(requests: int, *, errors: int = 0, slow: int = 0, labelled: int = 0, correct: int = 0) -> Counted:
    """Count requests of at most 10 ms, but for ``slow`` ones of 10 to 100 ms."""
    return Counted(
        requests=requests,
        errors=errors,
        latency_sum_ms=float(requests),
        latency_ms=((10.0, requests - slow), (100.0, requests), (math.inf, requests)),
        labelled=labelled,
        correct=correct,
    )


STABLE = _counted(900, labelled=100, correct=97)


@pytest.mark.parametrize(
    ("canary", "words"),
    [
        (_counted(100, errors=2), "2 of its 100 requests failed (2.0%, at most 1.0%)"),
        (_counted(100, slow=50), "its 99th percentile is 9.92 times the stable version's (at most 1.5)"),
    ],
)
def test_a_broken_bound_ends_the_step_at_once(canary: Counted, words: str) -> None:
    verdict = judge_canary(SETTINGS, canary, STABLE, watched_s=1.0)
    assert (verdict.passed, verdict.words) == (False, words)


def test_no_bound_is_broken_by_too_few_requests() -> None:
    assert judge_canary(SETTINGS, _counted(99, errors=99), STABLE, watched_s=50.0).passed is None


def test_a_step_is_passed_when_its_time_is_over_and_enough_has_come() -> None:
    assert judge_canary(SETTINGS, _counted(500), STABLE, watched_s=9.9).passed is None
    verdict = judge_canary(SETTINGS, _counted(500), STABLE, watched_s=10.0)
    assert (verdict.passed, verdict.words) == (
        True,
        "500 requests, 0 failed, 99th percentile 1.00 times the stable version's",
    )


def test_a_canary_that_nobody_asks_does_not_pass() -> None:
    verdict = judge_canary(SETTINGS, _counted(7), STABLE, watched_s=100.0)
    assert (verdict.passed, verdict.words) == (
        False,
        "after 100 s only 7 of 100 requests had come: nothing speaks for it",
    )


@pytest.mark.parametrize(
    ("settings", "correct", "passed", "words"),
    [
        ({"min_accuracy": 0.9}, 44, False, "it was right in 88.0% of 50 answers (at least 90.0%)"),
        ({"min_accuracy": 0.9}, 45, True, "45 of 50 right"),
        ({"max_accuracy_drop": 0.02}, 47, False, "it was right 3.0% less often than the stable version (at most 2.0%)"),
        ({"max_accuracy_drop": 0.02}, 48, True, "48 of 50 right"),
    ],
)
def test_answers_that_came_back_decide_where_they_are_asked_for(
    settings: dict[str, float], correct: int, *, passed: bool, words: str
) -> None:
    bounds = SETTINGS.model_copy(update=settings)
    verdict = judge_canary(bounds, _counted(100, labelled=50, correct=correct), STABLE, watched_s=10.0)
    assert verdict.passed is passed
    assert words in verdict.words


def test_a_step_waits_for_labels_where_they_are_asked_for() -> None:
    bounds = SETTINGS.model_copy(update={"min_accuracy": 0.9})
    assert judge_canary(bounds, _counted(100, labelled=49, correct=0), STABLE, watched_s=10.0).passed is None
    late = judge_canary(bounds, _counted(100, labelled=49, correct=49), STABLE, watched_s=100.0)
    assert late.passed is False
    assert "49 of 50 right answers" in late.words


def test_without_buckets_the_mean_is_compared() -> None:
    canary = Counted(requests=100, errors=0, latency_sum_ms=400.0)
    stable = Counted(requests=100, errors=0, latency_sum_ms=200.0)
    verdict = judge_canary(SETTINGS, canary, stable, watched_s=10.0)
    assert verdict.words == "its mean latency is 2.00 times the stable version's (at most 1.5)"


def test_counters_that_began_anew_count_from_there() -> None:
    before, now = _counted(100, errors=1, slow=10, labelled=5, correct=4), _counted(130, errors=3, slow=20, labelled=9)
    assert since(before, now) == Counted(
        requests=30,
        errors=2,
        latency_sum_ms=30.0,
        latency_ms=((10.0, 20), (100.0, 30), (math.inf, 30)),
        labelled=4,
        correct=0,
    )
    assert since(now, before) == before
    assert since(None, before) == before


@given(st.lists(st.floats(0.1, 99.0), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_the_one_that_was_measured(times_ms: list[float], q: float) -> None:
    bounds = (1.0, 5.0, 10.0, 50.0, 100.0, math.inf)
    buckets = tuple((bound, sum(time <= bound for time in times_ms)) for bound in bounds)
    found = quantile_ms(Counted(requests=len(times_ms), errors=0, latency_ms=buckets), q)
    exact = sorted(times_ms)[max(0, math.ceil(q * len(times_ms)) - 1)]
    low, high = next((low, high) for low, high in zip((0.0, *bounds), bounds, strict=False) if exact <= high)
    assert found is not None
    assert low <= found <= high


@pytest.mark.parametrize("steps", [(), (0.0, 0.5), (0.5, 0.1), (0.5, 1.0), (0.5, 0.5)])
def test_steps_that_do_not_rise_are_refused(steps: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="the steps are shares that rise, above 0 and below 1"):
        CanarySettings(steps=steps)
