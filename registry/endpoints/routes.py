"""Every route of the HTTP side but inference: health, metadata, the repository, statistics, labels and metrics."""

from __future__ import annotations

import functools
import importlib.metadata
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from registry.endpoints.control import bearer
from registry.endpoints.http_parts import ClientGoneError, body_within, headers_of, no_request
from registry.endpoints.labels import read_labels
from registry.endpoints.prometheus import Metrics
from registry.endpoints.protocol import error_body
from registry.endpoints.tensors import ProtocolError, datatype_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from registry.endpoints.answering import Service
    from registry.endpoints.catalog import LoadedVersion
    from registry.signature import TensorSpec

EXTENSIONS = ["binary_tensor_data", "model_repository", "statistics"]
"""What this server speaks beyond the protocol's core, by the names that Triton gave it."""

_BAD = 400
_UNAVAILABLE = 503


def build_routes(service: Service) -> ASGIApp:
    """Return what answers everything but inference; it has no documentation pages."""
    routes = _Routes(service)
    listed = [
        Route("/metrics", routes.metrics, methods=["GET"]),
        Route("/v2", routes.server_metadata, methods=["GET"]),
        Route("/v2/health/live", routes.live, methods=["GET"]),
        Route("/v2/health/ready", routes.ready, methods=["GET"]),
        Route("/v2/models/stats", routes.statistics, methods=["GET"]),
        Route("/v2/repository/index", routes.index, methods=["POST"]),
        Route("/v2/repository/served", routes.served, methods=["GET"]),
        Route("/v2/repository/models/{model}/load", routes.load, methods=["POST"]),
        Route("/v2/repository/models/{model}/unload", routes.unload, methods=["POST"]),
        Route("/v2/models/{model}/labels", routes.labels, methods=["POST"]),
    ]
    for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        listed += [
            Route(model, routes.model_metadata, methods=["GET"]),
            Route(f"{model}/ready", routes.model_ready, methods=["GET"]),
            Route(f"{model}/stats", routes.statistics, methods=["GET"]),
        ]
    app = Starlette(
        routes=listed,
        exception_handlers={HTTPException: _no_such_route, ProtocolError: _refusal, ClientGoneError: _nobody_listens},
    )
    app.router.redirect_slashes = False
    return app


class _Routes:
    """What the routes do."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._metrics = Metrics(service)

    async def server_metadata(self, _: Request) -> Response:
        """Answer with the server's name, release and extensions, and which endpoint, instance and generation it is."""
        config = self._service.config
        own = {"endpoint": config.endpoint, "instance": config.instance, "generation": self._service.catalog.generation}
        return _json({"name": "modelway", "version": release(), "extensions": EXTENSIONS, "modelway": own})

    async def live(self, _: Request) -> Response:
        """Answer that the process runs."""
        return _json({"live": True})

    async def ready(self, _: Request) -> Response:
        """Answer whether requests are to be sent here: not any more once the process is to end."""
        ready = not self._service.draining
        return _json({"ready": ready}, 200 if ready else _UNAVAILABLE)

    async def index(self, request: Request) -> Response:
        """Answer with every version that the models file lists, those that are ready alone where that is asked."""
        only_ready = (await self._asked(request)).get("ready") is True
        entries = [entry for entry in self._service.index() if entry.ready or not only_ready]
        return _json(
            [{"name": one.name, "version": one.version, "state": one.state, "reason": one.reason} for one in entries]
        )

    async def served(self, request: Request) -> Response:
        """Answer with what is served at this moment, as the models file would have it."""
        served = self._service.served(bearer(request.headers.get("authorization")))
        return Response(served.model_dump_json(), media_type="application/json")

    async def load(self, request: Request) -> Response:
        """Serve what the models file lists now."""
        parameters = (await self._asked(request)).get("parameters") or {}
        token = bearer(request.headers.get("authorization"))
        await self._service.load(request.path_params["model"], token, parameters=list(parameters))
        return Response()

    async def unload(self, request: Request) -> Response:
        """Serve a model no more."""
        token = bearer(request.headers.get("authorization"))
        await self._service.unload(request.path_params["model"], token)
        return Response()

    async def model_metadata(self, request: Request) -> Response:
        """Answer with a model's tensors, and with the label and digest of the version that would answer."""
        loaded = self._named_in(request)
        served = loaded.served
        return _json(
            {
                "name": served.model,
                "versions": self._service.catalog.numbers_of(served.model),
                "platform": f"{served.runtime}_onnx",
                "inputs": [_described(spec) for spec in loaded.contract.inputs],
                "outputs": [_described(spec) for spec in loaded.contract.outputs],
                "modelway": {
                    "version": served.version, "digest": served.digest, "role": served.role, "share": served.share,
                },
            }
        )  # fmt: skip

    async def model_ready(self, request: Request) -> Response:
        """Answer that a version can be asked."""
        served = self._named_in(request).served
        return _json({"name": served.model, "version": served.number, "ready": True})

    async def statistics(self, request: Request) -> Response:
        """Answer with what the versions did."""
        found = self._service.statistics(request.path_params.get("model"), request.path_params.get("version"))
        return _json({"model_stats": found})

    async def labels(self, request: Request) -> Response:
        """Count right and wrong answers of earlier requests."""
        labels = read_labels(await self._body(request))
        matched = self._service.tell_labels(request.path_params["model"], labels)
        return _json({"matched": matched, "unknown": len(labels.labels) - matched})

    async def metrics(self, request: Request) -> Response:
        """Answer with all metrics in the form that Prometheus asks for."""
        body, content_type = self._metrics.exposed(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    def _named_in(self, request: Request) -> LoadedVersion:
        return self._service.named(request.path_params["model"], request.path_params.get("version"))

    async def _asked(self, request: Request) -> dict[str, Any]:
        body = await self._body(request)
        try:
            asked = orjson.loads(body) if body.strip() else {}
        except orjson.JSONDecodeError as error:
            raise ProtocolError(f"the body is not JSON: {error}") from None
        if not isinstance(asked, dict) or not isinstance(asked.get("parameters", {}), dict):
            raise ProtocolError("the body is no JSON object, or its parameters are none")
        return asked

    async def _body(self, request: Request) -> bytes:
        limit = self._service.config.limits.max_json_bytes
        return await body_within(headers_of(request.scope), request.receive, limit)


@functools.cache
def release() -> str:
    """Return which release of modelway this is."""
    try:
        return importlib.metadata.version("modelway")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "unreleased"


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": spec.shape}


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")


async def _refusal(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, ProtocolError) else _BAD
    return Response(error_body(str(error)), status_code=status, media_type="application/json")


async def _no_such_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else _BAD
    return Response(error_body(no_request(request.scope)), status_code=status, media_type="application/json")


async def _nobody_listens(_: Request, __: Exception) -> Response:
    return Response(status_code=_BAD)
