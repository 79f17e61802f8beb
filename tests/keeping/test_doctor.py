"""A storage that cannot hold a registry is told from one that can, and by what."""

from __future__ import annotations

import json
import time as real_time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from registry import InMemoryModelStore, ModelRegistry, ModelStore
from registry.errors import StoreForbiddenError, StoreUnreachableError
from registry.reports import DoctorReport

ALL = [
    "write", "read", "list", "exclusive create", "exclusive upload", "exclusive create, raced",
    "exclusive upload, raced", "clock", "replace", "delete", "registry",
]  # fmt: skip
CREATES, UPLOADS = {"exclusive create", "exclusive create, raced"}, {"exclusive upload", "exclusive upload, raced"}


class Overwriting(InMemoryModelStore):
    """A store without an exclusive create."""

    def create(self, key: str, data: bytes) -> None:
        self.replace(key, data)


class LooksFirst(InMemoryModelStore):
    """A store that looks whether a key is taken, and then writes: fsspec's own way on a local disk."""

    def create(self, key: str, data: bytes) -> None:
        taken = self.read_many([key]) != [None]
        real_time.sleep(0.005)
        if taken:
            super().create(key, data)  # which refuses
        self.replace(key, data)


class OverwritingStreams(InMemoryModelStore):
    """A store whose streams overwrite."""

    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        self.replace(key, b"".join(chunks))


class OverwritingEmptyStreams(InMemoryModelStore):
    """A store that cannot make an empty stream exclusively, as some S3 clients."""

    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        data = b"".join(chunks)
        (self.create if data else self.replace)(key, data)


class RefusesAndWrites(InMemoryModelStore):
    """A store that refuses a second create, and has written it nevertheless."""

    def create(self, key: str, data: bytes) -> None:
        try:
            super().create(key, data)
        finally:
            self.replace(key, data)


class StaleReads(InMemoryModelStore):
    """A store that reads from a listing it made before."""

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [None for _ in keys]


class StaleLists(InMemoryModelStore):
    """A store that lists what was there before."""

    def list(self, prefix: str) -> list[str]:
        return [] if prefix.startswith(".doctor") else super().list(prefix)


class KeepsOld(InMemoryModelStore):
    """A store that goes on giving what was there before a replace."""

    def replace(self, key: str, data: bytes) -> None:
        if not key.startswith(".doctor"):
            super().replace(key, data)


class KeepsAll(InMemoryModelStore):
    """A store that takes every deletion, and forgets it."""

    def delete(self, key: str) -> None:
        """Forget it."""


class NoLists(InMemoryModelStore):
    """A store whose credentials may not list."""

    def list(self, prefix: str) -> list[str]:
        raise StoreForbiddenError(f"{prefix}: you may not list")


class NoDeletes(InMemoryModelStore):
    """A store whose credentials may not delete."""

    def delete(self, key: str) -> None:
        raise StoreForbiddenError(f"{key}: you may not delete")


class NoWrites(InMemoryModelStore):
    """A store whose credentials may only read."""

    def create(self, key: str, data: bytes) -> None:  # noqa: ARG002 - the contract's
        raise StoreForbiddenError(f"{key}: you may not write")


class Silent(InMemoryModelStore):
    """A store that cannot say when a key was written."""

    def modified(self, key: str) -> datetime:  # noqa: ARG002 - the contract's
        return None  # type: ignore[return-value]  # the contract's "cannot say"


class Ahead(InMemoryModelStore):
    """A store whose clock is five minutes ahead."""

    def modified(self, key: str) -> datetime:
        return super().modified(key) + timedelta(minutes=5)


class WholeSeconds(InMemoryModelStore):
    """A store that drops the fractions of seconds."""

    def modified(self, key: str) -> datetime:
        return super().modified(key).replace(microsecond=0)


def told(report: DoctorReport) -> dict[str, bool | None]:
    """Return how each probe went."""
    return {probe.name: probe.passed for probe in report.probes}


def failures(report: DoctorReport) -> dict[str, str]:
    """Return what was said of the probes that failed."""
    return {probe.name: probe.detail for probe in report.probes if probe.passed is False}


