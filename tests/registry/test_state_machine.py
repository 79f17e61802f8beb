"""The rules as pure functions: whatever is asked in whatever order, there is one version in production, or none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import Guard, ModelStage
from registry.errors import ModelwayError, VersionNotFoundError
from registry.events import Abandoned, ModelEvent, Registered, parse_event
from registry.log.record import NO_RECORD, LogRecord
from registry.machine import ModelMachine
from registry.plan import plan_alias, plan_move, plan_reserve, plan_restore, plan_rollback
from registry.records import Description
from registry.state import ModelState
from registry.wishes import UNSET, MoveRequest, Wish

Step: TypeAlias = Callable[["_World"], ModelEvent | None]

MACHINE = ModelMachine()
STAGES = list(ModelStage)


class _World:
    """A model's state with the events that led to it; each step is planned and folded, or refused."""

    def __init__(self) -> None:
        self.state = MACHINE.initial()
        self.records: list[LogRecord] = []
        self.states = [self.state]

    def do(self, step: Step) -> bool:
        """Plan a step twice, fold what it gives twice, and compare; return whether it was granted."""
        before = self.state.model_dump_json()
        event, again = self._planned(step), self._planned(step)
        assert event == again, "the same question had two answers"
        assert self.state.model_dump_json() == before, "planning changed the state"
        if event is None:
            return False
        record = self._record(event)
        folded, twice = (MACHINE.fold(self.state, parse_event(record.event), record) for _ in range(2))
        assert folded == twice, "the same event gave two states"
        assert self.state.model_dump_json() == before, "folding changed the state that it began with"
        self.state = folded
        self.states.append(folded)
        self.records.append(record)
        return True

    def _planned(self, step: Step) -> ModelEvent | None:
        try:
            return step(self)
        except ModelwayError:
            return None

    def _record(self, event: ModelEvent) -> LogRecord:
        number = len(self.records) + 1
        time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
        return LogRecord(
            number=number,
            id=str(number),
            previous=NO_RECORD,
            time=time,
            actor="ada",
            event=event.model_dump(mode="json"),
        )


def _reserve(key: str | None) -> Step:
    return lambda world: plan_reserve(
        world.state, Wish("digits", None, None, key, "ada"), record_number=len(world.records) + 1
    )


def _commit(version: int) -> Step:
    def step(world: _World) -> Registered | None:
        found = world.state.versions.get(str(version))
        if found is None or found.status != "reserved":
            return None
        return Registered(version=str(version), metadata_digest="sha256:0", described=Description())

    return step


def _abandon(version: int) -> Step:
    def step(world: _World) -> Abandoned | None:
        found = world.state.versions.get(str(version))
        return Abandoned(version=str(version)) if found is not None and found.status == "reserved" else None

    return step


def _move(version: int, stage: ModelStage, strict: bool, key: str | None) -> Step:  # noqa: FBT001 - drawn by hypothesis
    def step(world: _World) -> Any:
        wish = MoveRequest(
            name="digits", version=version, stage=stage, actor="ada", now=datetime(2026, 1, 1, tzinfo=UTC), key=key
        )
        return plan_move(world.state, Guard(strict_path=strict), 0, wish)

    return step


def _roll_back(version: int | None, key: str | None) -> Step:
    return lambda world: plan_rollback(world.state, "digits", version=version, reason="", key=key)


def _restore(version: int) -> Step:
    return lambda world: plan_restore(world.state, "digits", version, reason="")


def _alias(alias: str, version: int | None) -> Step:
    return lambda world: plan_alias(world.state, "digits", alias, version, expect=UNSET)


VERSIONS = st.integers(1, 5)
KEYS = st.none() | st.sampled_from(["k1", "k2"])
STEPS = st.one_of(
    st.builds(_reserve, KEYS),
    st.builds(_commit, VERSIONS),
    st.builds(_commit, VERSIONS),
    st.builds(_abandon, VERSIONS),
    st.builds(_move, VERSIONS, st.sampled_from(STAGES), st.booleans(), KEYS),
    st.builds(_move, VERSIONS, st.just(ModelStage.PRODUCTION), st.just(value=False), st.none()),
    st.builds(_roll_back, st.none() | VERSIONS, KEYS),
    st.builds(_restore, VERSIONS),
    st.builds(_alias, st.sampled_from(["champion", "canary"]), st.none() | VERSIONS),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_there_are_never_two_in_production_whatever_is_asked(steps: list[Step]) -> None:
    world = _World()
    for step in steps:
        world.do(step)

    for state in world.states:
        _holds_together(state)
    machine = ModelMachine()
    assert machine.load(machine.dump(world.state)) == world.state


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_folding_the_records_again_gives_the_same_state(steps: list[Step]) -> None:
    world = _World()
    for step in steps:
        world.do(step)

    state = MACHINE.initial()
    for record in world.records:
        again = LogRecord.model_validate_json(record.encode())
        state = MACHINE.fold(state, MACHINE.parse(again.event), again)
    assert state == world.state


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.integers(1, 12))
def test_going_back_n_times_goes_back_n_holders(order: list[int], times: int) -> None:
    world = _World()
    for version in range(1, 5):
        world.do(_reserve(None))
        world.do(_commit(version))
    way: list[int] = []
    for version in order:
        world.do(_restore(version))
        if world.do(_move(version, ModelStage.PRODUCTION, strict=False, key=None)):
            way.append(version)

    for _ in range(times):
        if not world.do(_roll_back(None, None)):
            assert set(way) == {way[-1]}, "only a way of one version has no way back"
            break
        here = way[-1]
        while way[-1] == here:
            way.pop()
        assert world.state.production == str(way[-1])


def test_a_reservation_is_invisible_and_its_number_is_not_given_again() -> None:
    world = _World()
    assert world.do(_reserve("first"))
    assert world.do(_abandon(1))
    assert world.do(_reserve("first")), "a label that was given up does not hold its key"
    assert world.do(_commit(2))

    assert list(world.state.registered()) == ["2"]
    with pytest.raises(VersionNotFoundError, match=r"has no version '1'. It has: v2"):
        world.state.find("digits", 1)


def _holds_together(state: ModelState) -> None:
    in_production = [key for key, version in state.versions.items() if version.stage is ModelStage.PRODUCTION]
    assert in_production == ([] if state.production is None else [state.production])
    assert all(state.versions[key].held_production for key in state.holders)
    if state.production is not None:
        assert state.holders[-1] == state.production
    visible = state.registered()
    assert all(version.status == "registered" for version in visible.values())
    assert all(key in visible for key in (*state.holders, *state.aliases.values()))
    numbers = [version.registered_as for version in visible.values()]
    assert numbers == sorted(set(numbers))
    assert len({version.ordinal for version in state.versions.values()}) == len(state.versions)
    assert len({version.path for version in state.versions.values()}) == len(state.versions)
