"""What every store keeps, as a suite of tests: subclass it, say how an empty store is made, and run pytest.

    from registry.testing.conformance import StoreConformance

    class TestMyStore(StoreConformance):
        def make_store(self):
            return MyStore(...)          # a new, empty one each time

Nothing is mocked: threads and processes race for keys of the real store. A store that fails here loses records.
"""

from __future__ import annotations

import functools
import pickle
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from registry.errors import InvalidInputError
from registry.store import AlreadyExistsError, ModelStore
from registry.store.contract import CHUNK_BYTES
from registry.testing.racing import in_pieces, nothing_changes, race_processes, race_threads, together

ODD_KEYS = [
    "a[1]/b*?.json",
    "a b/c  d",
    "percent%20/100%",
    "hash#1?versionId=2&x=y",
    "plus+and=equals;semicolon,comma",
    "quote'and\"double",
    "(round) {curly} <angle> |pipe| ^ ~ ` $ @ ! :",
    "unicode/größe-模型-🦊",
    "..hidden/...dots/.x",
    "-dash/--x",
    "__init__.py",
]
"""Legal keys that globs, URLs, shells and path grammars would read as something else."""

BAD_KEYS = [
    "",
    "..",
    "../x",
    "a/../../x",
    "a//b",
    "/absolute",
    "a/",
    "./a",
    "a/.",
    "a\\b",
    "a\nb",
    "a\x00b",
    "a\ud800b",
]


