"""What an endpoint is to serve: numbered generations, of which a failed one gives way to the one before."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.endpoints.desired import (
    Desired,
    EndpointEvent,
    EndpointMachine,
    EndpointState,
    Failed,
    Served,
    Share,
    Stopped,
    Wanted,
)
from registry.endpoints.wanting import plan_failed
from registry.log.record import NO_RECORD, LogRecord

MACHINE = EndpointMachine()


def _desired(version: str) -> Desired:
    return Desired(model="digits", version=version, metadata_digest="sha256:0")


def _wanted(version: str, key: str | None = None) -> Wanted:
    return Wanted(desired=_desired(version), key=key)


def _failed(generation: int) -> Failed:
    return Failed(generation=generation, reason="it did not start")


def _served(generation: int) -> Served:
    return Served(generation=generation, parts=(), url="http://127.0.0.1:1", host="here")


def _after(*events: EndpointEvent) -> EndpointState:
    """Fold the events, each by way of its JSON, twice and with the state unchanged."""
    state = MACHINE.initial()
    for number, event in enumerate(events, 1):
        record = LogRecord(
            number=number, id=str(number), previous=NO_RECORD, time=datetime(2026, 1, 1, tzinfo=UTC), actor="ada",
            event=event.model_dump(mode="json"),
        )  # fmt: skip
        before = state.model_dump_json()
        folded = MACHINE.fold(state, MACHINE.parse(record.event), record)
        assert folded == MACHINE.fold(state, MACHINE.parse(record.event), record)
        assert state.model_dump_json() == before
        state = folded
    assert MACHINE.load(state.model_dump_json(exclude_defaults=True).encode()) == state
    return state


def test_an_endpoint_serves_nothing_until_something_is_wanted() -> None:
    assert (_after().generation, _after().desired) == (0, None)


def test_a_generation_has_the_number_of_the_record_that_wanted_it() -> None:
    state = _after(_wanted("v1", key="run-1"), _wanted("v2"))

    assert (state.generation, state.desired) == (2, _desired("v2"))
    assert state.before == ((1, _desired("v1")),)
    assert state.keys == {"run-1": 1}


def test_after_a_failure_the_one_before_is_wanted_again() -> None:
    state = _after(_wanted("v1"), _wanted("v2"), _failed(2))
    assert (state.generation, state.desired, state.before) == (1, _desired("v1"), ())

    state = _after(_wanted("v1"), _wanted("v2"), _failed(2), _wanted("v3"), _failed(4))
    assert (state.generation, state.desired) == (1, _desired("v1"))


def test_after_a_failure_of_the_first_nothing_is_wanted() -> None:
    state = _after(_wanted("v1"), _failed(1))

    assert (state.generation, state.desired) == (0, None)


def test_a_generation_that_failed_while_a_newer_was_wanted_is_never_come_back_to() -> None:
    state = _after(_wanted("v1"), _wanted("v2"), _wanted("v3"), _failed(2))
    assert (state.generation, state.desired) == (3, _desired("v3"))

    state = _after(_wanted("v1"), _wanted("v2"), _wanted("v3"), _failed(2), _failed(3))
    assert (state.generation, state.desired) == (1, _desired("v1"))


def test_what_was_stopped_is_forgotten_but_for_its_keys() -> None:
    state = _after(_wanted("v1", key="run-1"), _wanted("v2"), Stopped(reason="enough"))
    assert state == EndpointState(keys={"run-1": 1})

    state = _after(_wanted("v1"), Stopped(), _wanted("v2"), _failed(3))
    assert (state.generation, state.desired) == (0, None), "a failure does not bring back what was stopped"


def test_what_was_brought_up_is_proven_and_nothing_comes_back_further_than_to_that() -> None:
    state = _after(_wanted("v1"), _served(1), _wanted("v2"), _wanted("v3"))
    assert (state.served, state.proven) == (1, False)
    assert [generation for generation, _ in state.before] == [1, 3]

    state = _after(_wanted("v1"), _served(1), _wanted("v2"), _served(3), _wanted("v3"), _failed(5))
    assert (state.generation, state.desired, state.proven, state.before) == (3, _desired("v2"), True, ())


def test_a_generation_that_served_is_not_given_up() -> None:
    state = _after(_wanted("v1"), _wanted("v2"), _served(2))
    assert plan_failed(state, 2, "the disk is full") is None
    assert plan_failed(state, 1, "it is long gone") is None

    newer = _after(_wanted("v1"), _served(1), _wanted("v2"))
    assert plan_failed(newer, 3, "no") == Failed(generation=3, reason="no")


def test_the_stable_version_answers_what_no_canary_does() -> None:
    canary = Share(version="v2", metadata_digest="sha256:1", share=0.1)
    desired = _desired("v1").model_copy(update={"canary": canary, "shadow": canary})
    assert [(role, share.version, share.share) for role, share in desired.shares()] == [
        ("stable", "v1", 0.9),
        ("canary", "v2", 0.1),
        ("shadow", "v2", 0.1),
    ]


EVENTS = st.one_of(
    st.builds(_wanted, st.sampled_from(["v1", "v2", "v3"]), st.none() | st.sampled_from(["k1", "k2"])),
    st.builds(_failed, st.integers(1, 12)),
    st.just(Stopped()),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, max_size=12))
def test_what_is_wanted_is_always_the_newest_that_neither_failed_nor_was_stopped(events: list[EndpointEvent]) -> None:
    alive: list[int] = []
    for number, event in enumerate(events, 1):
        match event:
            case Wanted():
                alive.append(number)
            case Failed():
                alive = [generation for generation in alive if generation != event.generation]
            case Stopped():
                alive = []

    state = _after(*events)

    assert state.generation == (alive[-1] if alive else 0)
    assert (state.desired is None) is (not alive)
    assert [generation for generation, _ in state.before] == alive[:-1]


@pytest.mark.parametrize("event", [{"type": "moved"}, {"type": "wanted"}, {}])
def test_an_event_of_another_kind_is_refused(event: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        MACHINE.parse(event)
