"""A registry's bytes are spoilt in one way at a time, and the invariants name it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from registry import InMemoryModelStore, ModelRegistry
from registry.testing.invariants import outcome, problems
from registry.testing.verbs import MODEL, two_have_held_production

VERSION = f"models/{MODEL}/versions/v2"


@pytest.fixture
def store() -> InMemoryModelStore:
    """Return a store with a registry in which something has happened."""
    store = InMemoryModelStore()
    two_have_held_production(ModelRegistry(store=store))
    return store


def record(number: int) -> str:
    return f"models/{MODEL}/log/{number:012d}.json"


def edited(store: InMemoryModelStore, key: str, **changes: Any) -> None:
    store.replace(key, json.dumps({**json.loads(store.read(key)), **changes}).encode())


def last(store: InMemoryModelStore) -> str:
    return store.list(f"models/{MODEL}/log")[-1]


SPOILT: dict[str, tuple[Callable[[InMemoryModelStore], object], str]] = {
    "a record changed": (lambda store: edited(store, record(3), actor="eve"), "record 4 does not follow"),
    "a record gone": (lambda store: store.delete(record(3)), "4 stands where record 3 belongs"),
    "a record torn": (lambda store: store.replace(last(store), b'{"num'), "nothing readable stands where"),
    "a file gone": (lambda store: store.delete(f"{VERSION}/artifact.bin"), "v2/artifact.bin is missing"),
    "a file changed": (lambda store: store.replace(f"{VERSION}/artifact.bin", b"x"), "v2/artifact.bin is another"),
    "a sidecar gone": (lambda store: store.delete(f"{VERSION}/metadata.json"), "v2/metadata.json is not what was"),
    "a status of the future": (lambda store: edited(store, f"{VERSION}/status.json", as_of=99), "as of event 99"),
    "a status that lies": (lambda store: edited(store, f"{VERSION}/status.json", stage="staging"), "says staging"),
    "a status of nothing": (lambda store: store.create(f"{VERSION}9/status.json", b"{}"), "that is not registered"),
    "a name not taken": (lambda store: store.delete("log/000000000001.json"), "its name was never taken"),
    "a second production": (
        lambda store: edited(
            store, last(store), event={**json.loads(store.read(last(store)))["event"], "demoted": None}
        ),
        "took another's place in production",
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_spoilt_is_named(store: InMemoryModelStore, how: str) -> None:
    assert problems(store) == []
    spoil, words = SPOILT[how]
    spoil(store)
    found = problems(store)
    assert any(words in problem for problem in found), found


def test_a_torn_projection_is_a_problem_where_replacing_is_atomic(store: InMemoryModelStore) -> None:
    store.replace(f"{VERSION}/status.json", b'{"for')
    assert problems(store, torn=True) == []
    assert problems(store) == [f"{VERSION}/status.json is damaged"]


def test_runs_with_the_same_effect_have_the_same_outcome_and_others_have_not(store: InMemoryModelStore) -> None:
    again, more = InMemoryModelStore(), InMemoryModelStore()
    for other in (again, more):
        two_have_held_production(ModelRegistry(store=other))
    ModelRegistry(store=more).annotate(MODEL, 1, tags=["more"])
    assert outcome(store) == outcome(again)
    assert outcome(store) != outcome(more)
    more.replace(f"{VERSION}/artifact.bin", b"x")
    assert outcome(again)["files"] != outcome(more)["files"]
