"""The HTTP side of the embedded endpoint: routes of the Open Inference Protocol over a catalog of open models.

Only bodies up to the limit are read, compressed ones never, and only for the names under which this server was started:
a page that points its own name at 127.0.0.1 (DNS rebinding) is refused.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from registry.endpoints.protocol import JSON_LENGTH_HEADER, error_body, read_request, write_response
from registry.endpoints.tensors import ProtocolError, datatype_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from starlette.types import ASGIApp, Receive, Scope, Send

    from registry.endpoints.catalog import Catalog, LoadedVersion
    from registry.endpoints.serving import ServerConfig
    from registry.signature import TensorSpec

_OWN_NAMES = {"127.0.0.1", "localhost"}


def build_app(service: Service) -> FastAPI:
    """Return the application that serves ``service``; it has no documentation pages."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(_OwnNamesOnly)
    # Plain routes: FastAPI's own would resolve dependencies, 85 us a request where these take 20 to 30.
    app.add_route("/v2", service.server_metadata, methods=["GET"])
    app.add_route("/v2/health/live", service.live, methods=["GET"])
    app.add_route("/v2/health/ready", service.ready, methods=["GET"])
    app.add_route("/v2/repository/index", service.index, methods=["POST"])
    for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        app.add_route(model, service.model_metadata, methods=["GET"])
        app.add_route(f"{model}/ready", service.model_ready, methods=["GET"])
        app.add_route(f"{model}/infer", service.infer, methods=["POST"])
    app.add_exception_handler(ProtocolError, _refusal)
    app.add_exception_handler(HTTPException, _no_such_route)
    app.add_exception_handler(ClientDisconnect, _nobody_listens)
    app.add_exception_handler(Exception, _own_fault)
    return app


@dataclass(slots=True)
class Service:
    """What the routes do. ``catalog`` is replaced as a whole, so a request sees the old models or the new ones."""

    config: ServerConfig
    catalog: Catalog
    workers: Executor

    async def server_metadata(self, _: Request) -> Response:
        """Answer with the server's name, release and extensions, and which endpoint, instance and generation it is."""
        return _json(
            {
                "name": "modelway",
                "version": _release(),
                "extensions": ["binary_tensor_data"],
                "modelway": self.config.model_dump(include={"endpoint", "instance", "generation"}),
            }
        )

    async def live(self, _: Request) -> Response:
        """Answer that the process runs."""
        return _json({"live": True})

    async def ready(self, _: Request) -> Response:
        """Answer that every model is open: the socket does not listen before."""
        return _json({"ready": True})

    async def index(self, _: Request) -> Response:
        """Answer with every version served."""
        served = [loaded.served for loaded in self.catalog.versions]
        return _json([{"name": one.model, "version": one.number, "state": "READY", "reason": ""} for one in served])

    async def model_metadata(self, request: Request) -> Response:
        """Answer with a model's tensors, and with the label and digest of the version that would answer."""
        loaded = self._named_in(request)
        return _json(
            {
                "name": loaded.served.model,
                "versions": self.catalog.numbers_of(loaded.served.model),
                "platform": "onnxruntime_onnx",
                "inputs": [_described(spec) for spec in loaded.contract.inputs],
                "outputs": [_described(spec) for spec in loaded.contract.outputs],
                "modelway": {"version": loaded.served.version, "digest": loaded.served.digest},
            }
        )

    async def model_ready(self, request: Request) -> Response:
        """Answer that a version can be asked."""
        loaded = self._named_in(request)
        return _json({"name": loaded.served.model, "version": loaded.served.number, "ready": True})

    async def infer(self, request: Request) -> Response:
        """Answer with the model's outputs; all work is done in a worker, so that the event loop stays free."""
        loaded = self._named_in(request)
        body = await _body_within(request, self.config.limits.max_body_bytes)
        json_length = request.headers.get(JSON_LENGTH_HEADER)
        return await asyncio.get_running_loop().run_in_executor(self.workers, self._answer, loaded, body, json_length)

    def _answer(self, loaded: LoadedVersion, body: bytes, json_length: str | None) -> Response:
        asked = read_request(body, json_length, contract=loaded.contract, limits=self.config.limits)
        outputs = loaded.run(asked.inputs, [wanted.name for wanted in asked.outputs])
        message = write_response(loaded.served.model, loaded.served.number, asked, outputs)
        return Response(message.body, headers=message.headers)

    def _named_in(self, request: Request) -> LoadedVersion:
        return self.catalog.find(request.path_params["model"], request.path_params.get("version"))


class _OwnNamesOnly:
    """Refuses requests that were sent to another name than this server's, or by a page of another origin."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (reason := _foreign(dict(scope["headers"]))):
            await _error(403, reason)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _foreign(headers: dict[bytes, bytes]) -> str:
    host = headers.get(b"host", b"").decode("latin-1")
    if _host_name(f"//{host}") not in _OWN_NAMES:
        return f"this server answers to {' and '.join(sorted(_OWN_NAMES))}, not to the host {host[:80]!r}"
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and _host_name(origin) not in _OWN_NAMES:
        return f"this server does not answer pages of {origin[:80]!r}"
    return ""


def _host_name(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        hostname = parts.hostname if parts.port != 0 else None
    except ValueError:  # a port that is no number, a bracket that is not closed
        return None
    return hostname


async def _body_within(request: Request, limit: int) -> bytes:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise ProtocolError(
            f"Content-Encoding {encoding[:40]!r} is not accepted: send the body uncompressed", status=415
        )
    too_large = ProtocolError(f"the body has more than {limit} bytes; send fewer samples at once", status=413)
    if int(request.headers.get("content-length", "0")) > limit:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:  # sent in chunks: no length was announced
            raise too_large
        parts.append(part)
    return b"".join(parts)


@functools.cache
def _release() -> str:
    try:
        return importlib.metadata.version("modelway")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "unreleased"


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": spec.shape}


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


def _error(status: int, message: str) -> Response:
    return Response(error_body(message), status_code=status, media_type="application/json")


async def _refusal(_: Request, error: Exception) -> Response:
    return _error(getattr(error, "status", 400), str(error))


async def _no_such_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return _error(status, f"{request.method} {request.url.path[:120]!r} is no request of this server")


async def _nobody_listens(_: Request, __: Exception) -> Response:
    return _error(400, "the connection was closed before the whole body had come")


async def _own_fault(_: Request, __: Exception) -> Response:
    return _error(500, "the server failed; its log has the reason")
