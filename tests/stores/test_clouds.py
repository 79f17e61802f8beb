"""What a bucket adds: streams of bounded memory, pages, uploads given up, forks, and a whole registry on each cloud."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloud_process
import pytest
from emulators import Emulator
from fsspec.asyn import get_loop, sync

from registry import ModelRegistry, ModelStage, ModelStore
from registry.errors import IntegrityError, NotFoundError, StoreError
from registry.store import AlreadyExistsError, open_store
from registry.store.bucket import Bucket, piece_bytes

pytestmark = pytest.mark.heavy

PROCESSES, PROMOTIONS = 4, 6


@pytest.fixture(params=["s3", "gcs", "azure"])
def server(request: pytest.FixtureRequest) -> Emulator:
    """Return each cloud's emulator."""
    found: Emulator = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def url(server: Emulator) -> str:
    """Return the URL of an empty folder in the bucket."""
    return f"{server.url}/{uuid.uuid4().hex}"


@pytest.fixture
def store(server: Emulator, url: str) -> ModelStore:
    """Return an empty store on each cloud."""
    return open_store(url, storage_options=server.options)


def test_a_list_turns_all_pages(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "page_keys", 5)
    keys = sorted(f"log/{number:03d}" for number in range(23))
    for key in keys:
        store.create(key, b"")

    assert store.list("log") == keys
    assert store.list("") == keys


def test_two_stores_in_one_bucket_do_not_see_each_other(server: Emulator, url: str) -> None:
    one = open_store(f"{url}/a", storage_options=server.options)
    other = open_store(f"{url}/ab", storage_options=server.options)
    one.create("x", b"1")
    other.create("y", b"2")

    assert one.list("") == ["x"]
    assert other.list("") == ["y"]


def test_what_consoles_leave_to_show_a_folder_is_no_key(server: Emulator, url: str) -> None:
    store = open_store(url, storage_options=server.options)
    store.create("a/b", b"x")
    bucket = store._client.kind(server.url.partition("://")[2], server.options)  # type: ignore[attr-defined]  # noqa: SLF001
    below = url.removeprefix(f"{server.url}/")
    sync(get_loop(), bucket.put, f"{below}/a/", b"", exclusive=False)

    assert store.list("") == ["a/b"]


def test_an_upload_whose_last_check_fails_is_given_up(store: ModelStore, server: Emulator) -> None:
    def checked() -> Iterator[bytes]:
        yield bytes(20 << 20)
        raise IntegrityError("weights", "one digest", "another")

    with pytest.raises(IntegrityError, match="weights is not what was recorded"):
        store.upload("weights", checked())

    assert store.list("") == []
    with pytest.raises(FileNotFoundError):
        store.read("weights")
    if server.url.startswith("s3"):
        assert store.sweep(older_than_s=-60) == []  # nor does the service hold pieces that somebody pays for


def test_a_loser_that_began_before_the_winner_ended_is_refused_and_the_winner_stays(store: ModelStore) -> None:
    def overtaken() -> Iterator[bytes]:
        yield bytes(20 << 20)  # two pieces are on their way, and the key is still free
        store.create("weights", b"the winner's")
        yield b"tail"

    with pytest.raises(AlreadyExistsError, match="weights exists already and is never overwritten"):
        store.upload("weights", overtaken())

    assert store.read("weights") == b"the winner's"


def test_a_sweep_finds_the_pieces_of_a_killed_upload_and_leaves_young_ones(s3: Emulator) -> None:
    store = open_store(f"{s3.url}/{uuid.uuid4().hex}", storage_options=s3.options)
    elsewhere = open_store(f"{s3.url}/{uuid.uuid4().hex}", storage_options=s3.options)
    for of in (store, elsewhere):  # as a killed process leaves it: begun, and neither finished nor given up
        sync(get_loop(), _begin, of, s3)

    assert store.sweep(older_than_s=100 * 365 * 86_400) == []  # moto says of every upload that it began in 2010
    assert store.sweep(older_than_s=-60) == ["weights"]
    assert store.sweep(older_than_s=-60, dry_run=False) == ["weights"]
    assert store.sweep(older_than_s=-60) == []
    assert elsewhere.sweep(older_than_s=-60) == ["weights"]


