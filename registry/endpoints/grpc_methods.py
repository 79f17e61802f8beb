"""The methods of the gRPC service: each asks the service that also answers over HTTP."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from grpc import StatusCode
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceServicer

from registry.endpoints.control import bearer
from registry.endpoints.grpc_messages import model_config, model_metadata, read_message, write_message
from registry.endpoints.routes import release
from registry.endpoints.tensors import ProtocolError

if TYPE_CHECKING:
    from registry.endpoints.answering import Service

_log = logging.getLogger(__name__)

_STATUS = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    404: StatusCode.NOT_FOUND,
    409: StatusCode.FAILED_PRECONDITION,
    413: StatusCode.RESOURCE_EXHAUSTED,
    429: StatusCode.RESOURCE_EXHAUSTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}
"""What a refusal with an HTTP status is over gRPC; any other is INTERNAL."""

_AT_DEADLINE_S = 0.1  # the client's own clock ends the call a little before what the server was told of it

_MAX_WORDS = 2000  # they travel in a header, and clients take 8 kB of headers

_Method = Callable[[Any, Any], Awaitable[Any]]


def servicer_of(ours: Methods) -> SimpleNamespace:
    """Return every method of the protocol by its name there, as the stubs' ``add_...Servicer_to_server`` takes them."""
    served = {
        "ServerLive": ours.server_live,
        "ServerReady": ours.server_ready,
        "ServerMetadata": ours.server_metadata,
        "ModelReady": ours.model_ready,
        "ModelMetadata": ours.model_metadata,
        "ModelConfig": ours.model_config,
        "ModelInfer": ours.model_infer,
        "ModelStatistics": ours.model_statistics,
        "RepositoryIndex": ours.repository_index,
        "RepositoryModelLoad": ours.repository_model_load,
        "RepositoryModelUnload": ours.repository_model_unload,
    }
    names = [name for name in vars(GRPCInferenceServiceServicer) if not name.startswith("_")]
    return SimpleNamespace(**{name: _refusing(served[name]) if name in served else _unserved(name) for name in names})


class Methods:
    """The methods that are served; the messages are those of ``tritonclient.grpc.service_pb2``.

    ``asked_at`` is when a model was asked last (seconds of the monotonic clock, minus infinity before that). Once
    ``ending`` is set no model is asked any more.
    """

    def __init__(self, service: Service) -> None:
        """Answer by ``service``."""
        self._service = service
        self.asked_at = float("-inf")
        self.ending = False

    async def server_live(self, _: Any, __: Any) -> Any:
        """Answer that the process runs."""
        return service_pb2.ServerLiveResponse(live=True)

    async def server_ready(self, _: Any, __: Any) -> Any:
        """Answer whether requests are taken: until the process is to end."""
        return service_pb2.ServerReadyResponse(ready=not self._service.draining)

    async def server_metadata(self, _: Any, __: Any) -> Any:
        """Answer with the server's name and release, and the extensions of the protocol that it speaks here."""
        return service_pb2.ServerMetadataResponse(
            name="modelway", version=release(), extensions=["model_repository", "model_configuration", "statistics"]
        )

    async def model_ready(self, request: Any, _: Any) -> Any:
        """Answer whether a version can be asked; over gRPC, as Triton has it, one that is not there is not ready."""
        try:
            self._service.named(request.name, request.version or None)
        except ProtocolError:
            return service_pb2.ModelReadyResponse(ready=False)
        return service_pb2.ModelReadyResponse(ready=True)

    async def model_metadata(self, request: Any, _: Any) -> Any:
        """Answer with what the version that would answer takes and gives."""
        loaded = self._service.named(request.name, request.version or None)
        return model_metadata(loaded, self._service.catalog.numbers_of(loaded.served.model))

    async def model_config(self, request: Any, _: Any) -> Any:
        """Answer with what of Triton's configuration is true of a version."""
        return model_config(self._service.named(request.name, request.version or None))

    async def model_infer(self, request: Any, context: Any) -> Any:
        """Answer with the model's outputs; gRPC cancels this call at the client's deadline, or when nobody listens."""
        if self.ending:
            raise ProtocolError("this server is ending and takes no more requests", status=503)
        self.asked_at = began = time.monotonic()
        loaded = self._service.named(request.model_name, request.model_version or None)
        try:
            asked = read_message(request, contract=loaded.contract, limits=self._service.config.limits)
        except ProtocolError:
            self._service.count_invalid(loaded)
            raise
        try:
            outputs = await self._service.answer(loaded, asked, protocol="grpc")
        except asyncio.CancelledError:
            left_s = context.time_remaining()
            if left_s is not None and left_s < _AT_DEADLINE_S:  # else the client did not want it any more
                loaded.counters.failed(loaded.served.role, "late", round((time.monotonic() - began) * 1e9))
            raise
        return write_message(loaded, asked, outputs)

    async def model_statistics(self, request: Any, _: Any) -> Any:
        """Answer with what the versions did, of one model or of all."""
        found = self._service.statistics(request.name or None, request.version or None)
        # What is ours alone, and has no place in NVIDIA's message, is left out.
        return json_format.ParseDict(
            {"model_stats": found}, service_pb2.ModelStatisticsResponse(), ignore_unknown_fields=True
        )

    async def repository_index(self, request: Any, _: Any) -> Any:
        """Answer with every version that a client may name, or with those that answer."""
        entries = [entry for entry in self._service.index() if entry.ready or not request.ready]
        index = service_pb2.RepositoryIndexResponse()
        for entry in entries:
            state = "READY" if entry.ready else "UNAVAILABLE"
            index.models.add(name=entry.name, version=entry.version, state=state, reason=entry.reason)
        return index

    async def repository_model_load(self, request: Any, context: Any) -> Any:
        """Serve what the models file lists now; for callers with the token."""
        await self._service.load(request.model_name, _token(context), parameters=list(request.parameters))
        return service_pb2.RepositoryModelLoadResponse()

    async def repository_model_unload(self, request: Any, context: Any) -> Any:
        """Serve a model no more; for callers with the token."""
        await self._service.unload(request.model_name, _token(context))
        return service_pb2.RepositoryModelUnloadResponse()


def _refusing(method: _Method) -> _Method:
    @functools.wraps(method)
    async def answer(request: Any, context: Any) -> Any:
        try:
            return await method(request, context)
        except ProtocolError as error:
            code, words = _STATUS.get(error.status, StatusCode.INTERNAL), str(error)[:_MAX_WORDS]
        except Exception:  # noqa: BLE001 - else gRPC would tell the client Python's words
            _log.exception("%s failed", method.__name__)
            code, words = StatusCode.INTERNAL, "the server failed; its log has the reason"
        return await context.abort(code, words)

    return answer


def _unserved(name: str) -> _Method:
    async def answer(_: Any, context: Any) -> Any:
        words = f"{name} is not served here: one request has one answer, and tensors travel in the messages"
        return await context.abort(StatusCode.UNIMPLEMENTED, words)

    return answer


def _token(context: Any) -> str | None:
    return next((bearer(value) for name, value in context.invocation_metadata() if name == "authorization"), None)
