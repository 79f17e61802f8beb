"""What nothing needs is removed; what a slow writer still holds, or what may be needed, never is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pytest

from registry import FileModelStore, InMemoryModelStore, ModelRegistry, ModelStore
from registry.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    StoreUnreachableError,
    VersionExistsError,
    VersionNotFoundError,
)
from registry.events import Abandoned
from registry.reports import GcReport

Unchanged: TypeAlias = Callable[[], AbstractContextManager[None]]

DAY = timedelta(hours=24)
V4 = "models/digits/versions/v4"


class Clock(Protocol):
    """The clock of the test."""

    ahead: timedelta


class Dying(InMemoryModelStore):
    """A store whose writes of one kind of file fail, from now until told otherwise."""

    def __init__(self) -> None:
        """Fail nothing yet."""
        super().__init__()
        self.fails = "nothing"
        self.knows_times = True

    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        self._may_fail(key)
        super().upload(key, chunks)

    def create(self, key: str, data: bytes) -> None:
        self._may_fail(key)
        super().create(key, data)

    def delete(self, key: str) -> None:
        self._may_fail(key)
        super().delete(key)

    def modified(self, key: str) -> datetime:
        found = super().modified(key)
        return found if self.knows_times else None  # type: ignore[return-value]  # the contract's "cannot say"

    def _may_fail(self, key: str) -> None:
        if self.fails in key:
            raise StoreUnreachableError(f"{key}: no answer")


@pytest.fixture
def store() -> Dying:
    """Return a store that knows when its keys were written, in the time of this test."""
    return Dying()


@pytest.fixture
def died(models: ModelRegistry, store: Dying, tmp_path: Path) -> ModelRegistry:
    """Return the registry after a registration of two files died with one of them in place."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"weights")
    (folder / "b.bin").write_bytes(b"more")
    store.fails = "b.bin"
    with pytest.raises(StoreUnreachableError):
        models.register("digits", folder, idempotency_key="nightly")
    store.fails = "nothing"
    return models


def told(report: GcReport) -> tuple[list[str], list[str], list[str]]:
    """Return the labels given up, the files removed, the files kept."""
    return (
        [one.version for one in report.abandoned],
        [one.file.partition("models/")[2] for one in report.removed],
        [one.file.partition("models/")[2] for one in report.kept],
    )


def test_a_registry_in_order_has_nothing_to_remove(models: ModelRegistry, time: Clock) -> None:
    time.ahead = 9 * DAY
    assert told(models.gc()) == ([], [], [])
    assert told(models.gc(dry_run=False, grace=timedelta(0))) == ([], [], [])
    assert models.verify().ok


def test_without_being_told_to_it_only_says_what_it_would_do(
    died: ModelRegistry, time: Clock, nothing_changes: Unchanged
) -> None:
    time.ahead = 2 * DAY
    with nothing_changes():
        report = died.gc()
    assert report.dry_run
    assert told(report) == (["v4"], ["digits/versions/v4/a.bin"], [])


def test_a_reservation_that_came_to_nothing_is_given_up_with_its_files(
    died: ModelRegistry, store: Dying, time: Clock
) -> None:
    time.ahead = 2 * DAY
    report = died.gc(dry_run=False)
    assert told(report) == (["v4"], ["digits/versions/v4/a.bin"], [])
    assert (report.abandoned[0].model, report.abandoned[0].path) == ("digits", "versions/v4")
    assert store.list(V4) == []
    assert told(died.gc(dry_run=False)) == ([], [], [])
    assert died.register("digits", b"weights").version == "v5"
    assert died.register("digits", b"weights", version="v4").artifact_path.endswith("versions/v4~r15")
    verified = died.verify()
    assert (verified.ok, verified.remarks) == (True, ())


def test_a_young_reservation_stays_and_its_writer_goes_on_where_it_stopped(
    died: ModelRegistry, time: Clock, tmp_path: Path
) -> None:
    time.ahead = timedelta(hours=23)
    assert told(died.gc(dry_run=False)) == ([], [], [])
    assert died.register("digits", tmp_path / "weights", idempotency_key="nightly").version == "v4"
    assert died.verify().ok


def test_a_writer_that_has_been_at_it_for_days_and_still_writes_is_left_alone(
    died: ModelRegistry, store: Dying, time: Clock
) -> None:
    time.ahead = 2 * DAY
    store.upload(f"{V4}/c.bin", iter([b"the third file of many"]))
    assert told(died.gc(dry_run=False)) == ([], [], [])
    assert store.list(V4) == [f"{V4}/a.bin", f"{V4}/c.bin"]


