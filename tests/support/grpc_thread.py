"""The gRPC service of our endpoint in a thread of the test, over an event loop as the server process has it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import onnx
import uvloop
from tritonclient.grpc import service_pb2_grpc

from registry.encoding import digest_of
from registry.endpoints.answering import Service
from registry.endpoints.grpc_service import GrpcServer, start_grpc
from registry.endpoints.serving import ServedModels, ServedVersion, ServerConfig

TOKEN = "right"  # noqa: S105 - of a server that lives as long as a test

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class GrpcThread:
    """A running service, the stubs of a client of it, and its loop."""

    service: Service
    port: int
    stub: Any
    loop: asyncio.AbstractEventLoop

    def run(self, coroutine: Coroutine[Any, Any, _Found]) -> _Found:
        """Run something in the service's loop, and return what it gives."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30.0)


@contextlib.contextmanager
def grpc_service(folder: Path, models: dict[str, onnx.ModelProto], **more: Any) -> Iterator[GrpcThread]:
    """Serve version 1 of each model; ``more`` is for the ``ServerConfig``."""
    versions = []
    for name, model in models.items():
        path = folder / f"{name}.onnx"
        onnx.save(model, path)
        versions.append(ServedVersion(model=name, version="v1", engine=path, digest=digest_of(path.read_bytes())))
    config = ServerConfig(
        endpoint="trial", models_file=folder / "models.json", state_file=folder / "state.json", **more
    )
    config.models_file.write_text(ServedModels(generation=1, versions=tuple(versions)).model_dump_json())

    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        service, server, port = asyncio.run_coroutine_threadsafe(_started(config), loop).result(60.0)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield GrpcThread(service, port, service_pb2_grpc.GRPCInferenceServiceStub(channel), loop)
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(5.0), loop).result(30.0)
            service.close()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _started(config: ServerConfig) -> tuple[Service, GrpcServer, int]:
    service = Service(config, token=TOKEN)
    server, port = await start_grpc(service)
    return service, server, port
