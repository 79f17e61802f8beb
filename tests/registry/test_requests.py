"""What calls cost in requests: what docs/requests.md says, however long the history is."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from counting_store import CountingStore, with_history

from registry import ModelRegistry, ModelStage

TABLE = Path(__file__).parents[2] / "docs" / "requests.md"

CALLS: dict[str, Callable[[ModelRegistry], object]] = {
    "get_production_model": lambda registry: registry.get_production_model("digits"),
    "get_version": lambda registry: registry.get_version("digits", 1),
    "get_model_metadata": lambda registry: registry.get_model_metadata("digits"),
    "list_versions": lambda registry: registry.list_versions("digits"),
    "promote": lambda registry: registry.promote("digits", 1, ModelStage.PRODUCTION),
    "set_alias": lambda registry: registry.set_alias("digits", "champion", 1),
    "register": lambda registry: registry.register("digits", b"the bytes of a model"),
}
HISTORIES = [
    pytest.param((3, 10), id="10 events"),
    pytest.param((10_000, 100_000), id="100,000 events", marks=pytest.mark.heavy),
]


@cache
def _history(size: tuple[int, int]) -> dict[str, bytes]:
    store, (versions, events) = CountingStore(), size
    with_history(store, "digits", versions=versions, events=events)
    return dict(zip(store.list(""), store.read_many(store.list("")), strict=True))  # type: ignore[arg-type]


def _store(size: tuple[int, int]) -> CountingStore:
    store = CountingStore()
    for key, data in _history(size).items():
        store.replace(key, data)
    store.forget()
    return store


def _documented() -> dict[str, tuple[int, ...]]:
    rows = re.findall(r"^\| .*\(`(\w+)`\) \|(.*)\|$", TABLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {verb: tuple(int(cell) for cell in cells.split("|")) for verb, cells in rows}


def test_the_table_names_every_call_that_is_counted() -> None:
    assert list(_documented()) == list(CALLS)


@pytest.mark.parametrize("size", HISTORIES)
@pytest.mark.parametrize("verb", CALLS)
def test_a_call_costs_what_the_table_says(verb: str, size: tuple[int, int]) -> None:
    store = _store(size)
    CALLS[verb](ModelRegistry(store=store))
    cold = (store.requests, store.round_trips)

    store = _store(size)
    registry = ModelRegistry(store=store)
    registry.register("digits", b"reads the model's log and the root's")
    store.forget()
    CALLS[verb](registry)

    assert (*cold, store.requests, store.round_trips) == _documented()[verb]


def test_no_warm_registration_of_one_file_makes_more_than_seven_requests() -> None:
    store = CountingStore()
    registry = ModelRegistry(store=store)
    registry.register("digits", b"the first one")
    made = []
    for _ in range(32):
        store.forget()
        registry.register("digits", b"the bytes of a model")
        made.append(store.requests + store.projections)

    assert max(made) == 7, "with a checkpoint and its hint"
    assert min(made) == 5


def test_what_several_models_say_is_asked_together() -> None:
    store = CountingStore()
    registry = ModelRegistry(store=store)
    for name in ("digits", "faces", "roads"):
        registry.register(name)
        registry.promote(name, 1, "production")
    store.forget()

    found = ModelRegistry(store=store).get_by_stage("production")

    assert [version.full_name for version in found] == ["digits:v1", "faces:v1", "roads:v1"]
    assert store.round_trips == 4, "two for the names, two for all the models"


@pytest.mark.parametrize("collecting", [True, False])
def test_listing_many_versions_leaves_the_collector_as_it_was(*, collecting: bool) -> None:
    store = CountingStore()
    with_history(store, "digits", versions=600, events=1202)
    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        assert len(ModelRegistry(store=store).list_versions("digits")) == 600
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if before else gc.disable)()
