"""Reading a log costs the same however long it is, and gives the same whatever became of its hint and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TypeAlias

import pytest

from registry import InMemoryModelStore, ModelStore
from registry.encoding import canonical_json, digest_of
from registry.guard import ModelNamed, RootEvent, RootMachine, RootState, plan_name
from registry.log import EventLog, LogRecord
from registry.log.event_log import CHECKPOINTS_KEPT
from registry.log.fetching import run
from registry.log.reader import CHECKPOINT_EVERY, LogReader
from registry.log.record import NO_RECORD

Log: TypeAlias = EventLog[RootState, RootEvent]
Damage: TypeAlias = Callable[[ModelStore], None]

LENGTHS = (0, 1, 15, 16, 17, 100, 1000)


class CountingStore(InMemoryModelStore):
    """A store that counts what it is asked: ``reads`` are sequential round trips, a batch is one of many ``asked``."""

    def __init__(self) -> None:
        """Make an empty store."""
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Begin to count anew."""
        self.reads, self.asked, self.creates, self.replaces = 0, 0, 0, 0

    def read(self, key: str) -> bytes:
        self.reads += 1
        return super().read(key)

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self.reads += 1
        self.asked += len(keys)
        return super().read_many(keys)

    def create(self, key: str, data: bytes) -> None:
        self.creates += 1
        super().create(key, data)

    def replace(self, key: str, data: bytes) -> None:
        self.replaces += 1
        super().replace(key, data)


def _log(store: ModelStore) -> Log:
    return EventLog(store, "", RootMachine())


def _filled(store: ModelStore, records: int) -> Log:
    log = _log(store)
    for number in range(1, records + 1):
        event = ModelNamed(model=f"m{number}")
        log.append(lambda _known, event=event: event, actor="ada")  # type: ignore[misc]
    return log


def _models(records: int) -> tuple[str, ...]:
    return tuple(f"m{number}" for number in range(1, records + 1))


def _without_hint(store: ModelStore) -> None:
    store.delete("head.json")


def _without_checkpoints(store: ModelStore) -> None:
    for key in store.list("checkpoints"):
        store.delete(key)


def _without_both(store: ModelStore) -> None:
    _without_hint(store)
    _without_checkpoints(store)


def _with_hint(content: bytes) -> Damage:
    return lambda store: store.replace("head.json", content)


def _with_checkpoints(change: Callable[[bytes], bytes]) -> Damage:
    def damage(store: ModelStore) -> None:
        for key in store.list("checkpoints"):
            store.replace(key, change(store.read(key)))

    return damage


def _another_state(data: bytes) -> bytes:
    """Return a checkpoint of the right form with another state, whose own digest is right."""
    checkpoint = json.loads(data)
    state = checkpoint.pop("state") | {"models": ["invented"]}
    encoded = canonical_json(state)
    header = canonical_json(checkpoint | {"sha256": digest_of(encoded), "record": digest_of(b"another history")})
    return header[:-1] + b',"state":' + encoded + b"}"


