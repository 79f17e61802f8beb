"""The seam behind HTTP and gRPC: what a serving process holds open, and the one way a request is answered."""

from __future__ import annotations

import asyncio
import hmac
import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from registry import clock
from registry.endpoints.catalog import Catalog, LoadedVersion, open_catalog, read_models
from registry.endpoints.protocol import InferenceRequest
from registry.endpoints.serving import ServedModels, ServedRole, ServerConfig
from registry.endpoints.tensors import Array, ProtocolError
from registry.errors import ModelwayError

_log = logging.getLogger(__name__)

Spoken = Literal["http", "grpc"]
"""The protocol that a request came by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One request that was answered, or failed after it was understood.

    Args:
        id: What the client called it, None where it did not.
        time: When it came (UTC).
        model: The model's name.
        version: The version that was asked, as it stands in answers.
        role: What that version did.
        protocol: How the request came.
        inputs: As they were sent, by name, shapes (n, ...).
        outputs: Those that were asked for, by name; empty where it failed.
        latency_ms: Milliseconds from the request being read to its answer, waiting included.
        error: Why there is no answer; None where there is one.
    """

    id: str | None
    time: datetime
    model: str
    version: str
    role: ServedRole
    protocol: Spoken
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    latency_ms: float
    error: str | None


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A version that a client may name, and why it does not answer if it does not."""

    name: str
    version: str
    ready: bool
    reason: str = ""


def open_service(config: ServerConfig, *, token: str) -> Service:
    """Open what the models file lists, nothing where there is no such file, and return what answers for it.

    Raises:
        IntegrityError: A file has another sha256 than it should; it was not opened.
        EngineError: A file is missing or no model, or the model's tensors are not all numbers.
        InvalidInputError: The models file is there and is none.
    """
    models = read_models(config.models_file) if config.models_file.exists() else ServedModels()
    return Service(config, open_catalog(models, engine_threads=config.engine_threads), token=token)


class Service:
    """Answers requests of both protocols by one catalog, which is replaced as a whole.

    All methods belong to the event loop's thread. ``log`` is called for every request that ``Logged`` tells of, at once
    and in that thread: it keeps what it wants and must not wait. ``draining`` is set once the process is to end.
    """

    def __init__(self, config: ServerConfig, catalog: Catalog, *, token: str) -> None:
        """Serve ``catalog``; whoever knows ``token`` may load and unload."""
        self.config = config
        self.catalog = catalog
        self.log: Callable[[Logged], None] | None = None
        self.draining = False
        self.in_flight = 0
        self._token = token
        self._random = random.Random()  # noqa: S311 - splits traffic, guards nothing
        self._workers = ThreadPoolExecutor(config.workers, thread_name_prefix="infer")
        self._loading = asyncio.Lock()

    def named(self, model: str, version: str | None = None) -> LoadedVersion:
        """Return the version that answers: the named one, or one by the shares where none is named.

        Raises:
            ProtocolError: Not served here (404); lists what is.
        """
        return self.catalog.find(model, version, at=self._random.random())

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one of the ``max_concurrency`` places; HTTP takes it before it reads a body.

        Raises:
            ProtocolError: All are taken (429).
        """
        if self.in_flight >= self.config.max_concurrency:
            raise ProtocolError(
                f"{self.in_flight} requests are under way, and no more are taken; ask again in a moment", status=429
            )
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def answer(
        self, loaded: LoadedVersion, asked: InferenceRequest, *, protocol: Spoken = "grpc"
    ) -> dict[str, Array]:
        """Return the outputs that are wanted, by name; takes a slot.

        Raises:
            ProtocolError: No slot (429), too late (504), or the model could not run on these inputs (500).
        """
        with self.slot():
            return await self.answer_in_slot(loaded, asked, protocol=protocol)

    async def answer_in_slot(
        self, loaded: LoadedVersion, asked: InferenceRequest, *, protocol: Spoken
    ) -> dict[str, Array]:
        """Return the outputs that are wanted, by name, for a caller that holds a slot.

        Raises:
            ProtocolError: Too late (504), or the model could not run on these inputs (500).
        """
        began = time.perf_counter()
        wanted = [output.name for output in asked.outputs]
        outputs = await asyncio.get_running_loop().run_in_executor(self._workers, loaded.run, asked.inputs, wanted)
        if self.log is not None:
            self.log(
                Logged(
                    id=asked.id,
                    time=clock.now(),
                    model=loaded.served.model,
                    version=loaded.served.number,
                    role=loaded.served.role,
                    protocol=protocol,
                    inputs=asked.inputs,
                    outputs=outputs,
                    latency_ms=(time.perf_counter() - began) * 1e3,
                    error=None,
                )
            )
        return outputs

    async def load(self, model: str, token: str | None, *, parameters: Collection[str] = ()) -> None:
        """Read the models file again and serve what it lists; what served before still does until all of it is open.

        Args:
            model: One that the file lists.
            token: What the caller sent as its right to do so.
            parameters: Names of what the caller wants to be loaded otherwise than the file says, all refused.

        Raises:
            ProtocolError: No right (401), a parameter or something that cannot be opened (400), a model that the file
                does not list (404), or an older generation than the one served (409). Nothing was changed.
        """
        self._check_token(token)
        if parameters:
            raise ProtocolError(f"a model is loaded as the models file says, without {', '.join(sorted(parameters))}")
        async with self._loading:
            try:
                self.catalog = await asyncio.to_thread(self._opened, model)
            except ProtocolError:
                raise
            except ModelwayError as error:
                raise ProtocolError(str(error)) from error

    async def unload(self, model: str, token: str | None) -> None:
        """Serve a model no more, until it is loaded again; requests under way are answered.

        Raises:
            ProtocolError: No right (401), or no such model here (404).
        """
        self._check_token(token)
        async with self._loading:
            self.catalog = self.catalog.without(model)

    def index(self) -> list[IndexEntry]:
        """Return every version that is served, and those that could be."""
        return [IndexEntry(one.served.model, one.served.address, ready=True) for one in self.catalog.versions]

    def statistics(self, model: str | None = None, version: str | None = None) -> list[dict[str, Any]]:
        """Return what the versions did, in the form of Triton's ``model_stats``; of all models where none is named.

        Raises:
            ProtocolError: Not served here (404).
        """
        return [
            {"name": one.served.model, "version": one.served.address}
            for one in self.catalog.versions
            if model in {None, one.served.model} and version in {None, one.served.address}
        ]

    def _opened(self, model: str) -> Catalog:
        models = read_models(self.config.models_file)
        if model not in {served.model for served in models.versions}:
            raise ProtocolError(f"no model {model[:80]!r} in the models file", status=404)
        if models.generation < self.catalog.generation:
            raise ProtocolError(
                f"generation {self.catalog.generation} is served, and the models file has an older one, "
                f"{models.generation}",
                status=409,
            )
        return open_catalog(models, engine_threads=self.config.engine_threads, known=self.catalog)

    def _check_token(self, token: str | None) -> None:
        if token is None or not hmac.compare_digest(token.encode(), self._token.encode()):
            raise ProtocolError(
                "models are loaded and unloaded only with the header Authorization: Bearer TOKEN, and the token "
                "stands in the server's state file",
                status=401,
            )
