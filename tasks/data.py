"""What a trainer learns from and is judged on: arrays in three splits, with a digest that names them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and their labels; compare two by ``digest``.

    Args:
        inputs: Shape (n, ...), n >= 1, in the dtype that the model takes.
        labels: Shape (n,), one for each input; class numbers from 0 for a classifier.
    """

    inputs: NDArray[Any]
    labels: NDArray[Any]

    def __post_init__(self) -> None:
        """Refuse anything but as many labels as inputs, and at least one of each."""
        kinds = [type(array).__name__ for array in (self.inputs, self.labels) if not isinstance(array, np.ndarray)]
        if kinds:
            raise InvalidInputError(
                f"a split is made of two numpy arrays, inputs and labels; found {', '.join(kinds)}."
            )
        if self.labels.ndim != 1 or len(self.labels) == 0 or self.inputs.shape[:1] != self.labels.shape:
            raise InvalidInputError(
                f"a split needs inputs of shape (n, ...) and labels of shape (n,), n >= 1; found {self.inputs.shape} "
                f"and {self.labels.shape}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """``sha256:`` and the digest of both arrays: their bytes, shapes and dtypes."""
        state = hashlib.sha256()
        for array in (self.inputs, self.labels):
            state.update(f"{array.dtype.str}{array.shape}".encode())
            state.update(np.ascontiguousarray(array).data)
        return f"sha256:{state.hexdigest()}"


@dataclass(frozen=True, eq=False)
class Splits:
    """Three splits of one data set: to learn from, to choose by, and to judge by, which no choice may look at."""

    train: Split
    validation: Split
    test: Split

    @cached_property
    def digest(self) -> str:
        """``sha256:`` and the digest of the three splits' digests, in order."""
        digests = "\n".join(split.digest for split in (self.train, self.validation, self.test))
        return f"sha256:{hashlib.sha256(digests.encode()).hexdigest()}"
