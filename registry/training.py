"""Whatever trains: found among what a caller gave, held against its inputs, run, and described for the record."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from registry.errors import InvalidInputError, did_you_mean
from registry.metrics import ModelMetrics
from registry.names import near

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.signature import Signature


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModel:
    """What a trainer may return where the model and its metrics do not say everything.

    Args:
        model: The object, or the path of the file or folder that it was saved to.
        metrics: Numbers by name.
        parameters: What the trainer settled itself (epochs until it stopped early), beside the config's own.
        samples: Real inputs, shape (n, ...), n >= 1: kept with the model's own outputs, and needed to serve it.
        signature: Inputs and outputs, where the framework cannot tell.
        lineage: Where it comes from, beside trainer and inputs, which are recorded without being asked.
    """

    model: Any
    metrics: ModelMetrics | Mapping[str, float] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    samples: NDArray[Any] | None = None
    signature: Signature | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trainer:
    """A function that trains, what it takes by position, and its name for the record."""

    function: Callable[..., Any]
    given: tuple[Any, ...] = ()

    @classmethod
    def of(cls, config: Any, trainer: Callable[..., Any] | str | None) -> Trainer:
        """Return the trainer that the caller means.

        Raises:
            InvalidInputError: There is none.
        """
        if trainer is not None:
            function = _named(trainer) if isinstance(trainer, str) else trainer
            return cls(function, () if config is None else (config,))
        if isinstance(config, type):
            raise InvalidInputError(f"config is the class {config.__name__}: give an object, {config.__name__}(...).")
        if callable(train := getattr(config, "train", None)):
            return cls(train)
        if callable(config):
            return cls(config)
        raise InvalidInputError(
            f"nothing here can train: config is a {type(config).__name__} without a method train. Give it one, or give "
            f"trainer=, a function that takes the config and returns the model."
        )

    @property
    def name(self) -> str:
        """The function as ``module:qualname``; of an object that is called, its class."""
        function = self.function if hasattr(self.function, "__qualname__") else type(self.function)
        return f"{function.__module__}:{function.__qualname__}"

    def check(self, inputs: Mapping[str, Any], *, beside: Iterable[str]) -> None:
        """Refuse inputs that the trainer does not take.

        Args:
            inputs: What it is to be called with, by name.
            beside: Names that are no inputs, one of which may have been meant.

        Raises:
            InvalidInputError: It does not take one of them, or needs another.
        """
        try:
            signature = inspect.signature(self.function)
        except ValueError:
            return  # written in C: it says only when it is called
        try:
            signature.bind(*self.given, **inputs)
        except TypeError as error:
            known = list(beside)
            mistyped = [word for name in inputs if name not in signature.parameters for word in near(name, known)]
            taken = ", ".join(map(str, signature.parameters.values())) or "nothing"
            raise InvalidInputError(
                f"{self.name} cannot be called with what was given: {error}. It takes: {taken}.{did_you_mean(mistyped)}"
                f" Nothing was trained."
            ) from None

    def train(self, inputs: Mapping[str, Any]) -> TrainedModel:
        """Return what the trainer made, in the one form.

        Raises:
            InvalidInputError: It is no model, and no pair of model and metrics.
        """
        made = self.function(*self.given, **inputs)
        if isinstance(made, TrainedModel):
            return made
        if isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Mapping | ModelMetrics):  # noqa: PLR2004 - a pair
            return TrainedModel(model=made[0], metrics=made[1])
        if made is None or isinstance(made, tuple):
            raise InvalidInputError(
                f"{self.name} returned {'nothing' if made is None else f'{len(made)} things'}; it must return the "
                f"model, or (model, metrics), or registry.TrainedModel(model=..., samples=...). Nothing was registered."
            )
        return TrainedModel(model=made)


def _named(entry_point: str) -> Callable[..., Any]:
    try:
        found = pkgutil.resolve_name(entry_point)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInputError(
            f"trainer {entry_point!r} cannot be imported: {error}. Write module:function, for example mine.train:train."
        ) from error
    if not callable(found):
        raise InvalidInputError(f"trainer {entry_point!r} is {found!r}, which cannot be called.")
    return found  # type: ignore[no-any-return]


def fields_of(config: Any) -> dict[str, Any]:
    """Return what a config holds, by name; without names that begin with ``_`` and fields that its ``repr`` hides."""
    if isinstance(config, Mapping):
        found = dict(config)
    elif isinstance(config, BaseModel):
        found = {name: getattr(config, name) for name in type(config).model_fields}
    elif dataclasses.is_dataclass(config):
        found = {one.name: getattr(config, one.name) for one in dataclasses.fields(config) if one.repr}
    else:
        found = getattr(config, "__dict__", {})
    return {str(name): value for name, value in found.items() if not str(name).startswith("_")}


def recorded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``values`` that JSON holds, paths as text and records as dicts."""
    kept = {}
    for name, value in values.items():
        with contextlib.suppress(ValueError, TypeError):
            kept[name] = json.loads(json.dumps(to_jsonable_python(value), allow_nan=False))
    return kept
