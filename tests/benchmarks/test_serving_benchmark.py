"""The comparison of servers runs from end to end without peers, and its caller counts what really comes back."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.contestants import SideFailed
from benchmarks.serving import ALONE, FLOOR, WAITING
from benchmarks.serving_servers import Address, check_answer, ours, side, write_network
from benchmarks.sides.serving_load import Load
from benchmarks.trials import WE

ROOT = Path(__file__).parents[2]
REQUEST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"


def compare(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program as its page says."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.serving", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.heavy
def test_a_quick_comparison_measures_every_way_of_ours_beside_the_floor(tmp_path: Path) -> None:
    page, numbers = tmp_path / "serving.md", tmp_path / "serving.json"
    ran = compare(
        *("--rounds", "1", "--seconds", "0.1", "--peers", "none", "--cache", tmp_path / "cache"),
        *("--output", page, "--output", numbers),
    )
    assert ran.returncode == 0, ran.stderr

    rows = {row["what"]: row for row in json.loads(numbers.read_text(encoding="utf-8"))["rows"]}
    assert {what: row["failed"] for what, row in rows.items() if row["failed"]} == {}
    assert set(rows["binary, 8 connections: requests"]["samples"]) == {FLOOR, WE, ALONE, WAITING}
    assert set(rows["json, 8 connections: requests"]["samples"]) == {FLOOR, WE}
    assert set(rows["grpc, 1 connection: requests"]["samples"]) == {WE}
    assert [what for what, row in rows.items() if len(row["samples"][WE]) != 1] == []
    assert [what for what in rows if what.endswith("that failed") and rows[what]["samples"][WE] != [0]] == []
    assert [what for what in rows if what not in page.read_text(encoding="utf-8")] == []
    assert "us of CPU for a request" in page.read_text(encoding="utf-8")


def test_an_unknown_peer_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    ran = compare("--peers", "kserv", "--cache", tmp_path / "cache")
    assert ran.returncode == 2
    assert "kserv" in ran.stderr
    assert "mlserver" in ran.stderr
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Return the file of the network that is served."""
    write_network(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("form", ["binary", "json"])
def test_what_a_server_answers_is_held_against_onnxruntime(form: str, network: Path, tmp_path: Path) -> None:
    with ours(network, tmp_path / "endpoint") as address:
        check_answer(address, form, network)


def test_a_server_that_gives_other_numbers_takes_no_part(network: Path, tmp_path: Path) -> None:
    with (
        side("floor", network, tmp_path, tmp_path / "floor") as address,
        pytest.raises(SideFailed, match="it answers"),
    ):
        check_answer(address, "binary", network)


@pytest.fixture
def half_broken() -> Iterator[Address]:
    """Give a server whose every second answer is a 500, in pieces, and in chunks where it is a 200."""
    listener = socket.create_server(("127.0.0.1", 0))
    pieces = (
        (b"HTTP/1.1 200 OK\r\nTransfer-", b"Encoding: chunked\r\n\r\n2\r\nok\r\n", b"0\r\n\r\n"),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 4\r\n\r\nno", b"no"),
    )

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            for turn in range(1_000_000):
                if not connection.recv(1000):
                    return
                for piece in pieces[turn % 2]:
                    connection.sendall(piece)

    thread = threading.Thread(target=answer)
    thread.start()
    yield Address(listener.getsockname()[1], None, 0)
    thread.join()
    listener.close()


def test_the_caller_counts_answers_that_come_in_pieces_and_those_that_are_errors(half_broken: Address) -> None:
    load = Load(half_broken.http, base64.b64encode(REQUEST).decode(), connections=1, seconds=0.2)
    ran = subprocess.run(
        [sys.executable, ROOT / "benchmarks/sides/serving_load.py"],
        input=json.dumps(load._asdict()),
        capture_output=True,
        text=True,
        check=True,
    )
    counted = json.loads(ran.stdout)
    assert counted["requests"] > 2
    assert counted["errors"] == counted["requests"] // 2
    assert 0 < counted["p50_s"] <= counted["p99_s"]
