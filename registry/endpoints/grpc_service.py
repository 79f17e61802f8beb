"""The gRPC service of the Open Inference Protocol beside the HTTP one, in the same process and event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from registry.errors import EndpointError, MissingExtraError

if TYPE_CHECKING:
    import grpc

    from registry.endpoints.answering import Service
    from registry.endpoints.grpc_methods import Methods

_SPARE_CALLS = 64
"""Calls beyond ``max_concurrency`` that are looked at, so that a full server still says that it is alive."""

_UNCOMPRESSED_ONLY = 1  # a set of bits, of which the first stands for `identity`

_TAKING_S, _REFUSING_S = 0.5, 0.2
"""How long an ending server still takes requests, those on their way when it began to end, and then refuses them."""


class GrpcServer:
    """A started server, and how it ends: gRPC itself would cancel calls that it has received and not yet looked at."""

    def __init__(self, server: grpc.aio.Server, methods: Methods) -> None:
        """Take a server that was started with ``methods``."""
        self._server, self._methods = server, methods

    async def stop(self, grace_s: float) -> None:
        """Answer the requests that are under way or on their way, refuse later ones in words, and end.

        Args:
            grace_s: Seconds after which the requests that are left are cancelled.
        """
        began = time.monotonic()
        if began - self._methods.asked_at < _TAKING_S:  # else nobody asks
            await asyncio.sleep(min(_TAKING_S, grace_s))
            self._methods.ending = True
            await asyncio.sleep(min(_REFUSING_S, grace_s))
        await self._server.stop(max(began + grace_s - time.monotonic(), 0.0))


async def start_grpc(service: Service, *, host: str = "127.0.0.1", port: int = 0) -> tuple[GrpcServer, int]:
    """Serve ``service`` over gRPC in the running event loop; ``await server.stop(grace_s)`` ends it.

    Args:
        service: What answers, for HTTP as well.
        host: The address to listen at.
        port: The port, 0 for a free one.

    Returns:
        The started server and its port.

    Raises:
        MissingExtraError: The extra ``triton``, whose stubs these are, is not installed.
        EndpointError: The port is taken.
    """
    try:
        import grpc
        from tritonclient.grpc import service_pb2_grpc
    except (ImportError, RuntimeError) as error:  # tritonclient without its part for gRPC raises the second
        raise MissingExtraError("tritonclient[grpc]", "triton", "the gRPC service of an endpoint") from error
    from registry.endpoints.grpc_methods import Methods, servicer_of

    limits = service.config.limits
    server = grpc.aio.server(
        maximum_concurrent_rpcs=service.config.max_concurrency + _SPARE_CALLS,
        options=[
            ("grpc.max_receive_message_length", limits.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.compression_enabled_algorithms_bitset", _UNCOMPRESSED_ONLY),
            ("grpc.so_reuseport", 0),  # else a second server would take half of the requests of a port in use
        ],
    )
    methods = Methods(service)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer_of(methods), server)
    try:
        found = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise EndpointError(
            f"the gRPC service cannot listen at {host}:{port}: {error}. Choose another port."
        ) from error
    await server.start()
    return GrpcServer(server, methods), found
