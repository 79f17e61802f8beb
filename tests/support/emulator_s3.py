"""moto's S3 as a program: it prints its URL and serves until its input ends.

Requests are answered one after the other. moto looks whether a key is free and writes it in two steps, and with
threads of its own two racers won in 1 of 400 rounds; behind one lock it does what S3 promises.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterable
from typing import Any

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class _OneByOne:
    def __init__(self, application: Any) -> None:
        self._application = application
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # The body is taken before the lock: a client that dies while it sends must not keep the others waiting.
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        try:
            with self._lock:
                return [b"".join(self._application(environ, start_response))]
        except KeyError:
            if "uploadId=" not in environ["QUERY_STRING"]:
                raise
            # What S3 answers for an upload that was given up; moto fails on it.
            start_response("404 Not Found", [("Content-Type", "application/xml")])
            return [b"<Error><Code>NoSuchUpload</Code><Message>no such upload</Message></Error>"]


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Write nothing."""


def main() -> None:
    """Serve on a free port."""
    application = _OneByOne(create_backend_app("s3"))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
