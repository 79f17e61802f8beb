"""The floor of a server in Python: uvicorn with an app that reads a body and sends as many bytes as an answer has."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

_HEADER = b'{"model_name":"mlp","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[1,10]}]}'
_ANSWER = _HEADER + bytes(40)
_HEADERS = [
    (b"content-type", b"application/octet-stream"),
    (b"content-length", str(len(_ANSWER)).encode()),
    (b"inference-header-content-length", str(len(_HEADER)).encode()),
]


async def app(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer any request with the same bytes."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _ANSWER})


def main(port: int) -> None:
    """Serve on loopback until SIGTERM."""
    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off", ws="none")


if __name__ == "__main__":
    main(int(sys.argv[1]))
