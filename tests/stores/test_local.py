"""What a folder on disk adds: no half-written file is seen, and the system's refusals are told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_disk

from registry import FileModelStore
from registry.errors import StoreError
from registry.store import AlreadyExistsError, open_store


def test_what_a_killed_writer_left_is_neither_listed_nor_in_the_way_and_is_swept(tmp_path: Path) -> None:
    store = FileModelStore(tmp_path)
    (tmp_path / "log").mkdir()
    left = tmp_path / "log" / ".tmp-abc"
    left.write_bytes(b"half a rec")

    assert store.list("") == []
    store.create("log/1", b"record")
    assert store.list("log") == ["log/1"]

    assert store.sweep(older_than_s=60) == []  # a slow writer may still hold it
    an_hour_ago = time.time() - 3600
    os.utime(left, (an_hour_ago, an_hour_ago))
    assert store.sweep(older_than_s=60) == ["log/.tmp-abc"]
    assert left.exists()
    assert store.sweep(older_than_s=60, dry_run=False) == ["log/.tmp-abc"]
    assert not left.exists()
    assert store.read("log/1") == b"record"
    assert FileModelStore(tmp_path / "not" / "yet").sweep(older_than_s=0) == []


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
        lambda: store.modified("a/b"),
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
    for refused in (
        lambda: store.read("a"),
        lambda: store.read_many(["a"]),
        lambda: store.replace("a", b"y"),
        lambda: store.delete("a"),
    ):
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

    with pytest.raises(StoreError, match="/proc/self/registry cannot be made"):
        store.create("a", b"x")
    with pytest.raises(FileNotFoundError):
        store.read("a")


@pytest.mark.skipif(shutil.which("unshare") is None, reason="only Linux mounts a disk for one process")
def test_a_full_disk_and_a_read_only_one_are_told_and_leave_nothing_half_written(tmp_path: Path) -> None:
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    run = subprocess.run(
        ["unshare", "--mount", *user, sys.executable, small_disk.__file__, str(tmp_path)],  # noqa: S607 - from PATH
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)

    for write in ("create", "upload", "replace"):
        assert "no space left on the device; nothing was recorded. Free some and repeat." in told[write]
    assert json.loads(told["after a full disk"]) == ["registry/log/1"]
    for write in ("create", "replace", "delete", "new folder"):
        assert told[f"{write}, read-only"].startswith("StoreForbiddenError: ")
        assert told[f"{write}, read-only"].endswith("the file system is mounted read-only.")
    assert json.loads(told["after a read-only disk"]) == ["registry/log/1", "registry/log/2"]
    assert told["read"] == "first"
    assert list(tmp_path.iterdir()) == []  # the disk was the child's alone


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

    store = open_store(location, storage_options={"endpoint_url": "of a bucket, and of no use here"})

    assert store.read("a") == b"x"
    assert store.url == folder.as_uri()
    assert store.local_path("a") == folder / "a"
    assert store.address("a") == str(folder / "a")


def test_nothing_is_made_until_something_is_written(tmp_path: Path) -> None:
    store = FileModelStore(tmp_path / "not" / "yet")

    assert store.list("") == []
    assert store.read_many(["a"]) == [None]
    assert not (tmp_path / "not").exists()


def test_a_writer_whose_temporary_file_was_swept_is_told_and_has_written_nothing(tmp_path: Path) -> None:
    store = FileModelStore(tmp_path)

    def swept_meanwhile() -> Iterator[bytes]:
        yield b"one piece"
        assert len(store.sweep(older_than_s=-60, dry_run=False)) == 1

    with pytest.raises(StoreError, match="was not written: somebody removed its temporary file"):
        store.upload("models/digits/a.bin", swept_meanwhile())

    assert store.list("") == []
    store.upload("models/digits/a.bin", iter([b"one piece"]))
