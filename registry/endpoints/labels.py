"""Which class each of the last requests was answered with, for the right ones that come back later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, ValidationError

from registry.base import Record
from registry.endpoints.tensors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from registry.endpoints.statistics import Counters
    from registry.endpoints.tensors import Array

_MAX_REQUESTS = 100_000
_MAX_SAMPLES = 1_000_000
_MAX_LABELS = 10_000  # at once: reading them takes some 10 ms, for which the event loop stands still
_MAX_ID_CHARACTERS = 200
_CLASSES_AND_ROWS = 2  # an output of shape (n, k), k numbers for each sample


class Label(Record):
    """The right class of a request with one sample, or of each of its samples; ``id`` is what the client called it."""

    id: str
    label: int | list[int]


class Labels(Record):
    """The body of a request that tells labels."""

    labels: list[Label] = Field(max_length=_MAX_LABELS)


class AnsweredClasses:
    """The classes of the last 100,000 requests that had an id, of at most a million samples; the oldest go first."""

    def __init__(self, *, max_requests: int = _MAX_REQUESTS, max_samples: int = _MAX_SAMPLES) -> None:
        """Begin with none."""
        self._max_requests, self._max_samples = max_requests, max_samples
        self._known: dict[tuple[str, str], list[tuple[Counters, NDArray[np.int64]]]] = {}
        self._samples = 0

    def remember(self, model: str, name: str, counters: Counters, outputs: Mapping[str, Array]) -> None:
        """Keep the classes that a version answered a request with; a shadow's stand beside those of its model.

        What cannot be read as classes is not kept, and neither is what has no place at all.
        """
        classes = classes_in(outputs)
        if classes is None or len(name) > _MAX_ID_CHARACTERS or len(classes) > self._max_samples:
            return
        # Of another answer under the same id by the same version only the later one counts.
        answers = [one for one in self._forget(model, name) if one[0] is not counters]
        self._known[model, name] = [*answers, (counters, classes)]
        self._samples += len(classes) + sum(len(others) for _, others in answers)
        while len(self._known) > self._max_requests or self._samples > self._max_samples:
            self._forget(*next(iter(self._known)))

    def tell(self, model: str, labels: Labels) -> int:
        """Count right and wrong for every version that answered, and return how many requests were still known.

        A request counts once, sample by sample; one that is told another number of labels than it had samples is not.
        """
        matched = 0
        for told in labels.labels:
            right = np.atleast_1d(np.array(told.label, dtype=object))
            answers = self._known.get((model, told.id), [])
            if not answers or any(len(classes) != len(right) for _, classes in answers):
                continue
            for counters, classes in self._forget(model, told.id):
                counters.labelled += len(classes)
                counters.correct += int((classes == right).sum())
            matched += 1
        return matched

    def _forget(self, model: str, name: str) -> list[tuple[Counters, NDArray[np.int64]]]:
        answers = self._known.pop((model, name), [])
        self._samples -= sum(len(classes) for _, classes in answers)
        return answers


def read_labels(body: bytes) -> Labels:
    """Return the labels that a client tells.

    Raises:
        ProtocolError: The body is not of that form.
    """
    try:
        return Labels.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        raise ProtocolError(
            f'{place}: {first["msg"]}; labels are told as {{"labels": [{{"id": "the request\'s", "label": 3}}]}}'
        ) from None


def classes_in(outputs: Mapping[str, Array]) -> NDArray[np.int64] | None:
    """Return the class of each sample: a whole number the model gives, else where its one output is largest.

    Returns:
        Shape (n,); None where the outputs tell no class.
    """
    for array in outputs.values():
        if array.dtype.kind in "iu" and array.ndim >= 1 and array.size == len(array):
            return array.reshape(-1).astype(np.int64)
    if len(outputs) != 1:
        return None
    (scores,) = outputs.values()
    if scores.ndim != _CLASSES_AND_ROWS or scores.dtype.kind != "f" or scores.shape[1] == 0:
        return None
    found: NDArray[np.int64] = scores.argmax(axis=1)
    return found
