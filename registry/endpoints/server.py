"""The embedded endpoint's own process: ``python -m registry.endpoints.server --config FILE``.

It exits with 0 after SIGTERM, 6 if a model file is not what was recorded, and another number if it cannot serve; the
log file says why. Nothing is written to standard output.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from pydantic import ValidationError

from registry import clock
from registry.endpoints.app import Service, build_app
from registry.endpoints.catalog import open_catalog
from registry.endpoints.serving import ServerConfig, ServerState
from registry.errors import InvalidInputError, ModelwayError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_log = logging.getLogger(__name__)

_KEEP_ALIVE_S = 75  # longer than clients keep an idle connection, so that they never send into one being closed
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
    """Open the models, listen on a free loopback port, say so in the state file, and answer until SIGTERM.

    Raises:
        IntegrityError: A model file has another sha256 than the config says.
        EngineError: A model cannot be opened.
    """
    catalog = open_catalog(config.versions, engine_threads=config.engine_threads)
    with _listener() as listener, ThreadPoolExecutor(config.workers, thread_name_prefix="infer") as workers:
        server = uvicorn.Server(_how_to_run(build_app(Service(config, catalog, workers)), config))
        # From here on a signal asks this server to end, also in the moment before it runs and listens for one itself.
        signal.signal(signal.SIGTERM, server.handle_exit)
        state = _announce(config, listener.getsockname()[1])
        _log.info("endpoint %s (instance %s) listens on %s", config.endpoint, config.instance, state.url)
        try:
            server.run(sockets=[listener])
        finally:
            _withdraw(config, state)
            _log.info("endpoint %s (instance %s) has ended", config.endpoint, config.instance)


def _listener() -> socket.socket:
    # The protocol is named because asyncio switches Nagle's algorithm off only then: without, an answer took 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(_BACKLOG)
    return listener


def _how_to_run(app: object, config: ServerConfig) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=config.drain_s,
    )


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


def _announce(config: ServerConfig, port: int) -> ServerState:
    state = ServerState(
        pid=os.getpid(), port=port, url=f"http://127.0.0.1:{port}", instance=config.instance, started_at=clock.now()
    )
    staged = config.state_file.with_name(f"{config.state_file.name}.{config.instance}.tmp")
    staged.write_text(state.model_dump_json(indent=2) + "\n", encoding="utf-8")
    staged.replace(config.state_file)
    return state


def _withdraw(config: ServerConfig, state: ServerState) -> None:
    # A later start of the same endpoint may have put its own state there.
    if config.state_file.exists() and ServerState.model_validate_json(config.state_file.read_bytes()) == state:
        config.state_file.unlink()


def _leave(_: int, __: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
