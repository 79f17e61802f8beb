"""Projections can be lost: the logs give them back, also while others write."""

from __future__ import annotations

import json

import pytest

from registry import InMemoryModelStore, ModelRegistry, ModelStore
from registry.encoding import canonical_json
from registry.errors import ModelNotFoundError, StoreError


@pytest.fixture
def store() -> ModelStore:
    """Return an empty store; what differs between stores is not what is asked here."""
    return InMemoryModelStore()


def long(store: ModelStore) -> ModelRegistry:
    """Return a registry whose logs have checkpoints: 40 models, and one of them of 40 events."""
    models = ModelRegistry(store=store, actor="ada")
    for number in range(20):
        models.register("digits", b"weights of %d" % number)
        models.register(f"model-{number}", b"weights")
    models.promote("digits", 3, "production")
    return models


def projections(store: ModelStore) -> dict[str, bytes]:
    """Return what can be rebuilt."""
    return {
        key: store.read(key)
        for key in store.list("")
        if key.endswith(("/status.json", "head.json")) or "checkpoints/" in key
    }


def said(projections: dict[str, bytes]) -> dict[str, object]:
    """Return what projections say, but for how new they are; older checkpoints are not made again."""
    return {
        key: {name: value for name, value in json.loads(data).items() if name != "as_of"}
        for key, data in projections.items()
        if "checkpoints/" not in key or key.endswith(("checkpoints/000000000032.json", "s/000000000016.json"))
    }


@pytest.mark.parametrize("damage", ["gone", "garbage", "empty", "another's"])
def test_projections_are_written_again_as_they_were(store: ModelStore, damage: str) -> None:
    models = long(store)
    before = projections(store)
    logs = {key: store.read(key) for key in store.list("") if "/log/" in key or key.startswith("log/")}
    assert {key for key in before if "checkpoints" in key} >= {"checkpoints/000000000016.json"}
    for key in before:
        if damage == "gone":
            store.delete(key)
        else:
            store.replace(key, {"garbage": b"{?", "empty": b"", "another's": b'{"checkpoint":64,"as_of":1}'}[damage])

    report = ModelRegistry(store=store).rebuild()

    assert report.ok
    after = projections(store)
    assert said(after) == {key: value for key, value in said(before).items() if key in after}
    assert set(before) - set(after) <= {"models/digits/checkpoints/000000000016.json"}
    assert len(report.statuses) == 40
    assert set(report.checkpoints) == {store.address(key) for key in after if "checkpoints" in key}
    assert {key: store.read(key) for key in logs} == logs
    assert models.verify().remarks == ()
    assert models.verify().ok


def test_a_checkpoint_that_lies_about_a_record_that_is_not_there_is_removed(store: ModelStore) -> None:
    models = long(store)
    for key in ("models/digits/checkpoints/000000000096.json", "models/digits/checkpoints/note.txt"):
        store.replace(key, store.read("models/digits/checkpoints/000000000032.json"))
    assert not models.verify().ok
    assert models.rebuild("digits").ok
    assert models.verify().ok
    assert "models/digits/checkpoints/note.txt" not in store.list("")


def test_one_model_is_rebuilt_and_the_others_are_left_alone(store: ModelStore) -> None:
    models = long(store)
    for key in projections(store):
        store.delete(key)
    report = models.rebuild("digits")
    assert len(report.statuses) == 20
    assert {key.split("/")[1] for key in projections(store)} == {"digits"}
    with pytest.raises(ModelNotFoundError, match="Did you mean digits"):
        models.rebuild("digit")


def test_what_a_writer_does_meanwhile_is_not_written_over_with_what_was_before() -> None:
    class Interrupted(InMemoryModelStore):
        interrupted = 0

        def replace(self, key: str, data: bytes) -> None:
            if key == "models/digits/versions/v1/status.json" and self.interrupted == 1:
                self.interrupted = 2
                other.promote("digits", 1, "staging")
            super().replace(key, data)

    store = Interrupted()
    other = ModelRegistry(store=store)
    other.register("digits", b"weights")
    store.interrupted = 1
    ModelRegistry(store=store).rebuild()
    status = json.loads(store.read("models/digits/versions/v1/status.json"))
    assert (store.interrupted, status["stage"], status["as_of"]) == (2, "staging", 3)


def test_a_log_that_cannot_be_believed_is_named_and_all_that_is_made_from_it_stays(store: ModelStore) -> None:
    models = long(store)
    store.replace("models/digits/log/000000000005.json", b"?")
    before = {key: data for key, data in projections(store).items() if key.startswith("models/digits/")}
    store.delete("models/model-1/versions/v1/status.json")

    report = models.rebuild()

    assert not report.ok
    assert report.findings[0].file == store.address("models/digits/log/000000000005.json")
    assert {key: data for key, data in projections(store).items() if key.startswith("models/digits/")} == before
    assert "models/model-1/versions/v1/status.json" in store.list("")


def test_fields_that_a_later_release_wrote_into_an_event_are_kept(store: ModelStore) -> None:
    ModelRegistry(store=store).register("digits", b"weights")
    key = "models/digits/log/000000000002.json"
    registered = json.loads(store.read(key))
    registered["event"]["described"]["colour"] = "red"
    store.replace(key, canonical_json(registered))
    this_release = ModelRegistry(store=store)
    for number in range(14):
        this_release.annotate("digits", 1, tags={"n": str(number)})
    store.delete("models/digits/checkpoints/000000000016.json")
    assert ModelRegistry(store=store).rebuild("digits").ok
    checkpoint = json.loads(store.read("models/digits/checkpoints/000000000016.json"))
    assert checkpoint["state"]["versions"]["1"]["described"]["colour"] == "red"
    assert ModelRegistry(store=store).verify().ok


def test_a_storage_that_refuses_is_told_and_a_second_try_ends_the_work() -> None:
    class Full(InMemoryModelStore):
        full = False

        def replace(self, key: str, data: bytes) -> None:
            if self.full and key.endswith("head.json"):
                raise StoreError(f"{key}: no space left on the device")
            super().replace(key, data)

    store = Full()
    models = long(store)
    for key in projections(store):
        store.delete(key)
    store.full = True
    with pytest.raises(StoreError, match="no space left"):
        models.rebuild()
    store.full = False
    assert models.rebuild().ok
    assert models.verify().remarks == ()
