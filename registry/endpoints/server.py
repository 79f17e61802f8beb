"""The embedded endpoint's own process: ``python -m registry.endpoints.server --config FILE``.

It exits with 0 after SIGTERM, 6 if a model file is not what was recorded, and another number if it cannot serve; the
log file says why. Nothing is written to standard output.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from registry import clock
from registry.endpoints.answering import Service
from registry.endpoints.app import App
from registry.endpoints.draining import DrainingServer
from registry.endpoints.serving import ServerConfig, ServerState
from registry.errors import EndpointError, InvalidInputError, MissingExtraError, ModelwayError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from registry.endpoints.grpc_service import GrpcServer
    from registry.endpoints.request_log import RequestLog

_log = logging.getLogger(__name__)

_BACKLOG = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m registry.endpoints.server", description="Serve ONNX models on 127.0.0.1."
    )
    parser.add_argument("--config", type=Path, required=True, help="a ServerConfig as JSON")
    # Until there is a server that could drain, the signal ends the loading.
    signal.signal(signal.SIGTERM, _leave)
    try:
        config = _read_config(parser.parse_args(arguments).config)
        _log_to(config.log_file)
        serve(config)
    except ModelwayError as error:
        _log.error("%s", error)
        return error.exit_code
    return 0


def serve(config: ServerConfig) -> None:
    """Open the models, listen on loopback, say so in the state file, and answer until SIGTERM.

    Where an inference goes on that nobody waits for any more, the process ends here: no thread can be stopped.

    Raises:
        IntegrityError: A model file has another sha256 than the models file says.
        EngineError: A model cannot be opened.
        EndpointError: The port is taken.
        MissingExtraError: Requests are to be logged, and pyarrow is not installed.
    """
    log = _request_log(config)
    token = secrets.token_urlsafe(32)
    service = Service(config, token=token)
    service.log = log
    try:
        with _listener(config.port) as listener:
            _Process(config, service, token, listener).run()
    finally:
        service.close()
        if log is not None:
            log.close()
        _log.info("endpoint %s (instance %s) has ended", config.endpoint, config.instance)
    if service.computes:
        logging.shutdown()
        os._exit(0)


class _Process:
    """One service on its sockets, from the state file's coming to its going."""

    def __init__(self, config: ServerConfig, service: Service, token: str, listener: socket.socket) -> None:
        self._config, self._service, self._token, self._listener = config, service, token, listener
        self._grpc: GrpcServer | None = None
        self._server = DrainingServer(App(service), service, started=self._announce, ended=self._end_grpc)

    def run(self) -> None:
        """Answer until SIGTERM."""
        # From here on a signal asks this server to end, also in the moment before it runs and listens for one itself.
        signal.signal(signal.SIGTERM, self._server.handle_exit)
        try:
            self._server.run(sockets=[self._listener])
        finally:
            self._withdraw()

    async def _announce(self) -> None:
        config, port = self._config, self._listener.getsockname()[1]
        grpc_address = await self._start_grpc()
        state = ServerState(
            pid=os.getpid(),
            port=port,
            url=f"http://127.0.0.1:{port}",
            instance=config.instance,
            started_at=clock.now(),
            grpc=grpc_address,
            token=self._token,
        )
        staged = config.state_file.with_name(f"{config.state_file.name}.{config.instance}.tmp")
        # For the owner alone from the first byte on: it holds the right to load models.
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(state.model_dump_json(indent=2) + "\n")
        staged.replace(config.state_file)
        words = f"{state.url}, gRPC at {grpc_address}" if grpc_address else state.url
        _log.info("endpoint %s (instance %s) listens on %s", config.endpoint, config.instance, words)

    async def _start_grpc(self) -> str | None:
        if not self._config.grpc:
            return None
        from registry.endpoints.grpc_service import start_grpc

        try:
            self._grpc, port = await start_grpc(self._service, port=self._config.grpc_port)
        except MissingExtraError as error:
            _log.warning("there is no gRPC service: %s", error)
            return None
        return f"127.0.0.1:{port}"

    async def _end_grpc(self) -> None:
        if self._grpc is not None:
            await self._grpc.stop(self._config.drain_s)

    def _withdraw(self) -> None:
        # A later start of the same endpoint may have put its own state there.
        path = self._config.state_file
        if path.exists() and ServerState.model_validate_json(path.read_bytes()).instance == self._config.instance:
            path.unlink()


def _request_log(config: ServerConfig) -> RequestLog | None:
    if config.log_folder is None or not config.log_share:
        return None
    from registry.endpoints.request_log import RequestLog

    return RequestLog(config.log_folder, share=config.log_share)


def _listener(port: int) -> socket.socket:
    # The protocol is named because asyncio switches Nagle's algorithm off only then: without, an answer took 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # Else a port that was kept could not be taken again for a minute after the process before.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise EndpointError(
            f"nothing can listen on 127.0.0.1:{port}: {error.strerror}. Choose another port, or 0 for a free one."
        ) from error
    return listener


def _read_config(path: Path) -> ServerConfig:
    try:
        return ServerConfig.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InvalidInputError(f"{path} is no ServerConfig: {error}") from error


def _log_to(path: Path | None) -> None:
    handler = logging.StreamHandler() if path is None else logging.FileHandler(path)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", handlers=[handler]
    )


def _leave(_: int, __: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
