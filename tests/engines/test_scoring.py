"""How good an engine is by the pipeline's own metric, and how sure that is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.stats import binom

from registry.engines.choice import choose
from registry.engines.optimize import Material, build_variants
from registry.engines.scoring import Scorer
from registry.engines.spec import OptimizeSpec
from registry.errors import EngineError, InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel

SPEC = OptimizeSpec(resamples=2000)


def _accuracy(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    return float(np.mean(outputs == labels))


def _with_right(right: int, count: int) -> tuple[Scorer, NDArray[Any]]:
    """Return a scorer and outputs of which so many are right."""
    labels = np.zeros(count, dtype=np.int64)
    return Scorer(_accuracy, labels), np.arange(count) >= right


@pytest.mark.parametrize(("right", "count"), [(360, 400), (200, 400), (95, 100), (29, 30)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_of_an_accuracy_lies_at_the_quantiles_of_the_binomial(
    right: int, count: int, confidence: float
) -> None:
    # The accuracy of a resample is Binomial(n, k/n) / n. Of R draws, the share below the exact q-quantile has standard
    # deviation sqrt(q (1-q) / R): the drawn quantile lies between the exact ones at q -+ 5 of those (missed once in two
    # million), and at -+ 1/R more, because it is interpolated between two draws.
    scorer, outputs = _with_right(right, count)
    found = scorer.interval(outputs, spec=SPEC.model_copy(update={"confidence": confidence}))
    assert found is not None
    assert found.confidence == confidence
    for q, drawn in (((1 - confidence) / 2, found.low), ((1 + confidence) / 2, found.high)):
        slack = 5 * math.sqrt(q * (1 - q) / SPEC.resamples) + 1 / SPEC.resamples
        lowest, highest = (
            binom.ppf(min(max(at, 1e-12), 1 - 1e-12), count, right / count) / count for at in (q - slack, q + slack)
        )
        assert lowest <= drawn <= highest
    assert found.low <= scorer.of(outputs) <= found.high


def test_more_confidence_and_fewer_samples_make_the_interval_wider() -> None:
    def width(right: int, count: int, confidence: float) -> float:
        scorer, outputs = _with_right(right, count)
        found = scorer.interval(outputs, spec=SPEC.model_copy(update={"confidence": confidence}))
        assert found is not None
        return found.high - found.low

    assert width(320, 400, 0.99) > width(320, 400, 0.9) > 0
    assert width(32, 40, 0.9) > 2 * width(320, 400, 0.9)


def test_the_same_outputs_always_have_the_same_interval() -> None:
    scorer, outputs = _with_right(60, 70)
    assert scorer.interval(outputs, spec=SPEC) == scorer.interval(outputs.copy(), spec=SPEC)


def test_the_drop_of_equal_outputs_is_exactly_nothing() -> None:
    scorer, outputs = _with_right(50, 100)
    found = scorer.drop_interval(outputs, outputs.copy(), spec=SPEC)
    assert found is not None
    assert (found.low, found.high) == (0.0, 0.0)


def test_the_drop_is_taken_on_the_same_samples_and_so_is_known_far_better_than_either_score() -> None:
    scorer, original = _with_right(50, 100)
    engine = original.copy()
    engine[0] = True  # one answer more is wrong
    score, drop = scorer.interval(original, spec=SPEC), scorer.drop_interval(original, engine, spec=SPEC)
    assert score is not None
    assert drop is not None
    # Of how often that one sample is drawn, Binomial(100, 1/100): 97.5 % of the resamples have it three times at most.
    assert drop.low == 0
    assert drop.high == pytest.approx(0.03)
    assert score.high - score.low > 0.15


def test_a_better_engine_has_a_drop_below_nothing() -> None:
    scorer, original = _with_right(50, 100)
    _, engine = _with_right(80, 100)
    found = scorer.drop_interval(original, engine, spec=SPEC)
    assert found is not None
    assert found.low < found.high < 0


def _undefined_as_error(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    if len(set(labels.tolist())) < 2:
        raise ValueError("Only one class present in y_true.")
    return _accuracy(outputs, labels)


def _undefined_as_nan(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    return _accuracy(outputs, labels) if len(set(labels.tolist())) > 1 else math.nan


def _recall(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    return int(np.sum(outputs & labels)) / int(np.sum(labels))


@pytest.mark.parametrize("score", [_undefined_as_error, _undefined_as_nan, _recall])
def test_a_metric_that_some_resample_leaves_undefined_has_a_value_and_no_interval(score: Any) -> None:
    # One of five labels is positive: a third of the resamples, (4/5)^5, have none.
    labels = np.array([True, False, False, False, False])
    scorer = Scorer(score, labels)
    assert scorer.of_original(labels) == 1.0
    assert scorer.interval(labels, spec=SPEC) is None
    assert scorer.drop_interval(labels, labels, spec=SPEC) is None


@pytest.mark.parametrize(
    ("scorer", "spec"),
    [
        (Scorer(lambda _outputs: 0.5), SPEC),
        (Scorer(_accuracy, np.zeros(9)), SPEC.model_copy(update={"resamples": 0})),
        (Scorer(_accuracy, np.zeros(1)), SPEC),
    ],
    ids=["no labels", "no resamples", "one sample"],
)
def test_where_nothing_can_be_resampled_there_is_no_interval(scorer: Scorer, spec: OptimizeSpec) -> None:
    outputs = np.zeros(9 if scorer.labels is None else len(scorer.labels))
    assert math.isfinite(scorer.of_original(outputs))
    assert scorer.interval(outputs, spec=spec) is None
    assert scorer.drop_interval(outputs, outputs, spec=spec) is None


def test_labels_of_another_length_are_refused_before_anything_is_built(
    onnx: OnnxModel, samples: NDArray[np.float32], reference: NDArray[Any], spec: OptimizeSpec, tmp_path: Path
) -> None:
    scorer = Scorer(_accuracy, np.zeros(3))
    with pytest.raises(InvalidInputError, match=r"3 labels were given for 70 samples\. Give one label for each sample"):
        scorer.of_original(reference)
    with pytest.raises(InvalidInputError, match="3 labels were given for 70 samples"):
        build_variants(Material(onnx, samples, reference, scorer=scorer), spec=spec, folder=tmp_path / "variants")
    assert not (tmp_path / "variants").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(EngineError, match=f"the score of the original's outputs is {value}: a number is needed there"):
        Scorer(lambda _outputs: value).of_original(np.zeros(3))


def test_an_engine_whose_score_is_no_number_has_none_and_is_not_chosen(
    onnx: OnnxModel, samples: NDArray[np.float32], reference: NDArray[Any], spec: OptimizeSpec, tmp_path: Path
) -> None:
    # A correlation, say, of outputs that are all alike. NaN is not more than what is allowed, so it must not be asked.
    scorer = Scorer(lambda outputs: 1.0 if outputs is reference else math.nan)
    (variant,) = build_variants(
        Material(onnx, samples, reference, scorer=scorer),
        spec=spec.model_copy(update={"engines": ("onnxruntime",)}),
        folder=tmp_path / "variants",
    )
    assert variant.parity is not None
    assert variant.parity.passed
    assert (variant.score, variant.score_drop) == (None, None)
    assert variant.objection == "it has no score, the original has one"
    slow = tuple(latency.model_copy(update={"p50_ms": 1e6}) for latency in variant.latency)
    assert choose([variant], spec=spec, baseline=slow, baseline_score=1.0).key is None
