"""What every HTTP request passes: whom it was sent to, how large it is, and the bytes of its answer; plain ASGI."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from registry.endpoints.protocol import error_body
from registry.endpoints.tensors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Message, Receive, Scope, Send

_OWN_NAMES = {"127.0.0.1", "localhost"}
_HOSTS_KEPT = 64  # of all those that anybody may send
_JSON = b"application/json"
_TOO_MANY = 429


class ClientGoneError(Exception):
    """The connection was closed before the whole body had come."""


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers of a request by their names in small letters; of one that stands there twice the last."""
    return dict(scope["headers"])


def no_request(scope: Scope) -> str:
    """Return the words for a method and path that mean nothing here."""
    return f"{scope['method']} {scope['path'][:120]!r} is no request of this server"


def foreign(headers: dict[bytes, bytes]) -> str:
    """Return why a request is not for this server: sent to another name, or by a page of another origin; else ""."""
    return _foreign(headers.get(b"host", b""), headers.get(b"origin", b""))


@functools.lru_cache(maxsize=_HOSTS_KEPT)
def _foreign(host: bytes, origin: bytes) -> str:
    named = host.decode("latin-1")
    if _host_name(f"//{named}") not in _OWN_NAMES:
        return f"this server answers to {' and '.join(sorted(_OWN_NAMES))}, not to the host {named[:80]!r}"
    page = origin.decode("latin-1")
    if page and _host_name(page) not in _OWN_NAMES:
        return f"this server does not answer pages of {page[:80]!r}"
    return ""


def _host_name(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        hostname = parts.hostname if parts.port != 0 else None
    except ValueError:  # a port that is no number, a bracket that is not closed
        return None
    return hostname


async def body_within(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Return the body of a request, of which no more than ``limit`` bytes are ever kept.

    Raises:
        ProtocolError: It is compressed (415), or larger (413).
        ClientGoneError: It ended early.
    """
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.strip().lower() != b"identity":
        words = f"Content-Encoding {encoding[:40].decode('latin-1')!r} is not accepted: send the body uncompressed"
        raise ProtocolError(words, status=415)
    if int(headers.get(b"content-length", b"0")) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body") and len(message["body"]) <= limit:
        return bytes(message["body"])
    parts, size = [], 0
    while message["type"] == "http.request":
        size += len(message["body"])
        if size > limit:  # sent in chunks: no length was announced
            raise _too_large(limit)
        parts.append(message["body"])
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    raise ClientGoneError


def _too_large(limit: int) -> ProtocolError:
    return ProtocolError(f"the body has more than {limit} bytes; send fewer samples at once", status=413)


async def answer(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send an answer, JSON unless ``headers`` say otherwise."""
    given = [*headers] or [(b"content-type", _JSON)]
    given.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": given})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, status: int, words: str) -> None:
    """Send the protocol's error; one of too many requests says when to ask again, in seconds."""
    again = [(b"content-type", _JSON), (b"retry-after", b"1")] if status == _TOO_MANY else ()
    await answer(send, status, error_body(words), again)


def closing(send: Send) -> Send:
    """Return what sends the last answer of a connection."""

    async def send_last(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return send_last