DAMAGES: dict[str, Damage] = {
    "nothing damaged": lambda _store: None,
    "no hint": _without_hint,
    "an empty hint": _with_hint(b""),
    "a hint that is no JSON": _with_hint(b"{"),
    "a hint that is a list": _with_hint(b"[16]"),
    "a hint that is text": _with_hint(b'{"checkpoint": "16"}'),
    "a hint below zero": _with_hint(b'{"checkpoint": -16}'),
    "a hint between checkpoints": _with_hint(b'{"checkpoint": 15}'),
    "a stale hint": _with_hint(b'{"checkpoint": 16}'),
    "a hint too far ahead": _with_hint(b'{"checkpoint": 160000}'),
    "a hint beyond all numbers": _with_hint(b'{"checkpoint": 1%s}' % (b"6" * 40)),
    "no checkpoints": _without_checkpoints,
    "no hint and no checkpoints": _without_both,
    "empty checkpoints": _with_checkpoints(lambda _data: b""),
    "torn checkpoints": _with_checkpoints(lambda data: data[: len(data) // 2]),
    "checkpoints with a changed state": _with_checkpoints(lambda data: data.replace(b'"m1"', b'"n1"')),
    "checkpoints of another machine": _with_checkpoints(lambda data: data.replace(b"root/2", b"root/0")),
    "checkpoints of a later format": _with_checkpoints(lambda data: data.replace(b'"format":1', b'"format":2')),
    "checkpoints of another history": _with_checkpoints(_another_state),
    "checkpoints that are lists": _with_checkpoints(lambda _data: b'[1,"state":2]'),
}


@pytest.mark.parametrize("length", [15, 16, 17, 100, 131])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_state_is_right_whatever_has_become_of_hint_and_checkpoints(damage: Damage, length: int) -> None:
    store = InMemoryModelStore()
    right = _filled(store, length).read()
    damage(store)

    assert _log(store).read() == right

    appended = _log(store).append(lambda _known: ModelNamed(model="next"), actor="ada").snapshot
    assert appended.state.models == (*_models(length), "next")
    assert [record.number for record in _log(store).history()] == list(range(1, length + 2)), "the chain went on"


@pytest.mark.parametrize("length", LENGTHS)
def test_without_a_hint_the_end_is_found_by_galloping(length: int) -> None:
    store = CountingStore()
    _filled(store, length)
    _without_hint(store)
    store.forget()

    assert _log(store).read().state.models == _models(length)
    assert store.reads <= 9, "as many round trips as the logarithm of the length, not as the length"


@pytest.mark.parametrize("length", [*LENGTHS, 2, 3, 255, 256, 257, 511])
def test_galloping_finds_the_last_number(length: int) -> None:
    store = InMemoryModelStore()
    _filled(store, length)

    assert run(store, LogReader(store, "", RootMachine())._gallop()) == length  # noqa: SLF001 - no reader gallops with a good hint


def test_galloping_finds_the_last_of_millions_in_a_few_round_trips() -> None:
    class Endless(CountingStore):
        def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
            self.reads += 1
            return [b"{}" if int(key[4:-5]) <= 3_123_457 else None for key in keys]

    store = Endless()

    assert run(store, LogReader(store, "", RootMachine())._gallop()) == 3_123_457  # noqa: SLF001 - as above
    assert store.reads <= 8


@pytest.mark.parametrize("length", [10, 2000, 2015])
def test_a_cold_read_is_two_round_trips_and_a_warm_one_is_one(length: int) -> None:
    store = CountingStore()
    log = _filled(store, length)

    store.forget()
    assert _log(store).read().state.models == _models(length)
    assert (store.reads, store.creates, store.replaces) == (2, 0, 0)

    store.forget()
    log.read()
    assert store.reads == 1


@pytest.mark.parametrize("length", [10, 2000])
def test_a_warm_append_is_one_create_and_nothing_else(length: int) -> None:
    store = CountingStore()
    log = _filled(store, length)

    store.forget()
    log.append(lambda known: plan_name(known.state, "digits"), actor="ada")
    assert (store.reads, store.creates, store.replaces) == (0, 1, 0)

    store.forget()
    _log(store).append(lambda known: plan_name(known.state, "faces"), actor="ada")
    assert (store.reads, store.creates) == (2, 1)


def test_only_the_newest_checkpoints_are_kept() -> None:
    store = InMemoryModelStore()
    _filled(store, 200)

    newest = 192
    numbers = [newest - step * CHECKPOINT_EVERY for step in range(CHECKPOINTS_KEPT)]
    assert store.list("checkpoints") == [f"checkpoints/{number:012d}.json" for number in sorted(numbers)]
    assert json.loads(store.read("head.json")) == {"checkpoint": newest}


def test_a_checkpoint_of_a_log_that_lost_its_records_is_not_believed() -> None:
    store = InMemoryModelStore()
    _filled(store, 16)
    for key in store.list("log"):
        store.delete(key)

    assert _log(store).read().state.models == ()


def test_a_hint_that_went_back_does_not_take_the_reader_back() -> None:
    store = InMemoryModelStore()
    _filled(store, 47)
    store.replace("head.json", b'{"checkpoint": 16}')

    assert _log(store).read().state.models == _models(47)


def test_a_stale_hint_costs_a_search_and_not_the_reading_of_all_that_came_after() -> None:
    store = CountingStore()
    _filled(store, 2000)
    store.replace("head.json", b'{"checkpoint": 16}')
    store.forget()

    assert _log(store).read().state.models == _models(2000)
    assert store.reads <= 9
    assert store.asked < 200


def test_a_log_of_one_record_is_a_chain_from_nothing() -> None:
    store = InMemoryModelStore()
    _filled(store, 1)

    record = LogRecord.model_validate_json(store.read("log/000000000001.json"))
    assert record.previous == NO_RECORD == "sha256:" + "0" * 64
