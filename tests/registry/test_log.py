"""The event log: every event once, in one order, and a decision only on what the log says now."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import pytest

from registry import ModelStore
from registry.encoding import canonical_json, digest_of
from registry.errors import FormatError, InvalidNameError
from registry.guard import ModelNamed, RootEvent, RootMachine, RootState, plan_name
from registry.log import EventLog, Snapshot
from registry.log.record import NO_RECORD, LogRecord

NothingChanges: TypeAlias = Callable[[], AbstractContextManager[None]]
Log: TypeAlias = EventLog[RootState, RootEvent]


def _log(store: ModelStore) -> Log:
    return EventLog(store, "", RootMachine())


def _name(log: Log, name: str) -> LogRecord | None:
    return log.append(lambda known: plan_name(known.state, name), actor="ada").record


def _key(number: int) -> str:
    return f"log/{number:012d}.json"


def test_an_empty_log_has_the_initial_state_and_writes_nothing(store: ModelStore) -> None:
    assert _log(store).read() == Snapshot(0, NO_RECORD, RootState())
    assert store.list("") == []


def test_each_record_says_who_wrote_it_when_and_after_which(store: ModelStore) -> None:
    log = _log(store)
    first, second = _name(log, "digits"), _name(log, "faces")

    assert first is not None
    assert second is not None
    assert (first.number, first.previous, first.actor) == (1, NO_RECORD, "ada")
    assert (second.number, second.previous) == (2, digest_of(store.read(_key(1))))
    assert first.time.utcoffset() is not None
    assert first.time <= second.time
    assert first.id != second.id
    assert list(_log(store).history()) == [first, second]


def test_nothing_to_do_writes_nothing(store: ModelStore, nothing_changes: NothingChanges) -> None:
    log = _log(store)
    _name(log, "digits")

    with nothing_changes():
        assert _name(log, "digits") is None
        assert _name(_log(store), "digits") is None


def test_a_refusal_writes_nothing(store: ModelStore, nothing_changes: NothingChanges) -> None:
    log = _log(store)
    _name(log, "my-digits")

    with nothing_changes(), pytest.raises(InvalidNameError, match="would be mistaken for 'my-digits'"):
        _name(log, "my_digits")


def test_a_refusal_on_an_old_state_is_decided_again_on_the_new_one(store: ModelStore) -> None:
    old, other = _log(store), _log(store)
    _name(old, "a")
    _name(other, "b")

    def only_after_b(known: Snapshot[RootState]) -> RootEvent:
        if "b" not in known.state.models:
            raise InvalidNameError("b first")
        return ModelNamed(model="c")

    assert old.append(only_after_b, actor="ada").snapshot.state.models == ("a", "b", "c")


def test_nothing_to_do_on_an_old_state_is_decided_again_on_the_new_one(store: ModelStore) -> None:
    old, other = _log(store), _log(store)
    _name(old, "a")
    _name(other, "b")

    appended = old.append(lambda known: ModelNamed(model="c") if "b" in known.state.models else None, actor="ada")

    assert appended.snapshot.state.models == ("a", "b", "c")


def test_a_yes_on_an_old_state_is_decided_again_when_another_was_first(
    store: ModelStore, nothing_changes: NothingChanges
) -> None:
    old, other = _log(store), _log(store)
    _name(old, "a")
    _name(other, "my-digits")

    with nothing_changes(), pytest.raises(InvalidNameError, match="would be mistaken for 'my-digits'"):
        _name(old, "my_digits")


def test_threads_on_one_log_and_on_logs_of_their_own_lose_nothing(store: ModelStore) -> None:
    shared = _log(store)
    wanted = [f"m{thread}x{number}" for thread in range(8) for number in range(20)]

    def write(thread: int) -> None:
        log = shared if thread % 2 else _log(store)
        for number in range(20):
            _name(log, f"m{thread}x{number}")

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for log in (shared, _log(store)):
        assert sorted(log.read().state.models) == sorted(wanted)
    assert [record.number for record in shared.history()] == list(range(1, len(wanted) + 1))


def test_a_record_of_a_later_format_is_refused_by_its_number(
    store: ModelStore, nothing_changes: NothingChanges
) -> None:
    _name(_log(store), "a")
    _forge(store, 2, format=2)

    with nothing_changes():
        for refused in (
            lambda: _log(store).read(),
            lambda: _name(_log(store), "b"),
            lambda: list(_log(store).history()),
        ):
            with pytest.raises(
                FormatError, match=r"log/000000000002.json has format 2, and this release reads up to 1"
            ):
                refused()


def test_an_event_that_a_later_release_added_is_refused_and_not_skipped(store: ModelStore) -> None:
    _name(_log(store), "a")
    _forge(store, 2, event={"type": "model_sold", "model": "a"})

    with pytest.raises(FormatError, match=r"log/000000000002.json holds an event that this release cannot read"):
        _log(store).read()


def test_fields_that_a_later_release_added_are_kept(store: ModelStore) -> None:
    _name(_log(store), "a")
    _forge(store, 2, mood="good", event={"type": "guard_set", "guard": {"moon_phase": "full"}})
    for number in range(3, 17):
        _name(_log(store), f"m{number}")

    record = list(_log(store).history())[1]
    guard = _log(store).read().state.guard

    assert record.model_extra == {"mood": "good"}
    assert record.event["guard"] == {"moon_phase": "full"}
    assert guard.model_extra == {"moon_phase": "full"}, "lost on the way through a checkpoint"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data.replace(b'"actor"', b'"number":1,"actor"', 1), "the key 'number' stands in it twice"),
        (lambda data: data[:-9], "is damaged"),
        (lambda _data: b"", "is damaged"),
        (lambda _data: b"\xff\xfe", "is damaged"),
        (lambda _data: b"[" * 100_000, "is damaged"),
        (lambda _data: b"[]", "is no LogRecord"),
        (lambda data: data.replace(b'"number":1', b'"number":NaN'), "NaN is no JSON number"),
        (lambda data: data.replace(b'"number":1', b'"number":"1"'), "is no LogRecord: number: "),
    ],
)
def test_a_damaged_record_is_named_and_nothing_is_guessed(
    store: ModelStore, damage: Callable[[bytes], bytes], message: str
) -> None:
    _name(_log(store), "a")
    store.replace(_key(1), damage(store.read(_key(1))))

    with pytest.raises(FormatError, match=rf"log/000000000001.json (.|\n)*{message}|{message}") as caught:
        _log(store).read()
    assert "000000000001.json" in str(caught.value)


def _forge(store: ModelStore, number: int, **fields: Any) -> None:
    """Add a record such as another release would write."""
    earlier = store.read(_key(number - 1))
    store.create(
        _key(number),
        canonical_json({**json.loads(earlier), "number": number, "previous": digest_of(earlier), **fields}),
    )
