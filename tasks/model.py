"""What a trainer returns: the model object, and all that is to be recorded with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from pydantic_core import core_schema

from registry.errors import InvalidInputError
from registry.frameworks.kinds import ModelFramework
from registry.metrics import ModelMetrics
from registry.names import check_name
from registry.versions import Bump

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.records import ModelVersion
    from registry.registry import ModelRegistry
    from registry.versions import VersionRef


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A trained model on its way into the registry; ``registered`` is the version that it became.

    Args:
        data: The model: a torch module, a dict of tensors, an ONNX ModelProto, or bytes.
        name: The model's name in the registry.
        register: Register it when the step that returns it ends.
        version: The label to register it under; None for the next one.
        bump: Which part of a semantic version to count up instead: ``major``, ``minor`` or ``patch``.
        framework: What made it; None to go by the type of ``data``.
        metrics: Finite numbers by name; NaN is taken as missing. None where nothing was measured.
        parameters: The training's parameters, anything that JSON can hold.
        tags: Pairs, or plain words.
        description: Words for people.
        samples: Real inputs, shape (n, ...), n >= 1: at most 64 are kept with the model's own outputs for them.
        lineage: Where it comes from: data digests, code revision; anything that JSON can hold.
        registered: Set once it is registered; ``version`` is its label then.
    """

    data: Any
    name: str
    register: bool = False
    version: VersionRef | None = None
    bump: Bump | str | None = None
    framework: ModelFramework | str | None = None
    metrics: Mapping[str, float] | None = None
    parameters: Mapping[str, Any] | None = None
    tags: Mapping[str, str] | Iterable[str] | None = None
    description: str = ""
    samples: NDArray[Any] | None = None
    lineage: Mapping[str, Any] | None = None
    registered: ModelVersion | None = None

    def __post_init__(self) -> None:
        """Refuse here what the registry would refuse later, and bring metrics and framework into their own types.

        Raises:
            InvalidInputError: A field holds what it cannot; the message names the field.
        """
        check_name(self.name)
        if self.data is None:
            raise InvalidInputError(f"Model {self.name!r} has no data: give it the trained object as data=.")
        for name, kinds, words in _KINDS:
            if not isinstance(getattr(self, name), kinds):
                raise self._wrong(name, words)
        if self.version is not None and self.bump is not None:
            raise InvalidInputError(f"Model {self.name!r}: give version= or bump=, not both; each decides the label.")
        if self.bump is not None and self.bump not in set(Bump):
            raise self._wrong("bump", f"one of {', '.join(Bump)}")
        if self.samples is not None and not getattr(self.samples, "shape", ()):
            raise self._wrong("samples", "a numpy array whose first axis is the batch")
        if self.framework is not None:
            object.__setattr__(self, "framework", ModelFramework.parse(self.framework))
        if self.metrics is not None:
            object.__setattr__(self, "metrics", ModelMetrics.of(self.metrics).as_dict())

    def register_in(self, registry: ModelRegistry, *, idempotency_key: str | None = None) -> ModelVersion:
        """Register it, and return the version that it became.

        Args:
            registry: Where to.
            idempotency_key: The same key gives the same version, however often the call is repeated.

        Raises:
            ModelwayError: It could not be registered; ``ModelRegistry.register`` says what for.
        """
        return registry.register(
            self.name,
            model=self.data,
            version=self.version,
            bump=self.bump,
            framework=self.framework,
            metrics=self.metrics,
            parameters=self.parameters,
            tags=self.tags,
            description=self.description,
            samples=self.samples,
            lineage=self.lineage,
            idempotency_key=idempotency_key,
        )

    def become(self, version: ModelVersion) -> Model:
        """Return the same Model, knowing the version that it was registered as."""
        return replace(self, version=version.version, bump=None, registered=version)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> core_schema.CoreSchema:
        """Be one thing in a pydantic model and in a flow's parameters: fields would be read, and weights copied."""
        return core_schema.is_instance_schema(cls)

    def _wrong(self, name: str, wanted: str) -> InvalidInputError:
        found = getattr(self, name)
        kind = type(found).__name__
        return InvalidInputError(f"Model {self.name!r}: {name} must be {wanted}; found {found!r} ({kind}).")

    def __repr__(self) -> str:
        """Show what is set, the object only by its type: weights are not to fill a log."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        given["registered"] = self.registered and self.registered.full_name
        shown = [f"{name}={value!r}" for name, value in given.items() if name not in _LARGE and value not in (None, "")]
        return f"Model(data=<{type(self.data).__name__}>, {', '.join(shown)})"


_LARGE = {"data", "samples"}
_KINDS: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("register", (bool,), "True or False"),
    ("description", (str,), "text"),
    ("version", (int, str, type(None)), "a number or a label"),
    ("metrics", (Mapping, type(None)), "a dict of numbers by name"),
    ("parameters", (Mapping, type(None)), "a dict"),
    ("lineage", (Mapping, type(None)), "a dict"),
    ("tags", (Mapping, list, tuple, set, frozenset, type(None)), "a dict, or a list of words"),
)
