"""The HTTP side of the embedded endpoint: routes of the Open Inference Protocol over a ``Service``.

Only bodies up to the limit are read, compressed ones never, and only for the names under which this server was started:
a page that points its own name at 127.0.0.1 (DNS rebinding) is refused. Inference is answered here in plain ASGI,
everything else by Starlette's routes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from registry.endpoints.http_parts import (
    ClientGoneError,
    answer,
    body_within,
    closing,
    foreign,
    headers_of,
    no_request,
    refuse,
)
from registry.endpoints.protocol import JSON_LENGTH_HEADER, Message, read_request, write_response
from registry.endpoints.routes import build_routes
from registry.endpoints.tensors import ProtocolError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from registry.endpoints.answering import Service
    from registry.endpoints.catalog import LoadedVersion
    from registry.endpoints.protocol import InferenceRequest
    from registry.endpoints.tensors import Array

_log = logging.getLogger(__name__)

_LARGE_BYTES = 64 * 1024  # as JSON about a millisecond of reading, for which the event loop would stand still
_JSON_LENGTH = JSON_LENGTH_HEADER.lower().encode()
_BINARY = (b"content-type", b"application/octet-stream")


class Asked(NamedTuple):
    """What the URL of an inference names."""

    model: str
    version: str | None


class App:
    """The ASGI application."""

    def __init__(self, service: Service) -> None:
        """Serve ``service``."""
        self._service = service
        self._routes = build_routes(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        headers = headers_of(scope)
        if self._service.draining:
            send = closing(send)
        try:
            if words := foreign(headers):
                await refuse(send, 403, words)
            elif (asked := asked_of(scope["path"])) is None:
                await self._routes(scope, receive, send)
            elif scope["method"] == "POST":
                await self._infer(asked, headers, receive, send)
            else:
                await refuse(send, 405, no_request(scope))
        except ProtocolError as error:
            await refuse(send, error.status, str(error))
        except ClientGoneError:
            await refuse(send, 400, "the connection was closed before the whole body had come")
        except Exception:  # noqa: BLE001 - a client hears of any fault in the protocol's words
            _log.exception("%s could not be answered", scope["path"][:120])
            await refuse(send, 500, "the server failed; its log has the reason")

    async def _infer(self, asked: Asked, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        service = self._service
        with service.slots:
            loaded = service.named(asked.model, asked.version)
            body = await self._body(headers, receive)
            request = await self._read(loaded, headers, body)
            outputs = await service.answer_in_slot(loaded, request, protocol="http")
            message = await _written(loaded, request, outputs)
        await answer(send, 200, message.body, _content(message))

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        limit_s = self._service.config.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await body_within(headers, receive, self._service.config.limits.max_body_bytes)
        except TimeoutError:
            raise ProtocolError(f"the body had not come after {limit_s:g} s", status=408) from None

    async def _read(self, loaded: LoadedVersion, headers: dict[bytes, bytes], body: bytes) -> InferenceRequest:
        length = headers.get(_JSON_LENGTH)
        json_length = None if length is None else length.decode("latin-1")
        contract, limits = loaded.contract, self._service.config.limits
        try:
            if len(body) > _LARGE_BYTES:
                return await asyncio.to_thread(read_request, body, json_length, contract=contract, limits=limits)
            return read_request(body, json_length, contract=contract, limits=limits)
        except ProtocolError:
            self._service.count_invalid(loaded)
            raise


def _content(message: Message) -> tuple[tuple[bytes, bytes], ...]:
    return () if message.json_bytes is None else (_BINARY, (_JSON_LENGTH, b"%d" % message.json_bytes))


async def _written(loaded: LoadedVersion, request: InferenceRequest, outputs: dict[str, Array]) -> Message:
    name, number = loaded.served.model, loaded.served.number
    if sum(array.nbytes for array in outputs.values()) > _LARGE_BYTES:
        return await asyncio.to_thread(write_response, name, number, request, outputs)
    return write_response(name, number, request, outputs)


def asked_of(path: str) -> Asked | None:
    """Return what the path of an inference names, None for any other path."""
    if not (path.startswith("/v2/models/") and path.endswith("/infer")):
        return None
    match path.split("/")[3:-1]:
        case [model] if model:
            return Asked(model, None)
        case [model, "versions", version] if model and version:
            return Asked(model, version)
    return None
