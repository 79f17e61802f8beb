"""The conformance suite finds what it is there for: stores with a planted bug fail it, and where they should."""

from __future__ import annotations

import fnmatch
import inspect
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_stores import CheckThenWriteFolder
from typing_extensions import override

from registry import InMemoryModelStore, ModelStore
from registry.errors import StoreError
from registry.store import AlreadyExistsError
from registry.store.contract import check_key
from registry.testing.conformance import StoreConformance

pytestmark = pytest.mark.heavy

RACE_OF_THREADS = "test_of_threads_that_create_one_key_exactly_one_wins_every_time"


class _InMemory(InMemoryModelStore):
    """The control: it keeps the contract."""


class _Overwriting(InMemoryModelStore):
    @override
    def create(self, key: str, data: bytes) -> None:
        self.replace(key, data)


class _CheckThenWrite(InMemoryModelStore):
    @override
    def create(self, key: str, data: bytes) -> None:
        if self.read_many([key])[0] is not None:
            raise AlreadyExistsError(f"{self.url}/{key} exists already and is never overwritten.")
        time.sleep(0)  # another thread's turn
        self.replace(key, data)


class _Globbing(InMemoryModelStore):
    @override
    def delete(self, key: str) -> None:
        for found in fnmatch.filter(self.list(""), check_key(key)):
            super().delete(found)


class _Caching(InMemoryModelStore):
    """Remembers what was not there, as fsspec's listings cache does."""

    @override
    def read_many(self, keys: list[str]) -> list[bytes | None]:  # type: ignore[override]
        absent: set[str] = self.__dict__.setdefault("_absent", set())
        found = [None if key in absent else data for key, data in zip(keys, super().read_many(keys), strict=True)]
        absent.update(key for key, data in zip(keys, found, strict=True) if data is None)
        return found


class _TearingUploads(InMemoryModelStore):
    @override
    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        self.create(key, b"")
        for piece in chunks:
            self.replace(key, self.read(key) + piece)


class _Prefixes(InMemoryModelStore):
    @override
    def list(self, prefix: str) -> list[str]:
        return [key for key in super().list("") if key.startswith(prefix)]


class _NeverMissing(InMemoryModelStore):
    @override
    def read(self, key: str) -> bytes:
        try:
            return super().read(key)
        except FileNotFoundError:
            raise StoreError(f"{key} could not be read") from None


@pytest.mark.parametrize(
    ("kind", "caught_by"),
    [
        (_Overwriting, {RACE_OF_THREADS, "test_a_second_write_is_refused_and_the_first_bytes_stay"}),
        (_CheckThenWrite, {RACE_OF_THREADS}),
        (_Globbing, {"test_delete_removes_one_key_exactly_and_does_not_mind_that_there_is_none"}),
        (_Caching, {"test_what_one_client_wrote_the_other_sees_at_once"}),
        (_TearingUploads, {"test_a_stream_whose_source_fails_leaves_nothing"}),
        (_Prefixes, {"test_a_list_holds_the_keys_below_a_folder_and_no_neighbours"}),
        (_NeverMissing, {"test_a_missing_key_is_told_apart_in_every_way_of_reading"}),
    ],
)
def test_a_planted_bug_is_caught(kind: type[InMemoryModelStore], caught_by: set[str]) -> None:
    failed = _failures(kind)

    assert caught_by <= failed
    assert failed < set(_tests())


def test_the_same_store_without_a_bug_passes() -> None:
    assert _failures(_InMemory) == set()


def test_a_check_before_the_write_is_caught_between_processes_too(tmp_path: Path) -> None:
    class _Suite(StoreConformance):
        rounds = 40

        def make_store(self) -> ModelStore:
            return CheckThenWriteFolder(tmp_path / "registry")

    with pytest.raises(AssertionError, match="winners"):
        _Suite().test_of_processes_that_create_one_key_exactly_one_wins_every_time()


def _failures(kind: type[InMemoryModelStore]) -> set[str]:
    class _Suite(StoreConformance):
        between_processes = False
        rounds = 200

        def make_store(self) -> ModelStore:
            return kind()

    failed = set()
    for name in _tests():
        try:
            getattr(_Suite(), name)()
        except (AssertionError, StoreError, FileNotFoundError, pytest.fail.Exception):
            failed.add(name)
    return failed


def _tests() -> list[str]:
    return [name for name, _ in inspect.getmembers(StoreConformance, inspect.isfunction) if name.startswith("test_")]
