"""The metrics of a version: the common ones by name, any other in ``custom``; NaN is kept as missing."""

from __future__ import annotations

import math
from collections.abc import Generator, ItemsView, KeysView, Mapping
from typing import Any, Self

from pydantic import Field, model_validator
from typing_extensions import override

from registry.base import StoredRecord
from registry.errors import InvalidInputError


class ModelMetrics(StoredRecord):
    """Fractions (accuracy to auc_roc) in [0, 1] by convention, errors in the label's unit, latency in milliseconds.

    Reads like a mapping of those that were measured: ``metrics["accuracy"]``, ``metrics.items()``, and iteration gives
    (name, value) pairs.
    """

    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1_score: float | None = None
    auc_roc: float | None = None
    mse: float | None = None
    mae: float | None = None
    latency_ms: float | None = None
    custom: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _missing_where_not_finite(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or not fields:
            return fields
        custom = fields.get("custom", {})
        if not isinstance(custom, dict):
            return fields
        if fields.keys() <= _FIELDS and not any(map(_is_nan, (*fields.values(), *custom.values()))):
            return fields  # as everything that was stored is
        # A metric under a name of its own is a custom one; as a field of its own it would be kept and never read.
        others = {key: value for key, value in fields.items() if key not in _FIELDS and isinstance(value, float | int)}
        kept = {key: value for key, value in fields.items() if key not in others and not _is_nan(value)}
        kept["custom"] = {key: value for key, value in {**others, **custom}.items() if not _is_nan(value)}
        return kept

    @classmethod
    def of(cls, metrics: ModelMetrics | Mapping[str, float] | None) -> Self:
        """Return metrics from what callers give: a plain mapping is sorted into the common names and ``custom``.

        Raises:
            InvalidInputError: A value is no number, or infinite.
        """
        if isinstance(metrics, cls):
            return metrics
        fields: dict[str, Any] = {"custom": {}}
        for name, value in (metrics or {}).items():
            number = _number(name, value)
            if name in cls.model_fields and name != "custom":
                fields[name] = number
            else:
                fields["custom"][name] = number
        return cls(**fields)

    def as_dict(self) -> dict[str, float]:
        """Return the measured ones under their names, the common ones first."""
        common = {
            name: value for name in type(self).model_fields if isinstance(value := getattr(self, name), float | int)
        }
        return {**common, **self.custom}

    def updated(self, newer: ModelMetrics) -> Self:
        """Return these metrics with those of ``newer`` put over them."""
        return self.of({**self.as_dict(), **newer.as_dict()})

    def items(self) -> ItemsView[str, float]:
        """Return the (name, value) pairs that were measured."""
        return self.as_dict().items()

    def keys(self) -> KeysView[str]:
        """Return the names that were measured."""
        return self.as_dict().keys()

    def get(self, name: str, default: float | None = None) -> float | None:
        """Return the value of ``name``, or ``default`` where it was not measured."""
        return self.as_dict().get(name, default)

    def __getitem__(self, name: str) -> float:
        return self.as_dict()[name]

    def __contains__(self, name: object) -> bool:
        return name in self.as_dict()

    @override
    def __iter__(self) -> Generator[tuple[str, Any], None, None]:  # noqa: PYI058 - pydantic's own type; pairs, as document 002 iterates
        yield from self.as_dict().items()

    def __len__(self) -> int:
        return len(self.as_dict())

    def __bool__(self) -> bool:
        return bool(self.as_dict())


_FIELDS = frozenset(ModelMetrics.model_fields)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)  # numpy and torch scalars have __float__
    except (TypeError, ValueError):
        raise InvalidInputError(f"the metric {name!r} is {value!r}, and a metric is a number.") from None
    if isinstance(value, bool | str) or math.isinf(number):
        raise InvalidInputError(
            f"the metric {name!r} is {value!r}, and a metric is a finite number (NaN stands for missing)."
        )
    return number
