"""Loading and unloading while the process serves: everything is opened beside what serves, then one assignment."""

from __future__ import annotations

import asyncio
import hmac
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.endpoints.catalog import Catalog, open_catalog, read_models
from registry.endpoints.serving import ServedModels, ServerConfig
from registry.endpoints.tensors import ProtocolError
from registry.errors import ModelwayError

if TYPE_CHECKING:
    from collections.abc import Collection

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A version that the models file lists, and why it does not answer if it does not."""

    name: str
    version: str
    ready: bool
    reason: str = ""

    @property
    def state(self) -> str:
        """The protocol's word for it: READY or UNAVAILABLE."""
        return "READY" if self.ready else "UNAVAILABLE"


class Control:
    """Decides which catalog is served; ``catalog`` is replaced as a whole, in the event loop's thread alone."""

    def __init__(self, config: ServerConfig, *, token: str) -> None:
        """Open what the models file lists, nothing where there is no such file.

        Raises:
            IntegrityError: A file has another sha256 than it should; it was not opened.
            EngineError: A file is missing or no model, or the model's tensors are not all numbers.
            InvalidInputError: The models file is there and is none.
        """
        self._config = config
        self._token = token
        self._turn = asyncio.Lock()
        self._unloaded: dict[str, list[str]] = {}
        self._failed: dict[tuple[str, str], str] = {}
        models = read_models(config.models_file) if config.models_file.exists() else ServedModels()
        self.catalog = open_catalog(models, engine_threads=config.engine_threads)

    async def load(self, model: str, token: str | None, *, parameters: Collection[str] = ()) -> None:
        """Read the models file again and serve what it lists; what served before still does until all of it is open.

        Args:
            model: One that the file lists.
            token: What the caller sent as its right to do so.
            parameters: Names of what the caller wants to be loaded otherwise than the file says, all refused.

        Raises:
            ProtocolError: No right (401), a parameter or something that cannot be opened (400), or a model that the
                file does not list (404). Nothing was changed.
        """
        self._check(token)
        if parameters:
            raise ProtocolError(f"a model is loaded as the models file says, without {', '.join(sorted(parameters))}")
        async with self._turn:
            try:
                models = await asyncio.to_thread(self._admitted, model)
                opened = await asyncio.to_thread(self._opened, models)
            except ModelwayError as error:
                _log.warning("%s was not loaded, and what served before still does: %s", model, error)
                raise error if isinstance(error, ProtocolError) else ProtocolError(str(error)) from error
            self._failed = {}
            self._unloaded.pop(model, None)
            self.catalog = opened.only(opened.models - set(self._unloaded))
            _log.info("generation %s is served: %s", opened.generation, self._words())

    async def unload(self, model: str, token: str | None) -> None:
        """Serve a model no more, until it is loaded again; requests under way are answered.

        Raises:
            ProtocolError: No right (401), or no such model here (404).
        """
        self._check(token)
        async with self._turn:
            if model not in self.catalog.models and model not in self._unloaded:
                raise ProtocolError(f"no model {model[:80]!r} at this endpoint", status=404)
            self._unloaded.setdefault(model, self.catalog.numbers_of(model))
            self.catalog = self.catalog.only(self.catalog.models - {model})
            _log.info("%s was unloaded; served now: %s", model, self._words())

    def served(self, token: str | None) -> ServedModels:
        """Return what is served at this moment, which may differ from a models file that was written since.

        Raises:
            ProtocolError: No right (401).
        """
        self._check(token)
        versions = tuple(loaded.served for loaded in self.catalog.versions)
        return ServedModels(generation=self.catalog.generation, versions=versions)

    def index(self) -> list[IndexEntry]:
        """Return every version that is served, then those that are not, with the reason."""
        ready = {(loaded.served.model, loaded.served.address): "" for loaded in self.catalog.versions}
        unloaded = {(model, address): "unloaded" for model, of_model in self._unloaded.items() for address in of_model}
        reasons = {**self._failed, **unloaded, **ready}
        return [IndexEntry(*key, ready=key in ready, reason=reasons[key]) for key in {**ready, **reasons}]

    def _admitted(self, model: str) -> ServedModels:
        models = read_models(self._config.models_file)
        if model not in {served.model for served in models.versions}:
            raise ProtocolError(f"no model {model[:80]!r} in the models file", status=404)
        return models

    def _opened(self, models: ServedModels) -> Catalog:
        try:
            return open_catalog(models, engine_threads=self._config.engine_threads, known=self.catalog)
        except ModelwayError as error:
            self._failed = {(served.model, served.address): str(error) for served in models.versions}
            raise

    def _check(self, token: str | None) -> None:
        if token is None or not hmac.compare_digest(token.encode(), self._token.encode()):
            raise ProtocolError(
                "models are loaded, unloaded and listed with their files only with the header Authorization: Bearer "
                "TOKEN, and the token stands in the server's state file",
                status=401,
            )

    def _words(self) -> str:
        served = (
            f"{one.served.model}:{one.served.version} as {one.served.role}, {one.served.share:.0%}"
            for one in self.catalog.versions
        )
        return "; ".join(served) or "nothing"


def bearer(authorization: str | None) -> str | None:
    """Return the token in an ``Authorization`` header, None where there is none."""
    kind, _, token = (authorization or "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None
