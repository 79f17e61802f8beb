"""Vertex AI on a port of loopback, as strict as the service: bodies are parsed into its real messages, or refused.

It knows what the target and the two lists of Google's own SDK ask for, and answers anything else with 501, so that no
test passes by accident. Its rules are in ``vertex_fake_rules``, its containers in ``vertex_fake_container``.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from vertex_fake_rules import HTTP_OF, Refusal, VertexRules

When = Literal["before", "after"]


@dataclass
class Fault:
    """What goes wrong with one request: a canonical status, or ``drop`` for no answer at all.

    Args:
        status: ``RESOURCE_EXHAUSTED`` for instance, or ``drop``.
        when: Before the request has its effect, or after it.
        at: Which request it meets, counted from 0 over all; None for the next one that ``match`` fits.
        match: A pattern that the verb and the path are searched for.
        times: How many requests it meets.
        words: What the service says.
    """

    status: str
    when: When = "before"
    at: int | None = None
    match: str = ""
    times: int = 1
    words: str = "It was made to fail."

    def meets(self, number: int, request: str) -> bool:
        """Return whether it meets a request, and count it."""
        found = number == self.at if self.at is not None else bool(re.search(self.match, request))
        if not found or self.times < 1:
            return False
        self.times -= 1
        return True


class FakeVertex:
    """A server with one project and one region, for tests to look into."""

    def __init__(self, rules: VertexRules, url: str) -> None:
        """Take the rules, which hold all state, and the address."""
        self.rules, self.url = rules, url
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()

    @property
    def changes(self) -> list[str]:
        """The requests that change something, without the resource's location."""
        found = [one for one in self.requests if not one.startswith("GET") and ":rawPredict" not in one]
        return [re.sub(r"/v1/projects/[^/]+/locations/[^/]+/", "", one) for one in found]

    def answer(self, verb: str, target: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes] | None:
        """Return status, headers and body of an answer; None to close the connection without one."""
        with self.lock:
            url = urlsplit(target)
            path, number = unquote(url.path), len(self.requests)
            self.requests.append(f"{verb} {path}")
            fault = next((one for one in self.faults if one.meets(number, self.requests[-1])), None)
            try:
                if fault is None:
                    return self.rules.handle(verb, path, dict(parse_qsl(url.query)), headers, body)
                if fault.when == "after":
                    with contextlib.suppress(Refusal):
                        self.rules.handle(verb, path, dict(parse_qsl(url.query)), headers, body)
                if fault.status == "drop":
                    return None
                raise Refusal(fault.status, fault.words)  # noqa: TRY301 - as the rules do
            except Refusal as refusal:
                error = {"code": HTTP_OF[refusal.status], "message": str(refusal), "status": refusal.status}
                data = json.dumps({"error": error}).encode()
                return HTTP_OF[refusal.status], {"Content-Type": "application/json"}, data


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet
    vertex: FakeVertex

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Write nothing."""

    def do_GET(self) -> None:
        """Answer any request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.vertex.answer(self.command, self.path, self.headers, body)
        if answer is None:
            self.close_connection = True
            return
        status, headers, data = answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server's names


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Write nothing of a client that went away."""


@contextlib.contextmanager
def running_vertex(rules: VertexRules) -> Iterator[FakeVertex]:
    """Serve on a free port of loopback."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {}))
    fake = FakeVertex(rules, f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass.vertex = fake  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
