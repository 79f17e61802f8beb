"""When an engine's answers count as the original's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from polygraphy.comparator import CosineSimilarityCompareFunc, IterationResult, SimpleCompareFunc
from polygraphy.logger import G_LOGGER

from registry.encoding import canonical_json
from registry.engines.parity import compare, compare_loosely

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pair: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]

ORIGINAL = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 100.0]], dtype=np.float32)


def test_equal_outputs_pass_with_nothing_between_them() -> None:
    parity = compare(ORIGINAL, ORIGINAL.copy(), atol=0, rtol=0)
    assert parity.passed
    assert (parity.samples, parity.max_abs, parity.max_rel, parity.top1_agreement) == (2, 0, 0, 1.0)
    assert parity.cosine == pytest.approx(1)
    assert parity.reason == ""


def test_a_difference_within_the_tolerances_passes_and_is_measured() -> None:
    found = ORIGINAL.copy()
    found[1, 2] += 0.05
    parity = compare(ORIGINAL, found, atol=1e-3, rtol=1e-3)
    assert parity.passed
    assert parity.max_abs == pytest.approx(0.05, rel=1e-3)
    assert parity.max_rel == pytest.approx(0.0005, rel=1e-3)


def test_a_difference_outside_the_tolerances_fails_and_says_how_far() -> None:
    found = ORIGINAL.copy()
    found[0, 0] = 4
    parity = compare(ORIGINAL, found, atol=1e-3, rtol=1e-3)
    assert not parity.passed
    assert parity.reason == (
        "1 of 6 values are further from the original than 0.001 + 0.001 x |value|; the largest difference is 3"
    )
    assert parity.top1_agreement == 0.5


@pytest.mark.parametrize(
    ("original", "found", "words"),
    [
        (ORIGINAL, ORIGINAL[:1], r"the original gives shape (2, 3), the engine (1, 3)"),
        (ORIGINAL, ORIGINAL.ravel(), r"the original gives shape (2, 3), the engine (6,)"),
        (ORIGINAL, np.where(ORIGINAL > 2, np.nan, ORIGINAL), "2 of 6 values that the engine gives are NaN or infinite"),
        (ORIGINAL * np.inf, ORIGINAL, "6 of 6 values that the original gives are NaN or infinite"),
        (ORIGINAL[:0], ORIGINAL[:0], "there are no samples to compare on"),
        (np.array(1.0), np.array(1.0), "there are no samples to compare on"),
    ],
)
def test_what_cannot_be_compared_fails_in_words(
    original: np.ndarray[Any, Any], found: np.ndarray[Any, Any], words: str
) -> None:
    parity = compare(original, found, atol=1, rtol=1)
    assert not parity.passed
    assert parity.reason == words
    assert (parity.max_abs, parity.cosine) == (None, None)


def test_outputs_that_are_no_table_of_classes_have_no_top1() -> None:
    assert compare(ORIGINAL[:, :1], ORIGINAL[:, :1], atol=0, rtol=0).top1_agreement is None
    assert compare(ORIGINAL[:, 0], ORIGINAL[:, 0], atol=0, rtol=0).top1_agreement is None


def test_whole_numbers_are_the_classes_themselves() -> None:
    assert compare(np.array([3, 1, 4, 1]), np.array([3, 1, 4, 5]), atol=0, rtol=0).top1_agreement == 0.75


def test_the_cosine_is_that_of_the_worst_sample_and_knows_zero_vectors() -> None:
    zeros = np.zeros((1, 2))
    assert compare(zeros, zeros, atol=0, rtol=0).cosine == 1
    assert compare(zeros, zeros + 1, atol=2, rtol=0).cosine == 0
    original, found = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    assert compare(original, found, atol=2, rtol=0).cosine == 0


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20))
def test_any_finite_output_equals_itself(values: list[float]) -> None:
    array = np.array([values], dtype=np.float32)
    assert compare(array, array, atol=0, rtol=0).passed


# ------------------------------------------------------------------------------------------------- of less precision


def _turned(degrees: float) -> np.ndarray[Any, Any]:
    """Return an original whose first sample is turned by so much in a plane, the second left alone."""
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), np.sin(angle), 0.0], [0.0, 0.0, 5.0]])


STRAIGHT = _turned(0)


def test_outputs_that_point_the_same_way_pass_however_far_single_values_are() -> None:
    parity = compare_loosely(STRAIGHT, STRAIGHT * 1.5, min_cosine=0.9999, min_agreement=1.0)
    assert (parity.passed, parity.reason) == (True, "")
    assert (parity.samples, parity.max_abs, parity.cosine, parity.top1_agreement) == (2, 2.5, 1.0, 1.0)


def test_one_sample_that_points_elsewhere_fails_and_the_words_say_how_far() -> None:
    parity = compare_loosely(STRAIGHT, _turned(30), min_cosine=0.9, min_agreement=1.0)
    assert not parity.passed
    assert parity.reason == "the cosine of the worst sample with the original is 0.8660, below 0.9"
    assert compare_loosely(STRAIGHT, _turned(30), min_cosine=0.86, min_agreement=1.0).passed


def test_other_classes_fail_even_where_the_outputs_point_the_same_way() -> None:
    original = np.tile([1.0, 1.01, 0.0], (4, 1))
    found = original.copy()
    found[0] = [1.01, 1.0, 0.0]
    parity = compare_loosely(original, found, min_cosine=0.99, min_agreement=0.9)
    assert not parity.passed
    assert parity.reason == "0.7500 of the samples have the original's class, 0.9 must"
    assert compare_loosely(original, found, min_cosine=0.99, min_agreement=0.75).passed


def test_both_reasons_are_told() -> None:
    parity = compare_loosely(STRAIGHT, _turned(90), min_cosine=0.9, min_agreement=0.9)
    assert parity.reason == (
        "the cosine of the worst sample with the original is 0.0000, below 0.9; "
        "0.5000 of the samples have the original's class, 0.9 must"
    )


def test_outputs_that_are_no_classes_are_held_to_their_direction_alone() -> None:
    parity = compare_loosely(np.array([[2.0], [-3.0]]), np.array([[2.5], [-1.0]]), min_cosine=1.0, min_agreement=1.0)
    assert (parity.passed, parity.top1_agreement) == (True, None)
    assert not compare_loosely(np.array([[2.0]]), np.array([[-2.0]]), min_cosine=0.0, min_agreement=0.0).passed


@pytest.mark.parametrize("found", [STRAIGHT[:1], np.where(STRAIGHT > 2, np.nan, STRAIGHT), STRAIGHT + np.inf])
def test_what_cannot_be_compared_does_not_pass_loosely_either(found: np.ndarray[Any, Any]) -> None:
    parity = compare_loosely(STRAIGHT, found, min_cosine=-1.0, min_agreement=0.0)
    assert not parity.passed
    assert parity.reason
    assert parity.cosine is None


@pytest.mark.parametrize("found", [np.array([[5.0, 1.0]]), np.array([[1e-300, 1.0]])])
def test_a_value_beside_a_zero_of_the_original_has_no_relative_distance_and_can_be_stored(
    found: np.ndarray[Any, Any],
) -> None:
    # After a ReLU an int8 engine gives 5 where the original gives 0: divided, that is infinite, and JSON has none.
    parity = compare_loosely(np.array([[0.0, 1.0]]), found, min_cosine=-1.0, min_agreement=0.0)
    assert parity.max_rel is None
    assert json.loads(canonical_json(parity.model_dump(mode="json")))["max_abs"] == found[0, 0]
    with_floor = compare(np.array([[0.0, 1.0]]), np.array([[5.0, 1.0]]), atol=0.5, rtol=0)
    assert with_floor.max_rel == 10


@given(st.integers(-300, 300), st.integers(-300, 300))
@example(200, 200)  # squares beyond what float64 holds
@example(-200, -200)
def test_the_cosine_knows_no_scale(mine: int, other: int) -> None:
    angle = np.deg2rad(60)
    original, found = np.array([[1.0, 0.0]]) * 10.0**mine, np.array([[np.cos(angle), np.sin(angle)]]) * 10.0**other
    parity = compare_loosely(original, found, min_cosine=0.6, min_agreement=0.0)
    assert parity.cosine == pytest.approx(0.5)
    assert not parity.passed


# ------------------------------------------------------------------------- held against NVIDIA's Polygraphy
#
# Where the two differ, on purpose:
#   - Polygraphy passes a value within atol OR within rtol x |original|; ours within their SUM, as NumPy's allclose and
#     ONNX's own tests do. So what Polygraphy passes we pass, and what we pass it passes with both tolerances doubled.
#     With one of the two at 0 the rules are the same.
#   - Polygraphy divides by 2.2e-16 where the original is 0; ours by atol where that is larger, or there is no ratio.
#   - Polygraphy takes one cosine over the whole array, where a sample with small outputs weighs nothing. Ours is the
#     lowest of all samples' own, and holds for outputs whose squares are too small or large for a float, too.
#   - Polygraphy's relative error and verdict are about its second argument: that one is the original here.

NUMBERS = st.floats(-100, 100, allow_subnormal=False).map(lambda value: round(value, 6))
TOLERANCES = st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 1.0])


@st.composite
def pairs(draw: st.DrawFn, samples: st.SearchStrategy[int] = st.integers(1, 4)) -> Pair:  # noqa: B008 - a strategy
    """Draw an original and an engine's outputs that are as far from it as a tolerance is, or much farther."""
    shape = (draw(samples), draw(st.integers(1, 6)))
    original = draw(arrays.arrays(np.float64, shape, elements=NUMBERS))
    step = draw(st.sampled_from([0.0, 1e-7, 1e-4, 0.01, 3.0]))
    noise = draw(arrays.arrays(np.float64, shape, elements=st.integers(-1000, 1000).map(lambda value: value / 1000)))
    return original, original + step * noise


