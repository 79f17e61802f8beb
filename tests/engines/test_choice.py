"""Which variant serves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.engines.choice import choose, objection_to, pareto_front
from registry.engines.records import Latency, Parity, VariantReport
from registry.engines.spec import OptimizeSpec

SPEC = OptimizeSpec(batch_sizes=(1, 32), max_score_drop=0.005)
SAME = Parity(samples=10, max_abs=0.0, max_rel=0.0, cosine=1.0, passed=True)
OTHER = Parity(samples=10, max_abs=1.0, max_rel=1.0, cosine=0.5, passed=False, reason="9 of 10 values are further")


def _latency(p50_ms: float, batch: int = 1) -> Latency:
    return Latency(batch=batch, repetitions=9, p50_ms=p50_ms, p95_ms=p50_ms, p99_ms=p50_ms, samples_per_s=1.0)


def _variant(engine: str, p50_ms: float, **changed: Any) -> VariantReport:
    fields = {
        "key": f"key of {engine}",
        "key_fields": {},
        "engine": engine,
        "status": "measured",
        "parity": SAME,
        "score": 0.98,
        "score_drop": 0.0,
        "latency": (_latency(p50_ms), _latency(p50_ms / 100, batch=32)),
    }
    return VariantReport(**{**fields, **changed})


BASELINE = (_latency(1.0), _latency(20.0, batch=32))


def test_the_fastest_equal_variant_at_the_first_batch_size_is_chosen() -> None:
    variants = [_variant("onnxruntime", 0.25), _variant("tensorrt", 0.5)]
    choice = choose(variants, spec=SPEC, baseline=BASELINE, baseline_score=0.98)
    assert (choice.key, choice.speedup) == ("key of onnxruntime", 4.0)
    assert choice.reason == (
        "onnxruntime answers a batch of 1 in 0.25 ms (p50), 4.0 times as fast as the original (1 ms), "
        "score 0.9800 (the original's 0.9800)"
    )


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        (_variant("tensorrt", 0.1, parity=OTHER), "tensorrt: its outputs differ: 9 of 10 values are further."),
        (_variant("tensorrt", 0.1, score_drop=0.0051), "its score is 0.0051 lower, 0.005 is allowed"),
        (_variant("tensorrt", 1.01), "it is slower: 1.01 ms, the original 1 ms at a batch of 1"),
        (_variant("tensorrt", 0.1, score=None, score_drop=None), "it has no score, the original has one"),
        (_variant("tensorrt", 0.1, status="built", latency=(), reason="no GPU here"), "tensorrt: no GPU here."),
        (_variant("tensorrt", 0.1, status="failed", reason="it crashed\nand said so"), "tensorrt: it crashed."),
        (_variant("tensorrt", 0.1, latency=(_latency(0.1, batch=32),)), "it was not measured here"),
    ],
)
def test_a_variant_that_is_not_as_good_is_passed_over_and_the_reason_given(variant: VariantReport, words: str) -> None:
    alone = choose([variant], spec=SPEC, baseline=BASELINE, baseline_score=0.98)
    assert (alone.key, alone.speedup) == (None, None)
    assert alone.reason.startswith("the original stays. ")
    assert words in alone.reason
    beside = choose([variant, _variant("onnxruntime", 0.9)], spec=SPEC, baseline=BASELINE, baseline_score=0.98)
    assert beside.key == "key of onnxruntime"


def test_a_gain_in_score_is_no_drop() -> None:
    better = _variant("onnxruntime", 0.5, score=0.99, score_drop=-0.01)
    assert choose([better], spec=SPEC, baseline=BASELINE, baseline_score=0.98).key == better.key


def test_without_a_score_the_outputs_decide_alone() -> None:
    variant = _variant("onnxruntime", 0.5, score=None, score_drop=None)
    choice = choose([variant], spec=SPEC, baseline=BASELINE)
    assert choice.key == variant.key
    assert "score" not in choice.reason


def test_nothing_to_choose_from_leaves_the_original() -> None:
    assert choose([], spec=SPEC, baseline=BASELINE).reason == "the original stays. No engine was asked for."
    unmeasured = choose([_variant("onnxruntime", 0.1)], spec=SPEC, baseline=BASELINE[1:])
    assert unmeasured.reason == "the original was not measured at a batch of 1 (measured: 32)"


def _scored(engine: str, p50_ms: float, score: float, **changed: Any) -> VariantReport:
    return _variant(engine, p50_ms, score=score, score_drop=0.98 - score, **changed)


WITHIN_HALF = SPEC.model_copy(update={"latency_budget_ms": 0.5, "max_score_drop": 0.1})


def test_with_a_budget_the_best_score_within_it_is_chosen_and_not_the_fastest() -> None:
    fast, good, late = (
        _scored("onnxruntime-int8", 0.1, 0.95),
        _scored("onnxruntime", 0.4, 0.98),
        _scored("openvino", 0.6, 0.99),
    )
    choice = choose([fast, good, late], spec=WITHIN_HALF, baseline=BASELINE, baseline_score=0.98)
    assert (choice.key, choice.speedup) == (good.key, 2.5)
    assert choice.reason.startswith("onnxruntime answers a batch of 1 in 0.4 ms (p50), 2.5 times as fast")
    without = SPEC.model_copy(update={"max_score_drop": 0.1})
    assert choose([fast, good, late], spec=without, baseline=BASELINE, baseline_score=0.98).key == fast.key


def test_of_equal_scores_within_the_budget_the_faster_one_is_chosen() -> None:
    variants = [_scored("onnxruntime", 0.4, 0.98), _scored("openvino", 0.3, 0.98)]
    assert choose(variants, spec=WITHIN_HALF, baseline=BASELINE, baseline_score=0.98).key == "key of openvino"


def test_the_original_stays_where_it_is_within_the_budget_and_has_the_best_score() -> None:
    spec = WITHIN_HALF.model_copy(update={"latency_budget_ms": 2.0})
    choice = choose([_scored("onnxruntime", 0.1, 0.97)], spec=spec, baseline=BASELINE, baseline_score=0.98)
    assert (choice.key, choice.speedup) == (None, None)
    assert choice.reason == (
        "the original stays: it answers a batch of 1 within 2 ms, and no engine has its score (0.9800)."
    )
    equal = choose([_scored("onnxruntime", 0.1, 0.98)], spec=spec, baseline=BASELINE, baseline_score=0.98)
    assert equal.key == "key of onnxruntime"


def test_a_late_original_gives_way_to_an_engine_that_is_a_little_worse() -> None:
    choice = choose([_scored("onnxruntime", 0.1, 0.97)], spec=WITHIN_HALF, baseline=BASELINE, baseline_score=0.98)
    assert choice.key == "key of onnxruntime"


def test_where_nothing_meets_the_budget_the_reason_names_it_and_what_the_original_takes() -> None:
    late = _scored("onnxruntime", 0.6, 0.98)
    choice = choose([late], spec=WITHIN_HALF, baseline=BASELINE, baseline_score=0.98)
    assert choice.key is None
    assert choice.reason == (
        "the original stays, 1 ms where 0.5 ms were asked for. onnxruntime: it takes 0.6 ms, 0.5 ms are allowed."
    )


def test_a_budget_does_not_let_in_what_differs_or_loses_too_much() -> None:
    spec = SPEC.model_copy(update={"latency_budget_ms": 0.5})
    variants = [_scored("tensorrt", 0.1, 0.99, parity=OTHER), _scored("openvino", 0.1, 0.97)]
    choice = choose(variants, spec=spec, baseline=BASELINE, baseline_score=0.98)
    assert choice.key is None
    assert "tensorrt: its outputs differ" in choice.reason
    assert "openvino: its score is 0.0100 lower, 0.005 is allowed" in choice.reason


def test_without_a_score_the_budget_leaves_the_fastest_within_it() -> None:
    variants = [
        _variant("onnxruntime", 0.4, score=None, score_drop=None),
        _variant("openvino", 0.3, score=None, score_drop=None),
        _variant("tensorrt", 0.6, score=None, score_drop=None),
    ]
    assert choose(variants, spec=WITHIN_HALF, baseline=BASELINE).key == "key of openvino"


@pytest.mark.parametrize("budget_ms", [None, 5.0])
def test_a_slower_engine_is_never_chosen_even_alone_and_with_a_better_score(budget_ms: float | None) -> None:
    spec = SPEC.model_copy(update={"latency_budget_ms": budget_ms})
    choice = choose([_scored("openvino", 1.1, 0.99)], spec=spec, baseline=BASELINE, baseline_score=0.98)
    assert choice.key is None
    assert "openvino: it is slower: 1.1 ms, the original 1 ms at a batch of 1" in choice.reason
    as_fast = choose([_scored("openvino", 1.0, 0.99)], spec=spec, baseline=BASELINE, baseline_score=0.98)
    assert as_fast.key == "key of openvino"


def test_other_threads_than_those_that_serve_decide_nothing() -> None:
    with_two = _latency(0.1).model_copy(update={"threads": 2})
    variant = _variant("openvino", 1.2, latency=(_latency(1.2), with_two))
    assert choose([variant], spec=SPEC, baseline=BASELINE, baseline_score=0.98).key is None


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        (_variant("openvino", 0.1), ""),
        (_variant("openvino", 0.1, score_drop=0.005), ""),
        (_variant("openvino", 0.1, score_drop=0.0051), "its score is 0.0051 lower, 0.005 is allowed"),
        (_variant("openvino", 0.1, parity=OTHER), "its outputs differ: 9 of 10 values are further"),
        (_variant("openvino", 0.1, parity=None), "it was not measured here"),
        (_variant("openvino", 0.1, latency=()), "it was not measured here"),
        (_variant("openvino", 0.1, score=None, score_drop=None), "it has no score, the original has one"),
        (_variant("openvino", 0.1, status="failed", reason="it crashed\nthere"), "it crashed"),
        (_variant("openvino", 0.1, status="unavailable", reason="needs openvino"), "needs openvino"),
        # Speed is the machine's own: no objection to the engine, which may be faster elsewhere.
        (_variant("openvino", 99.0), ""),
    ],
)
def test_an_objection_says_why_an_engine_must_not_answer_for_the_original(variant: VariantReport, words: str) -> None:
    assert objection_to(variant, spec=SPEC, scored=True) == words


def test_no_score_is_no_objection_where_the_original_has_none() -> None:
    assert objection_to(_variant("openvino", 0.1, score=None, score_drop=None), spec=SPEC, scored=False) == ""


# Few different values, so that points are often as fast or as accurate as each other.
POINTS = st.lists(st.tuples(st.integers(1, 5).map(float), st.integers(0, 5).map(float)), max_size=12)


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@given(POINTS)
def test_a_point_on_the_front_is_beaten_by_none_and_one_off_it_by_one_on_it(points: list[tuple[float, float]]) -> None:
    on_front = pareto_front(points)
    assert len(on_front) == len(points)
    front = [point for point, best in zip(points, on_front, strict=True) if best]
    for point, best in zip(points, on_front, strict=True):
        if best:
            assert not any(_beats(other, point) for other in points)
        else:
            assert any(_beats(other, point) for other in front)


@given(POINTS, st.randoms())
def test_the_front_knows_no_order_and_ends_in_the_fastest_and_the_most_accurate(
    points: list[tuple[float, float]], random: Any
) -> None:
    front = {point for point, best in zip(points, pareto_front(points), strict=True) if best}
    shuffled = random.sample(points, len(points))
    assert {point for point, best in zip(shuffled, pareto_front(shuffled), strict=True) if best} == front
    if points:
        fastest = min(point[0] for point in points)
        assert min(point[0] for point in front) == fastest
        assert max(point[1] for point in front) == max(point[1] for point in points)