def test_a_writer_that_comes_back_after_its_label_was_given_up_is_refused_when_it_commits(
    models: ModelRegistry, store: Dying
) -> None:
    collected: list[GcReport] = []

    class Slow(InMemoryModelStore):
        """The same bytes, and a collector that comes by with no patience while the sidecar is on its way."""

        def __init__(self) -> None:
            """Share the store's bytes."""
            self.__dict__ = store.__dict__

        def create(self, key: str, data: bytes) -> None:
            super().create(key, data)
            if key == f"{V4}/metadata.json":
                collected.append(ModelRegistry(store=store).gc(dry_run=False, grace=timedelta(0)))

    with pytest.raises(VersionExistsError, match="digits:v4 was given up"):
        ModelRegistry(store=Slow()).register("digits", b"weights")

    assert told(collected[0]) == (["v4"], ["digits/versions/v4/artifact.bin", "digits/versions/v4/metadata.json"], [])
    with pytest.raises(VersionNotFoundError):
        models.get_version("digits", 4)
    assert models.verify().ok


def test_files_of_a_label_that_was_given_up_go_a_grace_after_that(
    died: ModelRegistry, store: Dying, time: Clock
) -> None:
    died._append("digits", lambda _known: Abandoned(version="4"))  # noqa: SLF001 - what a retry with other bytes does
    assert told(died.gc(dry_run=False)) == ([], [], ["digits/versions/v4/a.bin"])
    time.ahead = 2 * DAY
    store.upload(f"{V4}/late.bin", iter([b"of a writer that does not know yet"]))
    assert told(died.gc(dry_run=False)) == (
        [],
        ["digits/versions/v4/a.bin"],
        ["digits/versions/v4/late.bin"],
    )
    time.ahead = 4 * DAY
    assert told(died.gc(dry_run=False)) == ([], ["digits/versions/v4/late.bin"], [])


def test_what_a_deletion_left_behind_goes_a_grace_after_it(models: ModelRegistry, store: Dying, time: Clock) -> None:
    store.fails = "v3/artifact.bin"
    with suppress(StoreUnreachableError):
        models.delete_version("digits", 3)
    store.fails = "nothing"
    left = store.list("models/digits/versions/v3")
    assert "models/digits/versions/v3/artifact.bin" in left
    assert told(models.gc(dry_run=False))[1] == []
    time.ahead = 2 * DAY
    assert sorted(told(models.gc(dry_run=False))[1]) == [key.removeprefix("models/") for key in left]
    assert models.verify().remarks == ()


def test_an_engine_that_was_never_finished_goes_when_it_is_old(
    models: ModelRegistry, store: Dying, time: Clock
) -> None:
    half = f"models/digits/versions/v2/variants/{'f' * 64}/engine.onnx"
    store.create(half, b"half an engine")
    assert told(models.gc(dry_run=False))[1:] == ([], [half.removeprefix("models/")])
    time.ahead = 2 * DAY
    assert told(models.gc(dry_run=False))[1:] == ([half.removeprefix("models/")], [])
    assert models.verify().remarks == ()