def _polygraphy(comparator: Any, original: NDArray[Any], found: NDArray[Any]) -> Any:
    """Return what a comparator of Polygraphy's says of one output."""
    engine, reference = IterationResult({"output": found}), IterationResult({"output": original})
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):  # it prints each comparison
        return comparator(engine, reference)["output"]


@given(pairs(), TOLERANCES, TOLERANCES)
def test_what_polygraphy_passes_we_pass_and_what_we_pass_it_passes_at_twice_the_tolerance(
    pair: Pair, atol: float, rtol: float
) -> None:
    original, found = pair
    ours = compare(original, found, atol=atol, rtol=rtol).passed
    if _polygraphy(SimpleCompareFunc(atol=atol, rtol=rtol), original, found):
        # A hair more, because a / b <= r and a <= r * b are rounded differently.
        assert compare(original, found, atol=atol, rtol=rtol * (1 + 1e-12) + 1e-15).passed
    if ours:
        assert _polygraphy(SimpleCompareFunc(atol=2 * atol, rtol=2 * rtol + 1e-15), original, found)


def test_a_value_within_the_sum_of_the_tolerances_passes_here_and_not_at_polygraphy() -> None:
    original = np.array([[10.0]])  # atol allows 0.1, rtol 0.1, and both together 0.2
    for found, ours, theirs in ((10.09, True, True), (10.19, True, False), (10.21, False, False)):
        engine = np.array([[found]])
        assert compare(original, engine, atol=0.1, rtol=0.01).passed == ours
        assert bool(_polygraphy(SimpleCompareFunc(atol=0.1, rtol=0.01), original, engine)) == theirs