def test_a_good_storage_passes_everything_and_is_left_as_it_was(
    models: ModelRegistry, store: ModelStore, nothing_changes: Callable[[], AbstractContextManager[None]]
) -> None:
    with nothing_changes():
        report = models.doctor()
    assert told(report) == dict.fromkeys(ALL, True)
    assert report.ok
    assert (report.url, report.clock_ahead_s) == (store.url, 0.0)
    assert report.probes[-1].detail == f"id {models.identity.id}, format 1, 1 models"


def test_a_place_without_a_registry_can_be_tried_and_stays_without_one(tmp_path: Path, store: ModelStore) -> None:
    report = ModelRegistry(store=store).doctor()
    assert (report.ok, report.probes[-1].detail) == (True, "there is none here yet")
    assert store.list("") == []
    assert not (tmp_path / "registry" / ".doctor").exists()


@pytest.mark.parametrize(
    ("store", "failed", "words"),
    [
        (Overwriting(), CREATES | UPLOADS, "a second create of the same key succeeded"),
        (
            LooksFirst(),
            {"exclusive create, raced", "exclusive upload, raced"},
            "won: a second create of the same key succeeded",
        ),
        (OverwritingStreams(), UPLOADS, "a second create of the same key"),
        (OverwritingEmptyStreams(), {"exclusive upload"}, "a stream of 0 bytes: a second create"),
        (RefusesAndWrites(), CREATES | {"exclusive upload, raced"}, "is now b'two'"),
        (StaleReads(), {"read"}, "and None among several"),
        (StaleLists(), {"list"}, "the list of its folder is []"),
        (KeepsOld(), {"replace"}, "read at once it is still b'one'"),
        (KeepsAll(), {"delete"}, "was deleted, and is still there"),
        (NoLists(), {"list", "delete"}, "you may not list"),
        (NoDeletes(), {"delete"}, "you may not delete"),
        (Ahead(), {"clock"}, "the storage's clock is +300 s from this machine's"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ModelStore) else "",
)
def test_what_a_storage_cannot_do_is_named(store: ModelStore, failed: set[str], words: str) -> None:
    report = ModelRegistry(store=store).doctor()
    assert set(failures(report)) == failed
    assert any(words in detail for detail in failures(report).values()), failures(report)
    assert not report.ok


def test_nothing_is_tried_that_rests_on_a_right_to_write_that_is_missing() -> None:
    store = NoWrites()
    report = ModelRegistry(store=store).doctor()
    assert failures(report).keys() == {"write"}
    assert "you may not write" in failures(report)["write"]
    assert {name for name, passed in told(report).items() if passed is None} == set(ALL) - {"write", "registry"} - {
        "exclusive upload",
        "exclusive upload, raced",
    }
    assert told(report)["registry"] is True
    assert store.list("") == []


def test_a_storage_that_does_not_answer_is_an_answer() -> None:
    class Gone(InMemoryModelStore):
        def read(self, key: str) -> bytes:  # noqa: ARG002 - the contract's
            raise StoreUnreachableError("no answer in 10 s")

        def create(self, key: str, data: bytes) -> None:  # noqa: ARG002 - the contract's
            raise StoreUnreachableError("no answer in 10 s")

    report = ModelRegistry(store=Gone()).doctor()
    assert failures(report) == {"write": "no answer in 10 s", "registry": "no answer in 10 s"}


def test_a_storage_that_does_not_tell_the_time_has_not_failed() -> None:
    report = ModelRegistry(store=Silent()).doctor()
    assert (report.ok, told(report)["clock"], report.clock_ahead_s) == (True, None, None)


def test_a_storage_that_tells_whole_seconds_is_not_behind() -> None:
    assert ModelRegistry(store=WholeSeconds()).doctor().clock_ahead_s == 0.0


@pytest.mark.parametrize(
    ("key", "fields", "words"),
    [
        ("registry.json", {"format": 2}, "format 2, and this release reads up to 1"),
        ("log/000000000001.json", {"format": 2}, "format 2, and this release reads up to 1"),
    ],
)
def test_a_registry_that_a_later_release_wrote_is_named(
    models: ModelRegistry, store: ModelStore, key: str, fields: dict[str, int], words: str
) -> None:
    store.replace(key, json.dumps({**json.loads(store.read(key)), **fields}).encode())
    report = ModelRegistry(store=models.store).doctor()
    assert failures(report).keys() == {"registry"}
    assert words in failures(report)["registry"]
