"""Whatever is changed behind a registry's back is found, and its file is named."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import pytest

from registry import InMemoryModelStore, ModelRegistry, ModelStore
from registry.encoding import canonical_json
from registry.errors import (
    ModelNotFoundError,
    StoreForbiddenError,
    StoreUnreachableError,
    VersionNotFoundError,
)
from registry.events import Abandoned, ModelEvent, Reserved
from registry.reports import Finding, VerifyReport
from registry.versions import Strategy

Damage: TypeAlias = Callable[[ModelStore], None]

LOG = "models/digits/log/{:012d}.json"
V2 = "models/digits/versions/v2"
ENGINE = f"{V2}/variants/{'e' * 64}"


def changed(key: str, old: bytes, new: bytes) -> Damage:
    def damage(store: ModelStore) -> None:
        data = store.read(key)
        assert old in data, data
        store.replace(key, data.replace(old, new, 1))

    return damage


def put(key: str, data: bytes) -> Damage:
    return lambda store: store.replace(key, data)


def gone(key: str) -> Damage:
    return lambda store: store.delete(key)


def with_field(key: str, **fields: Any) -> Damage:
    """Write a record again with other or additional fields, in its own form."""

    def damage(store: ModelStore) -> None:
        record = {**json.loads(store.read(key)), **fields}
        store.replace(key, canonical_json(record))

    return damage


def found(store: ModelStore, report: VerifyReport) -> list[tuple[str, str]]:
    """Return what was found, as kind and key."""
    top = store.address("key").removesuffix("key")
    return [(one.what, one.file.removeprefix(top)) for one in report.findings]


def test_an_untouched_registry_is_found_as_it_was_recorded(
    models: ModelRegistry, nothing_changes: Callable[[], AbstractContextManager[None]]
) -> None:
    with nothing_changes():
        report = models.verify()
    assert (report.ok, report.findings, report.remarks) == (True, (), ())
    assert (report.versions, report.files, report.records) == (3, 4, 11)
    assert report.size_bytes == sum(map(len, [b"weights of v1", b"weights of v2", b"weights of v3", b"engine of v2"]))
    assert report.registry == models.identity.id
    assert {log: head.number for log, head in report.heads.items()} == {"log": 1, "models/digits/log": 10}


def test_an_empty_place_has_nothing_wrong(store: ModelStore) -> None:
    report = ModelRegistry(store=store).verify()
    assert (report.ok, report.registry, report.records) == (True, "", 0)
    assert store.list("") == []


@pytest.mark.parametrize(
    ("damage", "what", "file"),
    [
        (changed(f"{V2}/artifact.bin", b"v2", b"v9"), "changed", f"{V2}/artifact.bin"),
        (put(f"{V2}/artifact.bin", b"weights"), "changed", f"{V2}/artifact.bin"),
        (gone(f"{V2}/artifact.bin"), "missing", f"{V2}/artifact.bin"),
        (put(f"{V2}/config.pbtxt", b"{}"), "extra", f"{V2}/config.pbtxt"),
        (changed(f"{V2}/metadata.json", b"0.92", b"0.99"), "changed", f"{V2}/metadata.json"),
        (gone(f"{V2}/metadata.json"), "missing", f"{V2}/metadata.json"),
        (changed(f"{ENGINE}/engine.onnx", b"v2", b"v9"), "changed", f"{ENGINE}/engine.onnx"),
        (changed(f"{ENGINE}/metadata.json", b"fp32", b"fp16"), "changed", f"{ENGINE}/metadata.json"),
        (gone(f"{ENGINE}/metadata.json"), "missing", f"{ENGINE}/metadata.json"),
        (changed(f"{V2}/status.json", b'"production"', b'"staging"'), "contradiction", f"{V2}/status.json"),
        (put(f"{V2}/status.json", b"{"), "unreadable", f"{V2}/status.json"),
        (with_field(f"{V2}/status.json", as_of=99), "contradiction", f"{V2}/status.json"),
        (with_field(f"{V2}/status.json", as_of=1), "contradiction", f"{V2}/status.json"),
        (put("models/digits/head.json", b'{"checkpoint":16}'), "contradiction", "models/digits/head.json"),
        (put("models/digits/head.json", b"[]"), "unreadable", "models/digits/head.json"),
        (put("models/digits/log/note.txt", b"hello"), "extra", "models/digits/log/note.txt"),
        (gone("registry.json"), "missing", "registry.json"),
        (with_field("registry.json", format=2), "unreadable", "registry.json"),
        (changed(LOG.format(5), b'"ada@', b'"eve@'), "changed", LOG.format(5)),
        (changed(LOG.format(1), b'"ada@', b'"eve@'), "changed", LOG.format(1)),
        (with_field(LOG.format(1), previous="sha256:" + "1" * 64), "changed", LOG.format(1)),
        (with_field(LOG.format(6), actor="eve"), "changed", LOG.format(6)),
        (with_field(LOG.format(6), colour="red"), "changed", LOG.format(6)),
        (with_field(LOG.format(6), number=7), "changed", LOG.format(6)),
        (with_field(LOG.format(6), previous="sha256:" + "1" * 64), "changed", LOG.format(6)),
        (with_field(LOG.format(10), format=2), "unreadable", LOG.format(10)),
        (gone(LOG.format(4)), "missing", LOG.format(4)),
    ],
)  # fmt: skip
def test_a_damage_is_found_and_its_file_is_named_first(
    models: ModelRegistry, store: ModelStore, damage: Damage, what: str, file: str
) -> None:
    address = store.address(file)
    damage(store)
    report = models.verify()
    assert not report.ok
    assert (report.findings[0].what, report.findings[0].file) == (what, address)
    assert report.findings[0].mend
    assert {finding.file for finding in report.findings} == {address}


@pytest.mark.parametrize(
    ("key", "data", "offset"),
    [
        (LOG.format(10), b'{"format":1,"number":10,oops', 24),
        (LOG.format(10), '{"ä":1,oops'.encode(), 8),
        (LOG.format(10), b'{"a":"\xff"}', 6),
        (LOG.format(10), b"", 0),
        (LOG.format(10), b'{"a":1}\0\0\0', 7),
        (LOG.format(10), b'{"number":10,"number":11}', None),
        (f"{V2}/metadata.json", b'{"model":"digits"', 17),
        (f"{V2}/status.json", b"{]", 1),
    ],
)
def test_the_first_bad_byte_is_told_where_it_can_be(
    models: ModelRegistry, store: ModelStore, key: str, data: bytes, offset: int | None
) -> None:
    store.replace(key, data)
    (finding,) = models.verify().findings
    assert (finding.file, finding.offset) == (store.address(key), offset)
    if b"number" in data and offset is None:
        assert "'number' stands in it twice" in finding.problem


def test_what_was_found_first_hides_nothing_that_follows(models: ModelRegistry, store: ModelStore) -> None:
    models.register("letters", b"letters")
    planted = [
        (put(f"{V2}/artifact.bin", b"?"), "changed", f"{V2}/artifact.bin"),
        (gone("models/digits/versions/v1/artifact.bin"), "missing", "models/digits/versions/v1/artifact.bin"),
        (changed(LOG.format(3), b'"ada@', b'"eve@'), "changed", LOG.format(3)),
        (put("models/letters/head.json", b"?"), "unreadable", "models/letters/head.json"),
        (put("models/letters/versions/v1/artifact.bin", b"?"), "changed", "models/letters/versions/v1/artifact.bin"),
        (put("head.json", b'{"checkpoint":32}'), "contradiction", "head.json"),
    ]
    for damage, _, _ in planted:
        damage(store)
    assert sorted(found(store, models.verify())) == sorted((what, file) for _, what, file in planted)


def test_a_record_that_cannot_be_read_does_not_blame_those_that_follow(
    models: ModelRegistry, store: ModelStore
) -> None:
    store.replace(LOG.format(2), b"?")
    assert found(store, models.verify()) == [("unreadable", LOG.format(2))]


def test_a_record_with_fields_of_a_later_release_is_as_good_as_any(models: ModelRegistry, store: ModelStore) -> None:
    last = json.loads(store.read(LOG.format(10)))
    store.replace(LOG.format(10), canonical_json({**last, "colour": "red", "event": {**last["event"], "size": 3}}))
    assert models.verify().ok


def test_an_event_of_a_later_release_is_named_and_not_called_a_damage(models: ModelRegistry, store: ModelStore) -> None:
    last = json.loads(store.read(LOG.format(10)))
    store.replace(LOG.format(10), canonical_json({**last, "event": {"type": "quantized"}}))
    (finding,) = models.verify().findings
    assert (finding.what, finding.file) == ("unreadable", store.address(LOG.format(10)))
    assert "'quantized'" in finding.problem
    assert "Update modelway" in finding.mend


def test_a_last_record_that_was_changed_is_seen_by_whoever_remembers_the_head(
    models: ModelRegistry, store: ModelStore
) -> None:
    heads = models.verify().heads
    changed(LOG.format(10), b'"ada@', b'"eve@')(store)

    assert models.verify().ok  # nothing in the chain says otherwise
    report = models.verify(heads=heads)
    assert found(store, report) == [("changed", LOG.format(10))]
    assert report.remembered


def test_an_end_that_was_cut_off_is_seen_by_whoever_remembers_the_head(
    models: ModelRegistry, store: ModelStore
) -> None:
    models.promote("digits", 3, "staging")
    heads = models.verify().heads
    store.delete(LOG.format(11))
    store.delete("models/digits/versions/v3/status.json")

    assert models.verify().ok
    (finding,) = models.verify(heads=heads).findings
    assert (finding.what, finding.file) == ("missing", store.address(LOG.format(11)))
    assert "cut off" in finding.problem


def test_an_end_that_was_cut_off_is_seen_by_the_status_that_it_left(models: ModelRegistry, store: ModelStore) -> None:
    models.promote("digits", 3, "staging")
    store.delete(LOG.format(11))
    (finding,) = models.verify().findings
    assert finding.file == store.address("models/digits/versions/v3/status.json")
    assert "cut off" in finding.problem


def test_heads_of_logs_that_grew_are_no_reason_to_complain_and_one_that_is_gone_is(
    models: ModelRegistry, store: ModelStore
) -> None:
    models.register("letters", b"letters")
    heads = models.verify().heads
    models.promote("digits", 3, "staging")
    assert models.verify(heads=heads).ok
    for key in store.list("models/letters"):
        store.delete(key)
    report = models.verify(heads=heads)
    assert [finding.what for finding in report.findings] == ["missing", "missing"]
    assert "the name was taken, and its log is gone" in report.findings[0].problem
    assert report.findings[1].file == store.address("models/letters/log")


def _long(store: ModelStore, events: int) -> ModelRegistry:
    models = ModelRegistry(store=store, actor="ada")
    models.register("digits", b"weights")
    for number in range(events - 2):
        models.annotate("digits", 1, description=str(number))
    return models


@pytest.mark.parametrize(
    ("damage", "what", "file"),
    [
        (changed("models/digits/checkpoints/000000000016.json", b'"13"', b'"31"'), "contradiction",
         "models/digits/checkpoints/000000000016.json"),
        (changed("models/digits/checkpoints/000000000016.json", b'"record":"sha256:', b'"record":"sha256:0'),
         "contradiction", "models/digits/checkpoints/000000000016.json"),
        (put("models/digits/checkpoints/000000000016.json", b"{}"), "contradiction",
         "models/digits/checkpoints/000000000016.json"),
        (put("models/digits/checkpoints/000000000016.json", b"?"), "unreadable",
         "models/digits/checkpoints/000000000016.json"),
        (lambda store: store.replace("models/digits/checkpoints/000000000032.json",
                                     store.read("models/digits/checkpoints/000000000016.json")), "contradiction",
         "models/digits/checkpoints/000000000032.json"),
        (put("models/digits/head.json", b'{"checkpoint":48}'), "contradiction", "models/digits/head.json"),
    ],
)  # fmt: skip
def test_a_checkpoint_or_hint_that_says_otherwise_than_the_log_is_found(
    store: ModelStore, damage: Damage, what: str, file: str
) -> None:
    models = _long(store, 20)
    assert models.verify().ok
    damage(store)
    assert found(store, models.verify()) == [(what, file)]


def test_a_last_record_that_was_changed_is_seen_by_its_checkpoint(store: ModelStore) -> None:
    models = _long(store, 16)
    assert models.verify().ok
    changed(LOG.format(16), b'"13"', b'"31"')(store)
    (finding,) = [one for one in models.verify().findings if one.what != "missing"]
    assert finding.file == store.address(LOG.format(16))
    assert "it was changed, or its checkpoint was" in finding.problem


def test_a_checkpoint_vouches_for_the_record_before_the_last(store: ModelStore) -> None:
    models = _long(store, 17)
    changed(LOG.format(17), b'"previous":"sha256:', b'"previous":"sha256:0')(store)
    (finding,) = models.verify().findings
    assert finding.file == store.address(LOG.format(17))
    assert "or the record before it was" not in finding.problem


def test_without_a_witness_either_of_the_last_two_records_may_be_the_changed_one(
    models: ModelRegistry, store: ModelStore
) -> None:
    changed(LOG.format(9), b'"ada@', b'"eve@')(store)
    (finding,) = models.verify().findings
    assert finding.file == store.address(LOG.format(10))
    assert "or the record before it was" in finding.problem


def test_projections_that_are_late_or_missing_are_remarked_and_no_more(
    models: ModelRegistry, store: ModelStore
) -> None:
    old = store.read("models/digits/versions/v3/status.json")
    models.promote("digits", 3, "staging")
    store.replace("models/digits/versions/v3/status.json", old)
    store.delete(f"{V2}/status.json")
    report = models.verify()
    assert report.ok
    said = {remark.file: remark.problem for remark in report.remarks}
    assert said == {
        store.address("models/digits/versions/v3/status.json"): "it is behind the log",
        store.address(f"{V2}/status.json"): "it was not written",
    }


def append(models: ModelRegistry, event: ModelEvent) -> None:
    """Append an event as a registration that dies after it does."""
    models._append("digits", lambda _known: event)  # noqa: SLF001 - no verb stops there


def test_what_a_crash_left_behind_is_remarked_and_a_registration_under_way_is_not(
    models: ModelRegistry, store: ModelStore
) -> None:
    for number in (4, 5):
        event = Reserved(
            version=str(number), label=f"v{number}", path=f"versions/v{number}", strategy=Strategy.AUTOMATIC
        )
        append(models, event)
        store.create(f"models/digits/versions/v{number}/artifact.bin", b"weights")
    append(models, Abandoned(version="5"))
    store.create(f"{V2}/variants/{'f' * 64}/engine.onnx", b"half an engine")
    store.create("notes.txt", b"mine")

    report = models.verify()
    assert report.ok
    assert [remark.file for remark in report.remarks] == [
        store.address(f"{V2}/variants/{'f' * 64}/engine.onnx"),
        store.address("models/digits/versions/v5"),
        store.address("notes.txt"),
    ]


def test_a_model_whose_name_the_registry_never_took_is_found(models: ModelRegistry, store: ModelStore) -> None:
    for key in store.list("log"):
        store.delete(key)
    report = models.verify()
    assert [finding.problem for finding in report.findings] == [
        "the model digits has versions, and its name is not taken"
    ]


def test_one_version_is_verified_with_its_whole_log_and_no_other_files(
    models: ModelRegistry, store: ModelStore
) -> None:
    store.replace("models/digits/versions/v1/artifact.bin", b"?")
    assert models.verify("digits", 2).ok
    assert models.verify("digits@champion").versions == 1
    assert found(store, models.verify("digits", "v1")) == [("changed", "models/digits/versions/v1/artifact.bin")]
    assert found(store, models.verify("digits")) == [("changed", "models/digits/versions/v1/artifact.bin")]
    assert models.verify("digits", 2).records == 10


def test_what_is_not_there_cannot_be_verified(models: ModelRegistry) -> None:
    with pytest.raises(ModelNotFoundError, match="Did you mean digits"):
        models.verify("digit")
    with pytest.raises(VersionNotFoundError, match="digits has no version '9'"):
        models.verify("digits", 9)


class Watching(InMemoryModelStore):
    """A store that says which files are read, and on request does not answer or refuses."""

    def __init__(self) -> None:
        """Make an empty one."""
        super().__init__()
        self.streamed: list[str] = []
        self.fails: dict[str, Exception] = {}

    def chunks(self, key: str) -> Iterator[bytes]:
        self._may_fail(key)
        self.streamed.append(key)
        return super().chunks(key)

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        for key in keys:
            self._may_fail(key)
        return super().read_many(keys)

    def _may_fail(self, key: str) -> None:
        for part, error in self.fails.items():
            if part in key:
                raise error


@pytest.fixture
def watched() -> ModelRegistry:
    """Return a registry of one version on a store that watches."""
    models = ModelRegistry(store=Watching(), actor="ada")
    models.register("digits", b"weights")
    return models


def test_a_shallow_look_reads_no_artifact_and_sees_that_one_is_gone(watched: ModelRegistry) -> None:
    report = watched.verify(deep=False)
    assert (report.ok, report.deep, report.size_bytes) == (True, False, 0)
    assert isinstance(watched.store, Watching)
    assert watched.store.streamed == []
    watched.store.replace("models/digits/versions/v1/artifact.bin", b"changed")
    assert watched.verify(deep=False).ok
    watched.store.delete("models/digits/versions/v1/artifact.bin")
    assert [finding.what for finding in watched.verify(deep=False).findings] == ["missing"]


@pytest.mark.parametrize("part", ["log/", "artifact.bin", "metadata.json", "status.json"])
def test_a_storage_that_does_not_answer_is_no_damage(watched: ModelRegistry, part: str) -> None:
    assert isinstance(watched.store, Watching)
    watched.store.fails = {part: StoreUnreachableError("no answer")}
    with pytest.raises(StoreUnreachableError, match="no answer"):
        watched.verify()


@pytest.mark.parametrize("part", ["log/000000000002", "artifact.bin", "metadata.json", "status.json"])
def test_a_file_that_may_not_be_read_is_named_and_the_rest_is_looked_at(watched: ModelRegistry, part: str) -> None:
    assert isinstance(watched.store, Watching)
    watched.store.fails = {f"digits/{part}" if "log" in part else part: StoreForbiddenError("permission denied")}
    watched.store.replace("head.json", b"?")
    findings: tuple[Finding, ...] = watched.verify().findings
    assert [finding.what for finding in findings] == ["unreadable", "unreadable"]
    assert "permission denied" in findings[0].problem
    assert part in findings[0].file


def test_writers_at_work_are_never_taken_for_a_damage(store: ModelStore) -> None:
    models, stop = ModelRegistry(store=store, actor="ada"), threading.Event()
    models.register("digits", b"weights")

    def write(worker: int) -> None:
        own = ModelRegistry(store=store, actor=f"writer {worker}")
        while not stop.wait(0.002):
            version = own.register("digits", b"weights of %d" % worker).version
            own.promote("digits", version, "production")
            own.register(f"model-{worker}", b"weights")

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
    for writer in writers:
        writer.start()
    try:
        reports = [ModelRegistry(store=store).verify()]
        while len(reports) < 8 or reports[-1].records < reports[0].records + 20:
            reports.append(ModelRegistry(store=store).verify())
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert {report.findings for report in reports} == {()}
