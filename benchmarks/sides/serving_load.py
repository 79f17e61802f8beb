"""Asks a server the same again and again for some seconds; standard library alone, as it is to be quick.

It reads a line of JSON from stdin (``Load``), and writes what it counted as one line to stdout.
"""

from __future__ import annotations

import base64
import json
import select
import socket
import sys
import time
from typing import NamedTuple

_TOO_LATE_S = 10.0
_PIECE_BYTES = 1 << 18


class Load(NamedTuple):
    """What to send to which port of 127.0.0.1, over how many connections, and for how long.

    ``request`` is base64: the bytes of a whole HTTP request, or, for gRPC, those of a ModelInferRequest.
    """

    port: int
    request: str
    connections: int
    seconds: float
    grpc: bool = False


class _Connection:
    """A connection with one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_TOO_LATE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.began = 0.0
        self._got = b""

    def send(self, request: bytes) -> None:
        self.began = time.perf_counter()
        self.socket.sendall(request)

    def received(self) -> int | None:
        """Read what is there; return the status of the answer once it is whole, 0 if the connection is closed."""
        piece = self.socket.recv(_PIECE_BYTES)
        if not piece:
            return 0
        self._got += piece
        if not _is_whole(self._got):
            return None
        status = int(self._got[9:12])
        self._got = b""
        return status


def _is_whole(got: bytes) -> bool:
    head, separator, body = got.partition(b"\r\n\r\n")
    if not separator:
        return False
    words = head.lower()
    at = words.find(b"content-length:")
    if at < 0:  # in chunks, the last of them empty
        return body.endswith(b"0\r\n\r\n")
    end = words.find(b"\r\n", at)
    return len(body) >= int(words[at + 15 : None if end < 0 else end])


def over_http(load: Load) -> tuple[list[float], int]:
    """Return the seconds of each answer, and how many answers were no 200."""
    request = base64.b64decode(load.request)
    connections = {}
    poll = select.epoll()
    for _ in range(load.connections):
        one = _Connection(load.port)
        connections[one.socket.fileno()] = one
        poll.register(one.socket, select.EPOLLIN)
    seconds: list[float] = []
    errors = 0
    ends_at = time.perf_counter() + load.seconds
    for one in connections.values():
        one.send(request)
    waiting = len(connections)
    while waiting:
        events = poll.poll(_TOO_LATE_S)
        if not events:
            raise TimeoutError(f"{waiting} requests were not answered within {_TOO_LATE_S:g} s")
        for descriptor, _ in events:
            one = connections[descriptor]
            status = one.received()
            if status is None:
                continue
            now = time.perf_counter()
            seconds.append(now - one.began)
            errors += status != 200  # noqa: PLR2004 - OK
            if status and now < ends_at:
                one.send(request)
            else:
                poll.unregister(descriptor)
                waiting -= 1
    return seconds, errors


def over_grpc(load: Load) -> tuple[list[float], int]:
    """Return the same of a gRPC service, asked by one caller."""
    import grpc

    request = base64.b64decode(load.request)
    seconds: list[float] = []
    errors = 0
    with grpc.insecure_channel(f"127.0.0.1:{load.port}") as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        ends_at = time.perf_counter() + load.seconds
        while (began := time.perf_counter()) < ends_at:
            try:
                infer(request, timeout=_TOO_LATE_S)
            except grpc.RpcError:
                errors += 1
            seconds.append(time.perf_counter() - began)
    return seconds, errors


def main() -> None:
    """Do what stdin asks for."""
    load = Load(**json.loads(sys.stdin.readline()))
    cpu_before, began = time.process_time(), time.perf_counter()
    seconds, errors = over_grpc(load) if load.grpc else over_http(load)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_before
    seconds.sort()
    count = len(seconds)
    counted = {
        "requests": count,
        "errors": errors,
        "per_s": count / wall_s,
        "p50_s": seconds[count // 2],
        "p99_s": seconds[min(count - 1, count * 99 // 100)],
        "client_cpu_s": cpu_s / count,
    }
    sys.stdout.write(json.dumps(counted) + "\n")


if __name__ == "__main__":
    main()
