"""When an engine's answers count as the original's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.engines.parity import compare

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
