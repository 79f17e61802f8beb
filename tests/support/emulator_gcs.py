"""The object calls of Google Cloud Storage's JSON API, strict about preconditions, as a program.

gcp-storage-emulator is not used because it ignores ``ifGenerationMatch``: of 32 racers that create one object all 32
win, so it proves nothing. This one checks the precondition when an upload begins and again when it is made visible,
under one lock with the write, as the service promises. It knows: media and resumable uploads, get (whole, range,
metadata), list in pages, delete. What it does not know it answers with 501, so that no test passes by accident.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 7
"""Keys in a page of a list; small, so that every test of a list turns pages."""

_LEAST = 256 * 1024


@dataclass
class _Session:
    bucket: str
    name: str
    precondition: str | None
    data: bytearray = field(default_factory=bytearray)


@dataclass
class _Storage:
    lock: threading.Lock = field(default_factory=threading.Lock)
    buckets: dict[str, dict[str, tuple[bytes, str]]] = field(default_factory=dict)
    sessions: dict[str, _Session] = field(default_factory=dict)


class _Problem(Exception):  # noqa: N818 - an answer
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: in two, the client's system waits 40 ms before it answers the first
    storage = _Storage()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Write nothing."""

    def do_GET(self) -> None:
        """Answer a read."""
        self._answer(b"")

    do_DELETE = do_GET  # noqa: N815 - http.server's name

    def do_POST(self) -> None:
        """Answer a write."""
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    do_PUT = do_POST  # noqa: N815 - http.server's name

    def _answer(self, body: bytes) -> None:
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        try:
            with self.storage.lock:
                status, headers, data = self._route(url.path, asked, body)
        except _Problem as problem:
            error = {"error": {"code": problem.status, "message": problem.message}}
            status, headers, data = problem.status, {"Content-Type": "application/json"}, json.dumps(error).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _route(self, path: str, asked: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if found := re.fullmatch(r"/session/(\w+)", path):
            return self._resume(found[1], body)
        if self.command == "POST" and path == "/storage/v1/b":
            self.storage.buckets[json.loads(body)["name"]] = {}
            return 200, {}, b"{}"
        if self.command == "POST" and (found := re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", path)):
            return self._upload(unquote(found[1]), asked, body)
        if self.command == "GET" and (found := re.fullmatch(r"/storage/v1/b/([^/]+)/o", path)):
            return self._list(self._bucket(unquote(found[1])), asked)
        if found := re.fullmatch(r"/storage/v1/b/([^/]+)/o/([^/]+)", path):
            return self._object(self._bucket(unquote(found[1])), unquote(found[2]), asked)
        raise _Problem(501, f"{self.command} {path} is not emulated")

    def _bucket(self, name: str) -> dict[str, tuple[bytes, str]]:
        if name not in self.storage.buckets:
            raise _Problem(404, "The specified bucket does not exist.")
        return self.storage.buckets[name]

    def _upload(self, bucket: str, asked: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        name, condition = asked["name"], asked.get("ifGenerationMatch")
        self._check(bucket, name, condition)
        if asked["uploadType"] == "media":
            return self._keep(bucket, name, body)
        if asked["uploadType"] == "resumable":
            session = uuid.uuid4().hex
            self.storage.sessions[session] = _Session(bucket, name, condition)
            return 200, {"Location": f"http://{self.headers['Host']}/session/{session}"}, b""
        raise _Problem(501, "this upload type is not emulated")

    def _resume(self, number: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        session = self.storage.sessions.get(number)
        if session is None:
            raise _Problem(410, "no such upload session")
        if self.command == "DELETE":
            del self.storage.sessions[number]
            return 499, {}, b""
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", self.headers["Content-Range"])
        if found is None or int(found[1]) != len(session.data) or int(found[2]) - int(found[1]) + 1 != len(body):
            raise _Problem(400, "the range does not follow")
        if found[3] == "*":
            if len(body) % _LEAST:
                raise _Problem(400, "a piece that is not the last must be a multiple of 256 KiB")
            # As the service may: the last quarter of a MiB is not kept, and has to be sent again.
            session.data += body if len(body) == _LEAST else body[:-_LEAST]
            return 308, {"Range": f"bytes=0-{len(session.data) - 1}"}, b""
        session.data += body
        if len(session.data) != int(found[3]):
            raise _Problem(400, "the total is not what was sent")
        del self.storage.sessions[number]
        self._check(session.bucket, session.name, session.precondition)
        return self._keep(session.bucket, session.name, bytes(session.data))

    def _check(self, bucket: str, name: str, precondition: str | None) -> None:
        if precondition not in {None, "0"}:
            raise _Problem(501, "only ifGenerationMatch=0 is emulated")
        if precondition == "0" and name in self._bucket(bucket):
            raise _Problem(412, "At least one of the pre-conditions you specified did not hold.")

    def _keep(self, bucket: str, name: str, data: bytes) -> tuple[int, dict[str, str], bytes]:
        self._bucket(bucket)[name] = (data, datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"))
        return 200, {}, json.dumps({"name": name, "size": str(len(data))}).encode()

    def _list(self, bucket: dict[str, tuple[bytes, str]], asked: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        names = sorted(name for name in bucket if name.startswith(asked.get("prefix", "")))
        names = [name for name in names if name > asked.get("pageToken", "")]
        page: dict[str, Any] = {"items": [{"name": name} for name in names[:PAGE]]}
        if len(names) > PAGE:
            page["nextPageToken"] = names[PAGE - 1]
        return 200, {}, json.dumps(page).encode()

    def _object(
        self, bucket: dict[str, tuple[bytes, str]], name: str, asked: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        if name not in bucket:
            raise _Problem(404, f"No such object: {name}")
        data, updated = bucket[name]
        if self.command == "DELETE":
            del bucket[name]
            return 204, {}, b""
        if asked.get("alt") != "media":
            return 200, {}, json.dumps({"name": name, "size": str(len(data)), "updated": updated}).encode()
        if found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or ""):
            if int(found[1]) >= len(data):
                raise _Problem(416, "Request range not satisfiable")
            return 206, {}, data[int(found[1]) : int(found[2]) + 1]
        return 200, {}, data


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Write nothing of a client that went away."""


def main() -> None:
    """Serve on a free port."""
    server = _Server(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
