"""The functions that a pipeline file names, called, and what they give back held against what is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from registry.errors import InvalidPipelineError
from registry.metrics import ModelMetrics
from tasks.data import Splits
from tasks.entry_points import call
from tasks.model import Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.pipeline import EntryPoint

_Kind = TypeVar("_Kind")

Progress = Callable[[int, int, str], None]
"""Called with how much is done, of how much, and words on where it stands."""


def load_splits(data: EntryPoint) -> Splits:
    """Return the data to train and judge with.

    Raises:
        InvalidPipelineError: The function cannot be called so, or gives anything but Splits.
    """
    return _checked(data, call(data.entry_point, data.parameters), Splits, "tasks.data.Splits(train, validation, test)")


def train(trainer: EntryPoint, splits: Splits, *, progress: Progress | None = None) -> Model:
    """Return the trained model; the function hears of ``progress`` if it has a parameter of that name.

    Raises:
        InvalidPipelineError: The function cannot be called so, or gives anything but a Model.
    """
    trained = call(trainer.entry_point, trainer.parameters, splits, progress=progress)
    return _checked(trainer, trained, Model, "tasks.Model(data=..., name=..., metrics=..., register=True)")


def evaluate(evaluation: EntryPoint, outputs: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Return the metrics by name.

    Args:
        evaluation: The function and its parameters.
        outputs: What a model gave, shape (n, ...).
        labels: What was right, shape (n,).

    Raises:
        InvalidPipelineError: The function cannot be called so, or gives anything but a dict.
        InvalidInputError: One of the metrics is no number, or infinite.
    """
    measured = call(evaluation.entry_point, evaluation.parameters, outputs, labels)
    return ModelMetrics.of(_checked(evaluation, measured, dict, "a dict of numbers by name")).as_dict()


def _checked(step: EntryPoint, result: object, kind: type[_Kind], wanted: str) -> _Kind:
    if isinstance(result, kind):
        return result
    raise InvalidPipelineError(f"{step.entry_point} gave a {type(result).__name__}; it must return {wanted}.")
