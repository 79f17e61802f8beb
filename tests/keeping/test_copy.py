"""A copy has the same files with the same digests, or it is not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

import pytest

from registry import Guard, InMemoryModelStore, ModelRegistry, ModelStore
from registry.encoding import canonical_json, digest_of
from registry.errors import (
    IntegrityError,
    InvalidNameError,
    InvalidVersionError,
    ModelNotFoundError,
    StoreUnreachableError,
    VersionExistsError,
    VersionNotFoundError,
)
from registry.stages import ModelStage

Unchanged: TypeAlias = Callable[[], AbstractContextManager[None]]


class Breaking(InMemoryModelStore):
    """A store whose writes of some keys fail."""

    fails = "nothing"

    def create(self, key: str, data: bytes) -> None:
        if self.fails in key:
            raise StoreUnreachableError(f"{key}: no answer")
        super().create(key, data)


@pytest.fixture
def other() -> ModelRegistry:
    """Return another registry, empty."""
    return ModelRegistry(store=Breaking(), actor="bob")


def test_a_copy_has_the_same_files_and_all_that_was_said_of_the_version(
    models: ModelRegistry, other: ModelRegistry, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"a" * 3_000_000)
    (folder / "deep" / "b.bin").write_bytes(b"")
    models.register(
        "letters",
        folder,
        version="1.0.0",
        metrics={"accuracy": 0.5},
        parameters={"epochs": 3},
        tags={"team": "vision"},
        description="first words",
        lineage={"run": "7"},
    )
    models.annotate(
        "letters", "1.0.0", description="better words", metrics={"f1_score": 0.7}, measured_on="sha256:data"
    )
    models.promote("letters", "1.0.0", "staging")
    source = models.get_version("letters", "1.0.0")

    copied = models.copy("letters", "1.0.0", to=other)

    assert copied == other.get_version("letters", "v1.0.0")
    assert (copied.artifact, copied.measured_on) == (source.artifact, {"f1_score": "sha256:data"})
    assert (copied.metrics, copied.parameters, copied.tags) == (source.metrics, {"epochs": 3}, {"team": "vision"})
    assert (copied.description, copied.stage, copied.created_by) == ("better words", ModelStage.DEVELOPMENT, "bob")
    assert copied.described.lineage == {
        "run": "7",
        "copied_from": {
            "registry": models.identity.id,
            "version": "letters:1.0.0",
            "metadata_digest": source.metadata_digest,
        },
    }
    there = other.download("letters", "1.0.0", tmp_path / "there")
    assert (there / "a.bin").read_bytes() == b"a" * 3_000_000
    assert (there / "deep" / "b.bin").read_bytes() == b""
    assert other.get_sidecar("letters", "1.0.0").manifest == models.get_sidecar("letters", "1.0.0").manifest
    assert other.verify().ok


def test_a_copy_changes_nothing_where_it_comes_from(
    models: ModelRegistry, other: ModelRegistry, nothing_changes: Unchanged
) -> None:
    with nothing_changes():
        models.copy("digits", "champion", to=other)
        models.copy("digits@champion", None, to=other)  # type: ignore[arg-type]  # the alias is the version


def test_a_copy_to_a_path_makes_the_registry_there(models: ModelRegistry, tmp_path: Path) -> None:
    copied = models.copy("digits", 2, to=tmp_path / "other")
    assert ModelRegistry(tmp_path / "other").load_artifact("digits", 2) == b"weights of v2"
    assert copied.created_by == models.actor
    assert (tmp_path / "other" / "registry.json").is_file()


def test_engines_go_with_a_version_byte_for_byte_unless_they_are_left_out(
    models: ModelRegistry, other: ModelRegistry
) -> None:
    assert models.copy("digits", 2, to=other, variants=False).variants == ()
    assert models.copy("digits", 2, to=other).variants == ("e" * 64,)
    for name in ("metadata.json", "engine.onnx"):
        key = f"models/digits/versions/v2/variants/{'e' * 64}/{name}"
        assert other.store.read(key) == models.store.read(key)
    assert other.verify().ok


def test_a_copy_that_is_repeated_is_the_same_copy(models: ModelRegistry, other: ModelRegistry) -> None:
    first = models.copy("digits", 2, to=other)
    before = {key: other.store.read(key) for key in other.store.list("")}
    assert models.copy("digits", 2, to=other) == first
    assert {key: other.store.read(key) for key in other.store.list("")} == before


@pytest.mark.parametrize(
    "fails",
    [
        "registry.json",
        "log/000000000001",
        "artifact.bin",
        "v2/metadata.json",
        "engine.onnx",
        f"{'e' * 64}/metadata.json",
        "log/000000000002",
        "log/000000000003",
    ],
)
def test_a_copy_that_stops_anywhere_goes_on_when_it_is_repeated(
    models: ModelRegistry, other: ModelRegistry, fails: str
) -> None:
    assert isinstance(other.store, Breaking)
    other.store.fails = fails
    with pytest.raises(StoreUnreachableError):
        models.copy("digits", 2, to=other)
    other.store.fails = "nothing"
    copied = models.copy("digits", 2, to=ModelRegistry(store=other.store, actor="bob"))
    assert (copied.version, copied.variants) == ("v2", ("e" * 64,))
    report = other.verify()
    assert (report.ok, report.remarks, report.versions) == (True, (), 1)


@pytest.mark.parametrize(
    "damaged",
    ["models/digits/versions/v2/artifact.bin", f"models/digits/versions/v2/variants/{'e' * 64}/engine.onnx"],
)
@pytest.mark.parametrize("how", ["changed", "shorter", "longer", "gone"])
def test_damaged_files_are_not_copied(
    models: ModelRegistry, other: ModelRegistry, store: ModelStore, damaged: str, how: str
) -> None:
    data = store.read(damaged)
    if how == "gone":
        store.delete(damaged)
    else:
        store.replace(damaged, {"changed": b"?" + data[1:], "shorter": data[:-1], "longer": data + b"!" * 2**21}[how])
    with pytest.raises(IntegrityError) as refused:
        models.copy("digits", 2, to=other)
    assert refused.value.file == store.address(damaged)
    assert damaged not in other.store.list("")
    assert other.verify().ok
    if "artifact" in damaged:
        with pytest.raises(ModelNotFoundError):
            other.get_version("digits", 2)
    else:
        assert other.get_version("digits", 2).variants == ()


def test_a_sidecar_that_was_changed_is_not_copied(
    models: ModelRegistry, other: ModelRegistry, store: ModelStore
) -> None:
    key = "models/digits/versions/v2/metadata.json"
    store.replace(key, store.read(key).replace(b"0.92", b"0.99"))
    with pytest.raises(IntegrityError, match=r"metadata\.json"):
        models.copy("digits", 2, to=other)
    assert other.store.list("") == []


def test_a_label_that_is_taken_by_something_else_is_a_conflict(models: ModelRegistry, other: ModelRegistry) -> None:
    other.register("digits", b"mine", version="v2")
    before = {key: other.store.read(key) for key in other.store.list("")}
    with pytest.raises(VersionExistsError, match="digits:v2 is registered already"):
        models.copy("digits", 2, to=other)
    assert {key: other.store.read(key) for key in other.store.list("")} == before


def test_a_label_that_has_the_same_files_already_is_that_version(models: ModelRegistry, other: ModelRegistry) -> None:
    mine = other.register("digits", b"weights of v2", version="v2", description="mine")
    assert models.copy("digits", 2, to=other, variants=False) == mine
    assert models.copy("digits", 2, to=models) == models.get_version("digits", 2)


def test_a_version_that_was_deleted_there_does_not_come_back(models: ModelRegistry, other: ModelRegistry) -> None:
    models.copy("digits", 2, to=other)
    models.copy("digits", 3, to=other)
    other.delete_version("digits", 2)
    with pytest.raises(VersionExistsError):
        models.copy("digits", 2, to=other)
    with pytest.raises(VersionNotFoundError):
        other.get_version("digits", 2)


def test_what_does_not_fit_there_is_refused_before_anything_is_written(
    models: ModelRegistry, other: ModelRegistry
) -> None:
    models.register("my-model", b"weights")
    models.register("letters", b"weights", version="1.0.0")
    other.register("my_model", b"weights")
    other.register("letters", b"weights")
    before = {key: other.store.read(key) for key in other.store.list("")}
    with pytest.raises(InvalidNameError, match="would be mistaken for 'my_model'"):
        models.copy("my-model", 1, to=other)
    with pytest.raises(InvalidVersionError, match="a model keeps its strategy"):
        models.copy("letters", "1.0.0", to=other)
    with pytest.raises(VersionNotFoundError):
        models.copy("digits", 9, to=other)
    assert {key: other.store.read(key) for key in other.store.list("")} == before


def test_the_guard_that_holds_is_the_one_there(models: ModelRegistry, other: ModelRegistry) -> None:
    other.set_guard(Guard(require_approval=(ModelStage.PRODUCTION,)))
    assert models.get_version("digits", 2).stage is ModelStage.PRODUCTION
    assert models.copy("digits", 2, to=other).stage is ModelStage.DEVELOPMENT
    assert other.get_production_model("digits") is None


def test_a_copy_of_a_copy_tells_the_whole_way(models: ModelRegistry, other: ModelRegistry) -> None:
    third = ModelRegistry(store=InMemoryModelStore())
    other.copy("digits", models.copy("digits", 2, to=other).version, to=third)
    way = third.get_version("digits", 2).described.lineage["copied_from"]
    assert (way["registry"], way["copied_from"]["registry"]) == (other.identity.id, models.identity.id)


def test_a_version_without_an_artifact_is_copied_too(models: ModelRegistry, other: ModelRegistry) -> None:
    models.register("notes", description="only words")
    copied = models.copy("notes", 1, to=other)
    assert (copied.artifact, copied.description) == (None, "only words")
    assert models.copy("notes", 1, to=other) == copied


def test_words_that_a_later_release_said_of_a_version_go_with_it(other: ModelRegistry) -> None:
    store = InMemoryModelStore()
    ModelRegistry(store=store).register("digits", b"weights")
    sidecar_key, record_key = "models/digits/versions/v1/metadata.json", "models/digits/log/000000000002.json"
    sidecar, record = json.loads(store.read(sidecar_key)), json.loads(store.read(record_key))
    sidecar["described"]["colour"] = record["event"]["described"]["colour"] = "red"
    store.replace(sidecar_key, canonical_json(sidecar))
    record["event"]["metadata_digest"] = digest_of(store.read(sidecar_key))
    store.replace(record_key, canonical_json(record))
    copied = ModelRegistry(store=store).copy("digits", 1, to=other)
    assert (copied.described.model_extra or {})["colour"] == "red"
    assert json.loads(other.store.read(sidecar_key))["described"]["colour"] == "red"


def test_a_copy_holds_only_pieces_of_a_file_at_a_time(tmp_path: Path) -> None:
    held: list[int] = []

    class Measured(InMemoryModelStore):
        def chunks(self, key: str) -> Iterator[bytes]:
            for piece in super().chunks(key):
                held.append(len(piece))
                yield piece

    models = ModelRegistry(store=Measured())
    models.register("digits", b"x" * 5_000_000)
    held.clear()
    models.copy("digits", 1, to=tmp_path / "other")
    assert (sum(held), max(held)) == (5_000_000, 2**20)
