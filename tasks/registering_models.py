"""What a step gives, with its Models registered: once, however often the step is tried or its flow passed through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from registry import InMemoryRegistry, ModelRegistry, ModelVersion, RegistryConfig, default_registry
from registry.config import configured_storage_options
from registry.errors import InvalidInputError, ModelwayError
from registry.integration import Place
from tasks.assets import materialise
from tasks.containers import Replacing
from tasks.model import Model
from tasks.telling import tell


class Registry:
    """The registry that a step registers in: found when it is needed, and the same one in another process."""

    def __init__(self, place: Place | None) -> None:
        """Take a registry, or where it lies; None for the default one."""
        self._place = place

    def opened(self) -> ModelRegistry:
        """Return it; the default one is that of this moment."""
        if self._place is None:
            return default_registry()
        return self._place if isinstance(self._place, ModelRegistry) else ModelRegistry(self._place)

    def __reduce__(self) -> tuple[type[Registry], tuple[RegistryConfig]]:
        """Leave for a worker as an address: a path is another one from the worker's folder, and so is the default."""
        registry = self.opened()
        if isinstance(registry, InMemoryRegistry) or registry.url.startswith("memory:"):
            raise InvalidInputError(
                f"a step cannot register in {registry.url} from another process: that registry is in this one's "
                f"memory. Give the step a folder or a bucket, or run it in threads."
            )
        options = registry.config.storage_options or configured_storage_options()
        config = registry.config.model_copy(
            update={"url": registry.url, "bucket_name": None, "storage_options": options}
        )
        return Registry, (config,)


class Registering:
    """One try of a step: registers the Models in all that it gives."""

    def __init__(self, registry: Registry, key: str | None) -> None:
        """Take where to register, and what the idempotency keys begin with; None for a call that stands alone."""
        self._registry, self._key = registry, key
        self._numbers: dict[str, int] = {}
        # A generator's Models go when the caller lets them go.
        self._done: WeakKeyDictionary[Model, Model] = WeakKeyDictionary()

    def in_place(self, given: Any) -> Any:
        """Return the same value with its Models registered."""
        return Replacing(Model, self._registered).walk(given)

    def _registered(self, model: Model) -> Model:
        if not model.register or model.registered is not None:
            return model
        if model not in self._done:
            self._done[model] = self._register(model)
        return self._done[model]

    def _register(self, model: Model) -> Model:
        number = self._numbers[model.name] = self._numbers.get(model.name, 0) + 1
        key = None if self._key is None else f"{self._key}:{model.name}-{number}"
        registry = self._registry.opened()
        stood = None if key is None else registry.find_done(model.name, "reserved", key)
        version = stood or model.register_in(registry, idempotency_key=key)
        materialise(version)
        if stood is not None:
            return _as_registered(registry, model, version)
        tell("register", f"registered {version.full_name}")
        return model.become(version)


def _as_registered(registry: ModelRegistry, model: Model, version: ModelVersion) -> Model:
    """Return the Model that an earlier try or pass has registered, in place of the one that was made this time.

    The registry keeps what it got first, and a training that is repeated may end with other weights and numbers. Who
    goes on with the Model must not measure, say, what nobody can load afterwards.
    """
    tell("register", f"{version.full_name} was registered by an earlier try or pass: taken as it was registered then")
    data = model.data
    try:
        data = registry.load(version.name, version.version)
    except ModelwayError as error:
        words = f"It cannot be loaded here, so data is what this try has made, which may differ: {error}"
        tell("register", f"{version.full_name}: {words}")
    return replace(
        model.become(version),
        data=data,
        metrics=version.metrics.as_dict(),
        parameters=version.parameters,
        tags=version.tags,
        description=version.description,
        lineage=version.described.lineage,
    )
