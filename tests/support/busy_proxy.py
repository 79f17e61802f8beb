"""A proxy before a Prefect server that does to chosen requests what a busy or failing one does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import httpx

Fault = Literal["busy", "lost before", "lost after"]


@contextlib.contextmanager
def faulty(api_url: str, *, path_ends: str, faults: list[Fault], holding: bytes = b"") -> Iterator[str]:
    """Yield the API's address behind a proxy; each fault befalls one request to such a path and ``holding`` that.

    ``busy`` answers 503, as Prefect does while SQLite is locked; the others break the connection, before the server has
    got the request or after it has done it. What is left of ``faults`` did not happen.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Write nothing."""

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = faults.pop(0) if faults and self.path.endswith(path_ends) and holding in body else None
            if fault == "lost before":
                return self.hang_up()
            if fault == "busy":
                return self.answer(503, b'{"exception_message": "database is locked"}')
            kept = {name: value for name, value in self.headers.items() if name.lower() not in {"host", "connection"}}
            got = httpx.request(self.command, self.server_url + self.path, content=body, headers=kept, timeout=60)
            if fault == "lost after":
                return self.hang_up()
            return self.answer(got.status_code, got.content)

        @property
        def server_url(self) -> str:
            return api_url.removesuffix("/api")

        def hang_up(self) -> None:
            self.close_connection = True

        def answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = forward  # noqa: N815 - http.server's names

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
