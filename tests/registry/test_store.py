"""What every store keeps: one winner, whole bytes or none, keys that stay inside, and "not there" that means it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeAlias

import pytest

from registry import InMemoryModelStore, ModelStore
from registry.errors import ConflictError, InvalidInputError
from registry.store import AlreadyExistsError, open_store

NothingChanges: TypeAlias = Callable[[], AbstractContextManager[None]]

THREADS = 8
ROUNDS = 60


def test_what_was_created_is_read_back_to_the_byte(store: ModelStore) -> None:
    data = bytes(range(256)) * 9000

    store.create("models/digits/log/1.json", data)
    store.upload("streamed", iter([data[:5], b"", data[5:]]))

    assert store.read("models/digits/log/1.json") == data
    assert b"".join(store.chunks("streamed")) == data
    assert max(len(piece) for piece in store.chunks("streamed")) <= 1 << 20


def test_a_second_create_is_refused_and_the_first_bytes_stay(
    store: ModelStore, nothing_changes: NothingChanges
) -> None:
    store.create("a/b", b"first")

    with (
        nothing_changes(),
        pytest.raises(AlreadyExistsError, match=r"a/b exists already and is never overwritten") as caught,
    ):
        store.create("a/b", b"second")
    assert isinstance(caught.value, ConflictError)
    with nothing_changes(), pytest.raises(AlreadyExistsError):
        store.upload("a/b", iter([b"third"]))


def test_an_empty_object_is_created_as_exclusively_as_any_other(store: ModelStore) -> None:
    store.create("empty", b"")

    with pytest.raises(AlreadyExistsError):
        store.create("empty", b"")
    assert store.read("empty") == b""


def test_of_threads_that_create_one_key_exactly_one_wins_every_time(store: ModelStore) -> None:
    for number in range(ROUNDS):
        winners = _race(store, f"race/{number}")

        assert len(winners) == 1
        assert store.read(f"race/{number}") == _payload(winners[0])


def test_an_upload_whose_source_fails_leaves_nothing(store: ModelStore, nothing_changes: NothingChanges) -> None:
    def failing() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("the disk that it came from is gone")

    with nothing_changes(), pytest.raises(ValueError, match="is gone"):
        store.upload("models/half", failing())

    store.create("models/half", b"whole")
    assert store.list("") == ["models/half"]


def test_replace_writes_over_what_was_there(store: ModelStore) -> None:
    store.replace("head.json", b"1")
    store.replace("head.json", b"2")

    assert store.read("head.json") == b"2"
    assert store.list("") == ["head.json"]


def test_delete_removes_a_key_and_does_not_mind_that_there_is_none(store: ModelStore) -> None:
    store.create("here", b"x")

    store.delete("here")
    store.delete("here")
    store.delete("never/was")

    assert store.list("") == []
    with pytest.raises(FileNotFoundError):
        store.read("here")


def test_a_missing_key_is_told_apart_in_every_way_of_reading(store: ModelStore) -> None:
    store.create("there", b"x")

    with pytest.raises(FileNotFoundError):
        store.read("missing")
    with pytest.raises(FileNotFoundError):
        list(store.chunks("missing/below"))
    assert store.read_many(["missing", "there", "missing/below"]) == [None, b"x", None]
    assert store.read_many([]) == []


def test_a_list_holds_the_keys_below_a_folder_and_no_neighbours(store: ModelStore) -> None:
    for key in ("models/b/2", "models/b/1", "models/ab", "models/b-not", "other"):
        store.create(key, b"")

    assert store.list("models/b") == ["models/b/1", "models/b/2"]
    assert store.list("models") == ["models/ab", "models/b-not", "models/b/1", "models/b/2"]
    assert store.list("") == ["models/ab", "models/b-not", "models/b/1", "models/b/2", "other"]
    assert store.list("nowhere") == []


@pytest.mark.parametrize(
    "key", ["", "..", "../x", "a/../../x", "a//b", "/absolute", "a/", "./a", "a\\b", "a\nb", "a\x00b", "a\ud800b"]
)
def test_a_key_that_could_leave_the_store_is_refused(
    store: ModelStore, nothing_changes: NothingChanges, key: str
) -> None:
    store.create("keep", b"x")
    with nothing_changes():
        for refused in (
            lambda: store.create(key, b"y"),
            lambda: store.upload(key, iter([b"y"])),
            lambda: store.replace(key, b"y"),
            lambda: store.read(key),
            lambda: store.read_many([key]),
            lambda: store.delete(key),
            lambda: list(store.chunks(key)),
        ):
            with pytest.raises(InvalidInputError, match="is no storage key: use a relative path"):
                refused()


def test_one_name_in_memory_is_one_store_and_unnamed_ones_are_apart() -> None:
    open_store("memory://shared-by-name").create("a", b"x")

    assert open_store("memory://shared-by-name/").read("a") == b"x"
    assert InMemoryModelStore().list("") == []
    assert InMemoryModelStore().url != InMemoryModelStore().url


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("s3://bucket/models", "storage at s3:// is not built yet"),
        ("simplecache::file:///models", "is a chained URL"),
    ],
)
def test_a_location_that_no_store_here_serves_is_refused(location: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        open_store(location)


def _payload(thread: int) -> bytes:
    return b"%d" % thread * 5000


def _race(store: ModelStore, key: str) -> list[int]:
    winners: list[int] = []
    start = threading.Barrier(THREADS)

    def create(thread: int) -> None:
        start.wait()
        try:
            store.create(key, _payload(thread))
        except AlreadyExistsError:
            return
        winners.append(thread)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return winners
