"""Hold an engine's outputs against the original's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.engines.records import Parity

if TYPE_CHECKING:
    from numpy.typing import NDArray


def compare(reference: NDArray[Any], found: NDArray[Any], *, atol: float, rtol: float) -> Parity:
    """Compare outputs value by value; it passes if every one is within ``atol + rtol * |reference|``.

    ``max_rel`` divides by ``|reference|``, or by ``atol`` where that is larger, so that a value next to zero does not
    drown the others; it is missing where something differs from a 0 and ``atol`` is 0. ``cosine`` is that of the worst
    sample. ``top1_agreement`` (0 to 1) is given for outputs of shape (n, classes), classes >= 2, and for whole numbers
    of shape (n,), which are the classes themselves.

    Args:
        reference: The original's outputs, shape (n, ...), numbers.
        found: The engine's outputs for the same samples.
        atol: Absolute tolerance, >= 0, in the outputs' unit.
        rtol: Relative tolerance, >= 0.
    """
    samples = reference.shape[0] if reference.ndim else 0
    if trouble := _incomparable(reference, found):
        return Parity(samples=samples, max_abs=None, max_rel=None, cosine=None, passed=False, reason=trouble)
    original, other = (array.astype(np.float64).reshape(len(array), -1) for array in (reference, found))
    distance, size = np.abs(other - original), np.abs(original)
    outside = int(np.count_nonzero(distance > atol + rtol * size))
    max_abs = float(distance.max(initial=0.0))
    return Parity(
        samples=samples,
        max_abs=max_abs,
        max_rel=_largest_relative(distance, np.maximum(size, atol)),
        cosine=_lowest_cosine(original, other),
        top1_agreement=_top1(reference, found),
        passed=outside == 0,
        reason=_words(outside, distance.size, max_abs, atol, rtol) if outside else "",
    )


def compare_loosely(reference: NDArray[Any], found: NDArray[Any], *, min_cosine: float, min_agreement: float) -> Parity:
    """Compare the outputs of an engine of less precision, which rounds all values; distances are as in ``compare``.

    It passes if the worst sample's outputs point where the original's do, and the answers are the same often enough.

    Args:
        reference: The original's outputs, shape (n, ...), numbers.
        found: The engine's outputs for the same samples.
        min_cosine: The least cosine of a sample's outputs with the original's, -1 to 1.
        min_agreement: The least share of samples with the same largest class, 0 to 1; for outputs that are classes.
    """
    parity = compare(reference, found, atol=0.0, rtol=0.0)
    if parity.cosine is None:
        return parity
    reasons = []
    if parity.cosine < min_cosine:
        worst = f"the cosine of the worst sample with the original is {parity.cosine:.4f}"
        reasons.append(f"{worst}, below {min_cosine:g}")
    if parity.top1_agreement is not None and parity.top1_agreement < min_agreement:
        share = f"{parity.top1_agreement:.4f} of the samples have the original's class"
        reasons.append(f"{share}, {min_agreement:g} must")
    return parity.model_copy(update={"passed": not reasons, "reason": "; ".join(reasons)})


def _incomparable(reference: NDArray[Any], found: NDArray[Any]) -> str:
    if reference.shape != found.shape:
        return f"the original gives shape {reference.shape}, the engine {found.shape}"
    if reference.ndim == 0 or len(reference) == 0:
        return "there are no samples to compare on"
    for whose, array in (("the original", reference), ("the engine", found)):
        if bad := int(np.count_nonzero(~np.isfinite(array))):
            return f"{bad} of {array.size} values that {whose} gives are NaN or infinite"
    return ""


def _words(outside: int, values: int, max_abs: float, atol: float, rtol: float) -> str:
    return (
        f"{outside} of {values} values are further from the original than {atol:g} + {rtol:g} x |value|; "
        f"the largest difference is {max_abs:.3g}"
    )


def _largest_relative(distance: NDArray[np.float64], size: NDArray[np.float64]) -> float | None:
    different = distance > 0
    with np.errstate(divide="ignore", over="ignore"):
        largest = float((distance[different] / size[different]).max(initial=0.0))
    return largest if math.isfinite(largest) else None  # what is stored as JSON has no infinity


def _lowest_cosine(original: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    # The largest value of each row becomes 1: squares of very large or small ones would leave the range of float64.
    original, other = _of_largest_one(original), _of_largest_one(other)
    lengths = np.linalg.norm(original, axis=1) * np.linalg.norm(other, axis=1)
    products = np.einsum("ij,ij->i", original, other)
    # Two zero vectors agree; one beside another vector has no direction in common with it.
    equal = np.all(original == other, axis=1).astype(np.float64)
    cosines = np.divide(products, lengths, out=equal, where=lengths > 0)
    return float(np.clip(cosines.min(), -1.0, 1.0))


def _of_largest_one(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    return rows / np.where(largest > 0, largest, 1.0)


def _top1(original: NDArray[Any], other: NDArray[Any]) -> float | None:
    match original.shape:
        case (_, classes) if classes > 1:
            return float(np.mean(original.argmax(axis=1) == other.argmax(axis=1)))
        case (_,) if original.dtype.kind in "iub":
            return float(np.mean(original == other))
    return None
