"""Metrics of a model from its outputs; an entry point of a pipeline: (outputs, labels) in, numbers by name out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from registry.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def classification(outputs: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Return ``accuracy`` and the macro averages of ``precision``, ``recall`` and ``f1_score``, all in [0, 1].

    The class with the greatest output is the one predicted. Every class counts the same in the averages; one that is
    never predicted has precision 0.

    Args:
        outputs: Scores, logits or probabilities, shape (n, classes), n >= 1, finite.
        labels: The true class numbers, integers, shape (n,), in [0, classes).

    Raises:
        InvalidInputError: Other shapes or values.
        MissingExtraError: scikit-learn is not installed.
    """
    _check(outputs, labels)
    try:
        from sklearn.metrics import accuracy_score, precision_recall_fscore_support
    except ModuleNotFoundError:
        raise MissingExtraError("scikit-learn", "sklearn", "evaluating a classifier") from None
    predicted = outputs.argmax(axis=1)
    precision, recall, f1_score, _ = precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0.0
    )
    found = {"accuracy": accuracy_score(labels, predicted), "precision": precision, "recall": recall}
    return {name: float(value) for name, value in {**found, "f1_score": f1_score}.items()}


def _check(outputs: NDArray[Any], labels: NDArray[Any]) -> None:
    if outputs.ndim != 2 or labels.shape != outputs.shape[:1] or len(labels) == 0 or labels.dtype.kind not in "iu":  # noqa: PLR2004 - two axes
        raise InvalidInputError(
            f"a classifier is evaluated on outputs of shape (n, classes) and integer labels of shape (n,); found "
            f"{outputs.shape} and {labels.shape} of {labels.dtype}."
        )
    if not np.isfinite(outputs).all():
        raise InvalidInputError("the outputs hold NaN or infinities, so no class can be said to be predicted.")
    if labels.min() < 0 or labels.max() >= outputs.shape[1]:
        raise InvalidInputError(
            f"the labels run from {labels.min()} to {labels.max()}, and the model tells {outputs.shape[1]} classes "
            f"apart: 0 to {outputs.shape[1] - 1}."
        )
