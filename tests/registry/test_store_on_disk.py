"""What a folder on disk adds: processes race, no half-written file is seen, and the system's refusals are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from registry import FileModelStore
from registry.errors import StoreError
from registry.store import AlreadyExistsError, open_store

PROCESSES = 8
ROUNDS = 200


def test_of_eight_processes_that_create_one_key_exactly_one_wins_every_time(tmp_path: Path) -> None:
    racers = [_start(tmp_path / "store", str(number)) for number in range(PROCESSES)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    starts_at = time.time() + 0.1
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(f"{starts_at}\n")
        racer.stdin.flush()
    answers = [_won(racer) for racer in racers]

    won = sorted(number for answer in answers for number in answer)
    assert won == list(range(ROUNDS))
    store = FileModelStore(tmp_path / "store")
    for name, answer in enumerate(answers):
        for number in answer:
            assert store.read(f"race/{number}") == str(name).encode() * 20_000
    assert list((tmp_path / "store" / "race").glob(".tmp-*")) == []


def test_what_a_killed_writer_left_is_neither_listed_nor_in_the_way(tmp_path: Path) -> None:
    store = FileModelStore(tmp_path)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / ".tmp-abc").write_bytes(b"half a rec")

    assert store.list("") == []
    store.create("log/1", b"record")
    assert store.list("log") == ["log/1"]


def test_a_file_where_a_folder_belongs_is_an_error_and_not_an_absence(tmp_path: Path) -> None:
    store = FileModelStore(tmp_path)
    store.create("a", b"file")

    for refused in (
        lambda: store.create("a/b", b"x"),
        lambda: store.create("a/b/c", b"x"),
        lambda: store.replace("a/b", b"x"),
        lambda: store.read("a/b"),
        lambda: store.read_many(["a/b"]),
        lambda: store.list("a/b"),
        lambda: list(store.chunks("a/b")),
    ):
        with pytest.raises(StoreError, match="a file stands where a folder belongs"):
            refused()
    assert store.list("") == ["a"]
    assert store.read("a") == b"file"


def test_a_folder_where_a_file_belongs_is_an_error_and_stays(tmp_path: Path) -> None:
    store = FileModelStore(tmp_path)
    store.create("a/b", b"x")

    with pytest.raises(AlreadyExistsError):
        store.create("a", b"y")
    for refused in (lambda: store.read("a"), lambda: store.replace("a", b"y"), lambda: store.delete("a")):
        with pytest.raises(StoreError):
            refused()
    assert store.list("") == ["a/b"]


def test_a_store_on_a_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")

    with pytest.raises(StoreError, match="is a file, and a registry needs a folder: give another path"):
        FileModelStore(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="only Linux has a folder that refuses root as well")
def test_a_folder_that_takes_no_files_is_an_error_that_says_so() -> None:
    store = FileModelStore("/proc/self/registry")

    with pytest.raises(StoreError):
        store.create("a", b"x")
    with pytest.raises(FileNotFoundError):
        store.read("a")


def test_every_file_can_be_read_by_the_servers_of_other_users(tmp_path: Path) -> None:
    store = FileModelStore(tmp_path)
    store.create("created", b"x")
    store.replace("replaced", b"x")

    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("created", "replaced")} == {0o644}


@pytest.mark.parametrize("write", ["{path}", "file://{path}"])
def test_a_folder_is_found_by_its_path_and_by_its_url(tmp_path: Path, write: str) -> None:
    folder = tmp_path / "with space"
    FileModelStore(folder).create("a", b"x")
    location = write.format(path=folder if write == "{path}" else str(folder).replace(" ", "%20"))

    store = open_store(location)

    assert store.read("a") == b"x"
    assert store.url == folder.as_uri()
    assert store.local_path("a") == folder / "a"
    assert store.address("a") == str(folder / "a")


def test_nothing_is_made_until_something_is_written(tmp_path: Path) -> None:
    store = FileModelStore(tmp_path / "not" / "yet")

    assert store.list("") == []
    assert store.read_many(["a"]) == [None]
    assert not (tmp_path / "not").exists()


def _start(folder: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("racer.py")), str(folder), name, str(ROUNDS)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _won(racer: subprocess.Popen[str]) -> list[int]:
    out, error = racer.communicate(timeout=60)
    assert racer.returncode == 0, error
    won: list[int] = json.loads(out)
    return won
