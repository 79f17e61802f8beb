"""KServe's Python model server over onnxruntime, in its faster way: on uvloop, and with no log of requests."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import kserve  # type: ignore[import-not-found]
import onnxruntime
import uvicorn
import uvloop
from grpc.aio import _server as grpc_server


class Network(kserve.Model):  # type: ignore[misc]
    """The model, as KServe's documentation writes one."""

    def __init__(self, file: Path) -> None:
        """Open the file."""
        super().__init__("mlp")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.ready = True

    async def predict(self, payload: Any, _headers: Any = None, _response_headers: Any = None) -> Any:
        """Answer one request; on the event loop, as a thread would cost more than this network."""
        (found,) = self._session.run(None, {"x": payload.inputs[0].as_numpy()})
        output = kserve.InferOutput(name="y", shape=list(found.shape), datatype="FP32")
        output.set_data_from_numpy(found)
        return kserve.InferResponse(
            response_id=payload.id or "1",
            model_name="mlp",
            infer_outputs=[output],
            requested_outputs=payload.request_outputs,
            use_binary_outputs=payload.use_binary_outputs,
        )


def stay_on_loopback() -> None:
    """Make both services listen on 127.0.0.1: KServe has no setting for it."""
    configure, add_port = uvicorn.Config.__init__, grpc_server.Server.add_insecure_port

    def configured(self: uvicorn.Config, *arguments: Any, **settings: Any) -> None:
        configure(self, *arguments, **{**settings, "host": "127.0.0.1", "access_log": False})

    uvicorn.Config.__init__ = configured  # type: ignore[method-assign]
    grpc_server.Server.add_insecure_port = lambda self, address: add_port(self, address.replace("[::]", "127.0.0.1"))


def main(file: Path, http_port: int, grpc_port: int) -> None:
    """Serve until SIGTERM."""
    stay_on_loopback()
    # Its setting for the event loop says "uvloop if available", and with one worker nothing heeds it.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(uvloop.new_event_loop())
    server = kserve.ModelServer(http_port=http_port, grpc_port=grpc_port, enable_latency_logging=False)
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    server.start([Network(file)])


if __name__ == "__main__":
    model_file, http, rpc = sys.argv[1:]
    sys.argv[1:] = []  # KServe reads them too, at its first import of all; what it takes from them are its defaults
    main(Path(model_file), int(http), int(rpc))