def test_an_engine_that_was_finished_meanwhile_stays(
    models: ModelRegistry, store: Dying, time: Clock, engine: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "f" * 64
    folder = f"models/digits/versions/v2/variants/{key}"
    store.create(f"{folder}/engine.onnx", b"engine")
    time.ahead = 2 * DAY
    sweep = ModelRegistry._remove  # noqa: SLF001 - the moment between the plan and its first write

    def add_first(self: ModelRegistry, *arguments: Any) -> bool:
        engine(ModelRegistry(store=store), "digits", 2, b"engine", key=key)
        return sweep(self, *arguments)

    monkeypatch.setattr(ModelRegistry, "_remove", add_first)
    assert told(models.gc(dry_run=False)) == ([], [], [])
    assert store.read(f"{folder}/engine.onnx") == b"engine"
    assert models.verify().ok


def test_a_folder_that_no_reservation_names_goes_when_it_is_old_unless_a_sidecar_says_it_was_somebodys(
    models: ModelRegistry, store: Dying, time: Clock
) -> None:
    store.create("models/digits/versions/v9/a.bin", b"?")
    store.create("models/digits/versions/v8/a.bin", b"?")
    store.create("models/digits/versions/v8/metadata.json", b"{}")
    store.create("models/digits/notes.txt", b"mine")
    time.ahead = 2 * DAY
    _, removed, kept = told(models.gc(dry_run=False))
    assert removed == ["digits/versions/v9/a.bin"]
    assert kept == ["digits/versions/v8/a.bin", "digits/versions/v8/metadata.json"]
    assert store.read("models/digits/notes.txt") == b"mine"


@pytest.mark.parametrize("first_lost", [10, 6, 4, 3, 1])
@pytest.mark.usefixtures("models")
def test_a_log_whose_end_is_missing_stops_it_before_anything_is_removed(
    store: Dying, time: Clock, nothing_changes: Unchanged, first_lost: int
) -> None:
    # Record 3 reserves v2, record 4 registers it, record 10 adds its engine.
    shown_by = "versions/v1/status.json" if first_lost == 1 else "versions/v2/status.json"
    for number in range(first_lost, 11):
        store.delete(f"models/digits/log/{number:012d}.json")
    time.ahead = 2 * DAY
    with nothing_changes(), pytest.raises(IntegrityError, match="the end of the log is missing") as refused:
        ModelRegistry(store=store).gc(dry_run=False)
    assert refused.value.file.endswith(shown_by)
    assert "Nothing was removed" in str(refused.value)


@pytest.mark.usefixtures("models")
def test_a_model_whose_whole_log_is_gone_keeps_its_files(store: Dying, time: Clock, nothing_changes: Unchanged) -> None:
    for key in store.list("models/digits"):
        if "/log/" in key or key.endswith("status.json"):
            store.delete(key)
    time.ahead = 2 * DAY
    with nothing_changes():
        assert len(told(ModelRegistry(store=store).gc(dry_run=False))[2]) == 8


@pytest.mark.parametrize("damage", [b"?", b'{"format":2}'])
def test_a_damaged_log_of_one_model_stops_it_before_anything_of_another_is_removed(
    died: ModelRegistry, store: Dying, time: Clock, nothing_changes: Unchanged, damage: bytes
) -> None:
    died.register("zebras", b"stripes")
    store.replace("models/zebras/log/000000000001.json", damage)
    time.ahead = 2 * DAY
    with nothing_changes(), pytest.raises(IntegrityError, match="Nothing was removed") as refused:
        ModelRegistry(store=store).gc(dry_run=False)
    assert refused.value.file == store.address("models/zebras/log/000000000001.json")


def test_what_a_killed_doctor_left_goes_when_it_is_old(models: ModelRegistry, store: Dying, time: Clock) -> None:
    store.create(".doctor/abc/first", b"one")
    assert [one.why for one in models.gc(dry_run=False).kept] == [
        "a probe of doctor's; young, or of an age that cannot be told"
    ]
    time.ahead = 2 * DAY
    assert [one.file for one in models.gc(dry_run=False).removed] == [store.address(".doctor/abc/first")]


def test_a_storage_without_times_is_judged_by_the_log_and_the_rest_is_reported(
    died: ModelRegistry, store: Dying, time: Clock
) -> None:
    store.knows_times = False
    store.create("models/digits/versions/v9/a.bin", b"?")
    time.ahead = 2 * DAY
    assert told(died.gc(dry_run=False)) == (
        ["v4"],
        [],
        ["digits/versions/v4/a.bin", "digits/versions/v9/a.bin"],
    )
    time.ahead = 4 * DAY
    assert told(died.gc(dry_run=False)) == ([], ["digits/versions/v4/a.bin"], ["digits/versions/v9/a.bin"])


def test_a_negative_grace_is_refused(died: ModelRegistry, nothing_changes: Unchanged) -> None:
    with nothing_changes(), pytest.raises(InvalidInputError, match="would be in the future"):
        died.gc(dry_run=False, grace=-DAY)


def test_unfinished_writes_on_disk_go_when_they_are_old(tmp_path: Path) -> None:
    store = FileModelStore(tmp_path / "registry")
    models = ModelRegistry(store=store)
    models.register("digits", b"weights")
    young, old = (tmp_path / "registry/models/digits/versions/v1" / f".tmp-{name}" for name in ("young", "old"))
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    wanted = ("models/digits/versions/v1/.tmp-old",)
    assert (models.gc().temporary, old.exists()) == (wanted, True)
    assert (models.gc(dry_run=False).temporary, old.exists(), young.exists()) == (wanted, False, True)
    assert models.verify().ok


def test_whatever_was_registered_while_a_collector_without_patience_was_at_work_is_whole(tmp_path: Path) -> None:
    class Kind(FileModelStore):
        def sweep(self, *, older_than_s: float, dry_run: bool = True) -> list[str]:
            return super().sweep(older_than_s=older_than_s + 60.0, dry_run=dry_run)

    stores: list[ModelStore] = [Kind(tmp_path / "registry") for _ in range(4)]
    registered: list[str] = []
    refused: list[str] = []

    def write(store: ModelStore, worker: int) -> None:
        own = ModelRegistry(store=store, actor=f"writer {worker}")
        for number in range(12):
            try:
                version = own.register("digits", b"weights %d of %d" % (number, worker)).version
            except ConflictError:
                refused.append("given up")
            else:
                registered.append(version)

    writers = [threading.Thread(target=write, args=(store, number)) for number, store in enumerate(stores[1:])]
    for writer in writers:
        writer.start()
    collector = ModelRegistry(store=stores[0], actor="collector")
    while any(writer.is_alive() for writer in writers):
        with suppress(ConflictError):
            collector.gc(dry_run=False, grace=timedelta(0))
    for writer in writers:
        writer.join()

    assert len(registered) + len(refused) == 36
    there = ModelRegistry(store=stores[0]) if registered else None
    assert there is None or {one.version for one in there.list_versions("digits")} == set(registered)
    report = ModelRegistry(store=stores[0]).verify()
    assert (report.findings, report.versions) == ((), len(registered))
