"""The HTTP server of one process, and how it ends: nothing that it accepted goes unanswered.

From SIGTERM on every answer is the last one of its connection. A client that keeps its connection and is between two
requests would see it closed under the next one, so those are left open for a moment, and closed when they stay silent.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

    from uvicorn._types import HTTPScope
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from registry.endpoints.answering import Service

_log = logging.getLogger(__name__)

_SILENT_S = 1.0
_POLL_S = 0.02
_KEEP_ALIVE_S = 75  # longer than clients keep an idle connection, so that they never send into one being closed
_ACCEPTED_S = 0.05  # many turns of the event loop, each of which accepts all connections that are there
_SO_ATTACH_FILTER = 26  # Linux has it for every processor that Python's wheels are built for; Python does not name it
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # one instruction of the kernel's packet filters: return 0 bytes
_LAST_ANSWERS_S = 1  # for what is cancelled after all


class Connection(HttpToolsProtocol):
    """One connection, which knows whether a request has begun to come."""

    @property
    def silent(self) -> bool:
        """Whether no request is being read or answered."""
        # Both are None at first, whatever uvicorn's types say.
        cycle, scope = cast("RequestResponseCycle | None", self.cycle), cast("HTTPScope | None", self.scope)
        return scope is None if cycle is None else cycle.response_complete and cycle.scope is scope

    @property
    def answering(self) -> bool:
        """Whether an answer is being made; not so while the head of a request is still being read."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete


class DrainingServer(uvicorn.Server):
    """Serves until SIGTERM, then answers what it has accepted, for ``drain_s`` at most.

    ``started`` is awaited once requests are answered, ``ended`` when no new ones are, side by side with the last ones.
    """

    def __init__(
        self,
        app: Any,
        service: Service,
        *,
        started: Callable[[], Awaitable[None]],
        ended: Callable[[], Awaitable[None]],
    ) -> None:
        """Take what answers; nothing listens yet."""
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_LAST_ANSWERS_S,
                backlog=1024,
            )
        )
        self._service = service
        self._on_start, self._on_end = started, ended

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain, at once."""
        self._service.draining = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell so."""
        await super().startup(sockets)
        await self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was accepted, then end."""
        self._service.draining = True
        drain_s = self._service.config.drain_s
        for listener in sockets or ():
            take_no_more(listener)
        await asyncio.sleep(_ACCEPTED_S)
        for server in self.servers:
            server.close()
        others = asyncio.ensure_future(self._on_end())
        left = await self._drain(drain_s)
        if left:
            _log.warning("%d connections were not done after %d s, and are closed", left, drain_s)
        await others
        await super().shutdown(sockets)

    async def _drain(self, drain_s: float) -> int:
        """Wait for the connections to end, close those that are silent, and return how many are left."""
        for connection in self._connections():
            if connection.answering:
                connection.shutdown()  # which makes that answer its last one
        began = time.monotonic()
        silent_since: dict[Connection, float] = {}
        while (connections := self._connections()) and (now := time.monotonic()) - began < drain_s:
            silent_since = {one: silent_since.get(one, now) for one in connections if one.silent}
            for connection, since in silent_since.items():
                if now - since >= _SILENT_S:
                    connection.shutdown()
            await asyncio.sleep(_POLL_S)
        return len(self._connections())

    def _connections(self) -> list[Connection]:
        return [one for one in self.server_state.connections if isinstance(one, Connection)]


def take_no_more(listener: socket.socket) -> None:
    """Have the kernel accept no new connections for a socket whose waiting ones are still to be answered.

    Closing it resets those that the kernel has accepted since the last look: under load of clients that connect anew,
    one or two at each end of a server. Packets that ask for a connection are dropped instead; who sends one asks again
    after a second, and is refused then, or reaches the next process. Elsewhere than on Linux those few are reset.
    """
    if sys.platform == "linux":
        program = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))