class StoreConformance(ABC):
    """The contract of ``ModelStore``, one test for each promise; set the numbers to what your backend can bear."""

    between_processes = True
    """Whether another process can open the same place; a store that cannot must refuse to be pickled."""
    rounds = 100
    """Races for a key, each once among threads and once among processes."""
    processes, threads = 4, 8
    """32 racers: four processes with eight threads each, or 32 threads."""
    large_bytes = (16 << 20) + 3
    """More than goes to the backend in one piece."""

    @abstractmethod
    def make_store(self) -> ModelStore:
        """Return a new, empty store, of which no other test knows."""

    def reopen(self, store: ModelStore) -> ModelStore:
        """Return another client of the same place."""
        return pickle.loads(pickle.dumps(store)) if self.between_processes else store  # noqa: S301 - our own

    # ---------------------------------------------------------------------------------------- one writer, one reader

    def test_what_was_written_is_read_back_to_the_byte_in_every_way(self) -> None:
        store = self.make_store()
        data = bytes(range(256)) * 9000

        store.create("models/digits/log/1.json", data)
        store.upload("streamed", iter([data[:5], b"", data[5:]]))

        for key in ("models/digits/log/1.json", "streamed"):
            assert store.read(key) == data
            assert store.read_many([key]) == [data]
            assert b"".join(store.chunks(key)) == data
            assert max(len(piece) for piece in store.chunks(key)) <= CHUNK_BYTES

    def test_a_second_write_is_refused_and_the_first_bytes_stay(self) -> None:
        store = self.make_store()
        store.create("a/b", b"first")

        with nothing_changes(store):
            with pytest.raises(AlreadyExistsError, match="a/b exists already and is never overwritten"):
                store.create("a/b", b"second")
            with pytest.raises(AlreadyExistsError, match="a/b exists already and is never overwritten"):
                store.upload("a/b", iter([b"third"]))

    def test_an_empty_object_is_as_exclusive_as_any_other(self) -> None:
        store = self.make_store()
        store.create("created", b"")
        store.upload("streamed", iter([]))

        for key in ("created", "streamed"):
            assert store.read(key) == b""
            assert store.read_many([key]) == [b""]
            assert list(store.chunks(key)) in ([], [b""])
            with pytest.raises(AlreadyExistsError):
                store.create(key, b"")
            with pytest.raises(AlreadyExistsError):
                store.upload(key, iter([b""]))
        assert store.list("") == ["created", "streamed"]

    def test_a_large_object_goes_up_and_comes_down_whole_and_is_exclusive(self) -> None:
        store = self.make_store()
        for size_bytes in (5 << 20, (5 << 20) + 1, 10 << 20, self.large_bytes):
            data = random.Random(size_bytes).randbytes(size_bytes)  # noqa: S311 - any bytes do
            key = f"large/{size_bytes}"
            store.upload(key, in_pieces(data, 999_983))

            assert store.read(key) == data
            assert b"".join(store.chunks(key)) == data
            with pytest.raises(AlreadyExistsError):
                store.upload(key, in_pieces(data[::-1], 999_983))
            with pytest.raises(AlreadyExistsError):
                store.create(key, data[::-1])
            assert store.read(key) == data

    def test_a_stream_whose_source_fails_leaves_nothing(self) -> None:
        store = self.make_store()

        def failing(size_bytes: int) -> Iterator[bytes]:
            yield bytes(size_bytes)
            raise ValueError("the disk that it came from is gone")

        for size_bytes in (4, self.large_bytes):
            with nothing_changes(store), pytest.raises(ValueError, match="is gone"):
                store.upload("models/half", failing(size_bytes))
            with pytest.raises(FileNotFoundError):
                store.read("models/half")
            assert store.read_many(["models/half"]) == [None]

        store.create("models/half", b"whole")
        assert store.read("models/half") == b"whole"

    def test_a_missing_key_is_told_apart_in_every_way_of_reading(self) -> None:
        store = self.make_store()
        store.create("there", b"x")
        store.create("missing/below.json", b"its name begins like the missing one's")

        for missing in (store.read, lambda key: list(store.chunks(key)), store.modified):
            try:
                found = missing("missing/below")
            except FileNotFoundError:
                continue
            assert found is None, "only modified may give None, for a store that knows no times"
            assert missing == store.modified
        assert store.read_many(["nowhere", "there", "missing/below", "there"]) == [None, b"x", None, b"x"]
        assert store.read_many([]) == []
        assert store.list("missing/below") == []

    def test_replace_writes_over_what_was_there(self) -> None:
        store = self.make_store()
        store.replace("head.json", b"first, and longer")
        store.replace("head.json", b"second")

        assert store.read("head.json") == b"second"
        assert store.list("") == ["head.json"]

    def test_delete_removes_one_key_exactly_and_does_not_mind_that_there_is_none(self) -> None:
        store = self.make_store()
        for key in ("a*", "ab", "a[b]", "a?", "axb", "below/one", "below/two"):
            store.create(key, b"x")

        for key in ("a*", "a[b]", "a?", "below/one", "below/one", "never/was"):
            store.delete(key)

        assert store.list("") == ["ab", "axb", "below/two"]
        with pytest.raises(FileNotFoundError):
            store.read("a*")

    def test_a_list_holds_the_keys_below_a_folder_and_no_neighbours(self) -> None:
        store = self.make_store()
        keys = ["models/b/2", "models/b/1", "models/b/c/d", "models/ab", "models/b-not", "models/bc/1", "other"]
        for key in keys:
            store.create(key, b"")

        assert store.list("models/b") == ["models/b/1", "models/b/2", "models/b/c/d"]
        assert store.list("models") == sorted(key for key in keys if key.startswith("models/"))
        assert store.list("") == sorted(keys)
        assert store.list("model") == []

    def test_odd_keys_are_keys_like_any_other(self) -> None:
        store = self.make_store()
        for key in ODD_KEYS:
            store.create(key, key.encode())

        assert store.list("") == sorted(ODD_KEYS)
        assert store.read_many(ODD_KEYS) == [key.encode() for key in ODD_KEYS]
        for key in ODD_KEYS:
            assert store.read(key) == key.encode()
            assert b"".join(store.chunks(key)) == key.encode()
            folder, slash, _ = key.rpartition("/")
            assert not slash or store.list(folder) == [key]
            with pytest.raises(AlreadyExistsError):
                store.create(key, b"again")
            store.replace(key, b"replaced")
            store.delete(key)
        assert store.list("") == []

    def test_a_key_that_could_leave_the_store_is_refused(self) -> None:
        store = self.make_store()
        store.create("keep", b"x")
        with nothing_changes(store):
            for key in BAD_KEYS:
                for refused in (
                    lambda key: store.create(key, b"y"),
                    lambda key: store.upload(key, iter([b"y"])),
                    lambda key: store.replace(key, b"y"),
                    store.read,
                    lambda key: store.read_many([key]),
                    store.delete,
                    lambda key: list(store.chunks(key)),
                    lambda key: store.list(key or ".."),
                ):
                    with pytest.raises(InvalidInputError, match="is no storage key"):
                        refused(key)

    def test_the_time_of_a_key_is_aware_and_about_now(self) -> None:
        store = self.make_store()
        store.create("a", b"x")

        when = store.modified("a")

        assert when is None or (when.utcoffset() == timedelta(0) and abs(datetime.now(UTC) - when) < timedelta(hours=1))

    def test_a_sweep_takes_nothing_that_a_reader_can_see(self) -> None:
        store = self.make_store()
        store.create("a/b", b"x")
        store.replace("c", b"y")

        with nothing_changes(store):
            assert store.sweep(older_than_s=0, dry_run=False) == []

    # ---------------------------------------------------------------------------------------------------- many at once

    def test_of_threads_that_create_one_key_exactly_one_wins_every_time(self) -> None:
        assert race_threads(self.make_store(), racers=self.processes * self.threads, rounds=self.rounds) == []

    def test_of_processes_that_create_one_key_exactly_one_wins_every_time(self) -> None:
        store = self.make_store()
        if not self.between_processes:
            with pytest.raises(InvalidInputError, match="no other process can open it"):
                pickle.dumps(store)
            return
        found = race_processes(store, processes=self.processes, threads=self.threads, rounds=self.rounds)
        assert found == []

    def test_of_large_uploads_to_one_key_exactly_one_wins(self) -> None:
        store = self.make_store()
        for number in range(3):
            data = [bytes([racer]) * ((9 << 20) + racer) for racer in range(4)]
            key = f"large/{number}"
            winners = together([functools.partial(store.upload, key, in_pieces(mine, 1 << 20)) for mine in data])
            assert len(winners) == 1
            assert store.read(key) == data[winners[0]]

    def test_what_one_client_wrote_the_other_sees_at_once(self) -> None:
        one = self.make_store()
        other = self.reopen(one)
        for number in range(5):
            key = f"log/{number}"
            assert other.read_many([key]) == [None]  # a client that remembers this would never see the key
            assert key not in other.list("log")
            one.create(key, b"%d" % number)
            assert other.read(key) == b"%d" % number
            assert other.read_many([key]) == [b"%d" % number]
            assert key in other.list("log")
            with pytest.raises(AlreadyExistsError):
                other.create(key, b"mine")
        one.replace("head", b"1")
        assert other.read("head") == b"1"
        one.replace("head", b"2")
        assert other.read("head") == b"2"
        one.delete("head")
        assert other.read_many(["head"]) == [None]
        assert "head" not in other.list("")

    def test_a_reader_of_a_key_that_is_replaced_sees_the_old_or_the_new_never_a_mixture(self) -> None:
        store = self.make_store()
        versions = [bytes([number]) * (200_000 + number) for number in range(2)]
        store.replace("head", versions[0])
        done = threading.Event()

        def write() -> None:
            try:
                for number in range(40):
                    store.replace("head", versions[number % 2])
            finally:
                done.set()

        def read() -> None:
            while not done.is_set():
                assert store.read("head") in versions

        assert together([write, read, read]) == [0, 1, 2]