@given(pairs(), TOLERANCES, TOLERANCES)
def test_the_verdict_is_numpys(pair: Pair, atol: float, rtol: float) -> None:
    original, found = pair
    assert compare(original, found, atol=atol, rtol=rtol).passed == np.allclose(found, original, atol=atol, rtol=rtol)


@given(pairs(), TOLERANCES)
def test_with_an_absolute_tolerance_alone_the_verdicts_are_the_same(pair: Pair, atol: float) -> None:
    original, found = pair
    theirs = _polygraphy(SimpleCompareFunc(atol=atol, rtol=0.0), original, found)
    assert compare(original, found, atol=atol, rtol=0.0).passed == bool(theirs)


@given(pairs(), TOLERANCES)
def test_the_largest_distances_are_polygraphys(pair: Pair, atol: float) -> None:
    original, found = pair
    ours, theirs = compare(original, found, atol=atol, rtol=0.0), _polygraphy(SimpleCompareFunc(), original, found)
    assert ours.max_abs == theirs.max_absdiff
    if np.abs(original).min() > atol:
        assert ours.max_rel == theirs.max_reldiff


@given(pairs(samples=st.just(1)))
def test_the_cosine_of_one_sample_is_polygraphys(pair: Pair) -> None:
    original, found = pair
    theirs = _polygraphy(CosineSimilarityCompareFunc(), original, found).cosine_similarity
    assert compare(original, found, atol=0.0, rtol=0.0).cosine == pytest.approx(theirs, abs=1e-9)


@given(pairs())
def test_the_cosine_of_many_samples_is_the_lowest_that_polygraphy_finds_for_one(pair: Pair) -> None:
    original, found = pair
    each = [
        _polygraphy(CosineSimilarityCompareFunc(), one, other).cosine_similarity
        for one, other in zip(original, found, strict=True)
    ]
    assert compare(original, found, atol=0.0, rtol=0.0).cosine == pytest.approx(min(each), abs=1e-9)


def test_a_small_sample_that_points_backwards_is_seen_by_us_and_not_by_polygraphy() -> None:
    original = np.array([[100.0, 0.0], [1.0, 0.0]])
    found = np.array([[100.0, 0.0], [-1.0, 0.0]])
    assert _polygraphy(CosineSimilarityCompareFunc(), original, found).cosine_similarity > 0.999
    assert compare_loosely(original, found, min_cosine=0.98, min_agreement=0.0).cosine == -1
