"""The seam behind HTTP and gRPC: what a serving process holds open, and the one way a request is answered."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from registry import clock
from registry.endpoints.catalog import Catalog, LoadedVersion
from registry.endpoints.control import Control, IndexEntry
from registry.endpoints.labels import AnsweredClasses, Labels
from registry.endpoints.protocol import InferenceRequest, check_inputs
from registry.endpoints.serving import ServedModels, ServedRole, ServerConfig
from registry.endpoints.slots import Slots
from registry.endpoints.statistics import Outcome
from registry.endpoints.tensors import Array, ProtocolError
from registry.endpoints.workers import Workers

Spoken = Literal["http", "grpc"]
"""The protocol that a request came by."""

_LATE = 504


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One request that was answered, or failed after it was understood.

    Args:
        id: What the client called it, None where it did not.
        time: When it came (UTC).
        model: The model's name.
        version: The version that was asked, as it stands in answers.
        role: What that version did; a shadow's answers went to nobody.
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


class Service:
    """Answers requests of both protocols by one catalog, which is replaced as a whole.

    All methods belong to the event loop's thread. ``log`` is called for every request that ``Logged`` tells of, at once
    and in that thread: it keeps what it wants and must not wait. ``draining`` is set once the process is to end.
    HTTP holds one of the ``slots`` before it reads a body.
    """

    def __init__(self, config: ServerConfig, *, token: str) -> None:
        """Open what the models file lists, nothing where there is no such file; ``token`` is the right to load.

        Raises:
            IntegrityError: A file has another sha256 than it should; it was not opened.
            EngineError: A file is missing or no model, or the model's tensors are not all numbers.
            InvalidInputError: The models file is there and is none.
        """
        self.config = config
        self.log: Callable[[Logged], None] | None = None
        self.draining = False
        self.classes = AnsweredClasses()
        self._control = Control(config, token=token)
        self._workers = Workers(config)
        self._random = random.Random()  # noqa: S311 - splits traffic, guards nothing
        self._copies = self._copied = 0  # requests under way to shadows, and the bytes of their inputs
        self.slots = Slots(config.max_concurrency)

    @property
    def catalog(self) -> Catalog:
        """What is served at this moment."""
        return self._control.catalog

    @property
    def computes(self) -> bool:
        """Whether a thread runs an engine."""
        return self._workers.busy

    def close(self) -> None:
        """End the threads once their runs have ended."""
        self._workers.close()

    def named(self, model: str, version: str | None = None) -> LoadedVersion:
        """Return the version that answers: the named one, or one by the shares where none is named.

        Raises:
            ProtocolError: Not served here (404); lists what is.
        """
        return self._control.catalog.find(model, version, at=self._random.random())

    def count_invalid(self, loaded: LoadedVersion) -> None:
        """Count a request that was refused for its form before it could be answered."""
        loaded.counters.failed(loaded.served.role, "invalid", 0)

    async def answer(
        self, loaded: LoadedVersion, asked: InferenceRequest, *, protocol: Spoken = "grpc"
    ) -> dict[str, Array]:
        """Return the outputs that are wanted, by name; takes a slot.

        Raises:
            ProtocolError: No slot (429), too late (504), or the model could not run on these inputs (500).
        """
        with self.slots:
            return await self.answer_in_slot(loaded, asked, protocol=protocol)

    async def answer_in_slot(
        self, loaded: LoadedVersion, asked: InferenceRequest, *, protocol: Spoken
    ) -> dict[str, Array]:
        """Return the outputs that are wanted, by name, for a caller that holds a slot.

        Raises:
            ProtocolError: Too late (504), or the model could not run on these inputs (500).
        """
        asking = _Asking(loaded, asked, protocol, time.perf_counter_ns())
        shadow = self.catalog.shadow_of(loaded.served.model)
        if shadow is not None and loaded.served.role in {"stable", "canary"}:
            self._copy_to(shadow, asking)
        future, timer = self._submit(loaded, asked.inputs, tuple([output.name for output in asked.outputs]))
        try:
            outputs = await future
        except ProtocolError as error:
            self._failed(asking, error)
            raise
        finally:
            timer.cancel()
        self._answered(asking, outputs)
        return outputs

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
        await self._control.load(model, token, parameters=parameters)

    async def unload(self, model: str, token: str | None) -> None:
        """Serve a model no more, until it is loaded again; requests under way are answered.

        Raises:
            ProtocolError: No right (401), or no such model here (404).
        """
        await self._control.unload(model, token)

    def served(self, token: str | None) -> ServedModels:
        """Return what is served at this moment, with files and shares.

        Raises:
            ProtocolError: No right (401).
        """
        return self._control.served(token)

    def index(self) -> list[IndexEntry]:
        """Return every version that is served, then those that are not, with the reason."""
        return self._control.index()

    def statistics(self, model: str | None = None, version: str | None = None) -> list[dict[str, Any]]:
        """Return what the versions did, in the form of Triton's ``model_stats``; of all models where none is named.

        Raises:
            ProtocolError: Not served here (404).
        """
        if model is None:
            chosen = self.catalog.versions
        elif version is None:
            chosen = self.catalog.of_model(model)
        else:
            chosen = (self.catalog.find(model, version),)
        return [
            {"name": loaded.served.model, "version": loaded.served.address, **loaded.counters.as_triton()}
            for loaded in chosen
        ]

    def tell_labels(self, model: str, labels: Labels) -> int:
        """Count right and wrong answers by the classes that would have been right; return how many were matched.

        Raises:
            ProtocolError: No such model here (404).
        """
        self.catalog.of_model(model)
        return self.classes.tell(model, labels)

    def _submit(
        self, loaded: LoadedVersion, inputs: Mapping[str, Array], wanted: tuple[str, ...]
    ) -> tuple[asyncio.Future[dict[str, Array]], asyncio.TimerHandle]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[dict[str, Array]] = loop.create_future()
        self._workers.submit(loaded.lane, loaded.lane.request(inputs, wanted, loaded.counters, future))
        return future, loop.call_later(self.config.timeout_s, self._expire, future)

    def _expire(self, future: asyncio.Future[dict[str, Array]]) -> None:
        if not future.done():
            words = f"there was no answer within {self.config.timeout_s:g} s"
            future.set_exception(ProtocolError(words, status=_LATE))

    def _copy_to(self, shadow: LoadedVersion, asking: _Asking) -> None:
        # What a slow shadow cannot take is not copied: it must not pile up behind those who wait for an answer.
        size = sum(array.nbytes for array in asking.asked.inputs.values())
        full = self._copies >= self.config.max_concurrency or self._copied + size > self.config.limits.max_body_bytes
        if full or self._random.random() >= shadow.served.share:
            return
        copy = replace(asking, loaded=shadow)
        try:
            check_inputs(copy.asked.inputs, shadow.contract, self.config.limits)
        except ProtocolError as error:
            self._failed(copy, error)
            return
        every = tuple(spec.name for spec in shadow.contract.outputs)
        future, timer = self._submit(shadow, copy.asked.inputs, every)
        self._copies += 1
        self._copied += size
        future.add_done_callback(functools.partial(self._drop_answer, copy, size, timer))

    def _drop_answer(
        self, copy: _Asking, size: int, timer: asyncio.TimerHandle, future: asyncio.Future[dict[str, Array]]
    ) -> None:
        timer.cancel()
        self._copies -= 1
        self._copied -= size
        if isinstance(error := future.exception(), ProtocolError):
            self._failed(copy, error)
        else:
            self._answered(copy, future.result())

    def _answered(self, asking: _Asking, outputs: dict[str, Array]) -> None:
        latency_ns = time.perf_counter_ns() - asking.began_ns
        loaded, asked = asking.loaded, asking.asked
        loaded.counters.answered(loaded.served.role, asked.samples, latency_ns)
        if asked.id:
            self.classes.remember(loaded.served.model, asked.id, loaded.counters, outputs)
        if self.log is not None:
            self.log(asking.logged(latency_ns, outputs=outputs))

    def _failed(self, asking: _Asking, error: ProtocolError) -> None:
        latency_ns = time.perf_counter_ns() - asking.began_ns
        outcome: Outcome = "late" if error.status == _LATE else "failed"
        asking.loaded.counters.failed(asking.loaded.served.role, outcome, latency_ns)
        if self.log is not None:
            self.log(asking.logged(latency_ns, error=str(error)))


@dataclass(slots=True)
class _Asking:
    """One request on its way through the service, or a copy of one for a shadow."""

    loaded: LoadedVersion
    asked: InferenceRequest
    protocol: Spoken
    began_ns: int

    def logged(
        self, latency_ns: int, *, outputs: Mapping[str, Array] | None = None, error: str | None = None
    ) -> Logged:
        """Return what the log is told of it."""
        return Logged(
            id=self.asked.id,
            time=clock.now() - timedelta(microseconds=latency_ns // 1000),
            model=self.loaded.served.model,
            version=self.loaded.served.number,
            role=self.loaded.served.role,
            protocol=self.protocol,
            inputs=self.asked.inputs,
            outputs=outputs or {},
            latency_ms=latency_ns / 1e6,
            error=error,
        )
