"""Which variant serves."""

from __future__ import annotations

from typing import Any

import pytest

from registry.engines.choice import choose
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