@pytest.mark.parametrize("winner", [True, False])
def test_an_upload_whose_pieces_are_swept_away_is_told_so_or_who_won(s3: Emulator, *, winner: bool) -> None:
    store = open_store(f"{s3.url}/{uuid.uuid4().hex}", storage_options=s3.options)

    def swept() -> Iterator[bytes]:
        yield bytes(20 << 20)
        assert store.sweep(older_than_s=-60, dry_run=False) == ["weights"]
        if winner:
            store.create("weights", b"the winner's")
        yield b"tail"

    with pytest.raises(
        AlreadyExistsError if winner else StoreError,
        match="never overwritten" if winner else "the pieces of this upload were removed while it ran.*Repeat it",
    ):
        store.upload("weights", swept())

    assert store.read_many(["weights"]) == [b"the winner's" if winner else None]


async def _begin(store: Any, s3: Emulator) -> None:
    bucket = store._client.kind("models", s3.options)  # noqa: SLF001 - to leave what only a kill leaves
    upload = bucket.pieces(f"{store.url.rpartition('/')[2]}/weights", exclusive=True)
    await upload.begin()
    await upload.stage(1, bytes(5 << 20))


def test_memory_stays_bounded_whatever_the_size(server: Emulator, url: str) -> None:
    answer = json.loads(_process("stream", server, url, "128"))

    assert answer["both_mb"] < 100, answer


def test_the_pieces_of_the_largest_object_keep_memory_below_100_mb() -> None:
    most = max(piece_bytes(number) for number in (1, 1000, 1001, 10_000))

    assert (Bucket.pieces_at_once + 2) * most < 100 << 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only systems that fork can fork")
def test_a_store_goes_on_in_a_forked_child_and_both_end(server: Emulator, url: str) -> None:
    assert json.loads(_process("fork", server, url)) == {"status": 0, "after": "child"}


def test_a_registry_lives_its_whole_life_in_a_bucket(store: ModelStore, tmp_path: Path) -> None:
    models = ModelRegistry(store=store, actor="ada@example.com")
    (tmp_path / "model" / "deep").mkdir(parents=True)
    (tmp_path / "model" / "weights.bin").write_bytes(bytes(9 << 20))
    (tmp_path / "model" / "deep" / "labels [1].txt").write_text("zero, one")

    first = models.register("digits", b"as bytes", metrics={"accuracy": 0.9})
    second = models.register("digits", tmp_path / "model", metrics={"accuracy": 0.95})
    models.promote("digits", first.version, "production")
    models.promote("digits", second.version, "production")

    fresh = ModelRegistry(store=open_store(store.url, storage_options=store._client._options))  # type: ignore[attr-defined]  # noqa: SLF001
    assert fresh.load_artifact("digits", first.version) == b"as bytes"
    fresh.download("digits", second.version, tmp_path / "back")
    assert (tmp_path / "back" / "deep" / "labels [1].txt").read_text() == "zero, one"
    assert (tmp_path / "back" / "weights.bin").read_bytes() == bytes(9 << 20)
    assert (holder := fresh.get_production_model("digits")) is not None
    assert holder.version == second.version

    fresh.rollback("digits")

    assert (holder := models.get_production_model("digits")) is not None
    assert holder.version == first.version
    assert [version.stage for version in models.list_versions("digits")] == ["production", "archived"]
    with pytest.raises(NotFoundError, match="no model 'other'"):
        models.get_production_model("other")


def test_processes_that_promote_in_one_bucket_lose_nothing(server: Emulator, url: str) -> None:
    racers = [_start("promote", server, url, f"process-{number}", str(PROMOTIONS)) for number in range(PROCESSES)]
    told = [racer.communicate(timeout=120) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * PROCESSES, told

    models = ModelRegistry(store=open_store(url, storage_options=server.options))
    versions = models.list_versions("digits")
    assert len(versions) == PROCESSES * PROMOTIONS
    assert Counter(version.stage for version in versions)[ModelStage.PRODUCTION] == 1
    promotions = [moved for moved in models.get_transitions("digits") if moved.to_stage is ModelStage.PRODUCTION]
    assert Counter(moved.reason for moved in promotions) == Counter(
        f"process-{name} {number}" for name in range(PROCESSES) for number in range(PROMOTIONS)
    )


def _start(verb: str, server: Emulator, url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, cloud_process.__file__, verb, url, json.dumps(server.options), *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _process(verb: str, server: Emulator, url: str, *arguments: str) -> str:
    process = _start(verb, server, url, *arguments)
    try:
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, error
    return out
