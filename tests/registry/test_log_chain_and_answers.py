"""What a log withstands: changed records, lost answers, failing stores; each is told apart from the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import pytest

from registry import InMemoryModelStore, ModelStore
from registry.encoding import digest_of
from registry.errors import ConflictError, IntegrityError, StoreError, StoreUnreachableError, UnknownOutcomeError
from registry.guard import ModelNamed, RootEvent, RootMachine, RootState, plan_name
from registry.log import EventLog
from registry.log.record import LogRecord
from registry.store import AlreadyExistsError

Log: TypeAlias = EventLog[RootState, RootEvent]
Create: TypeAlias = Callable[[str, bytes], None]


class FaultyStore(InMemoryModelStore):
    """A store whose next creates in ``faults`` go wrong, each in its own way; then it is as good as any."""

    def __init__(self) -> None:
        """Make an empty store."""
        super().__init__()
        self.faults: list[Callable[[Create, str, bytes], None]] = []
        self.reads_fail = False

    def create(self, key: str, data: bytes) -> None:
        if self.faults:
            self.faults.pop(0)(super().create, key, data)
        else:
            super().create(key, data)

    def read(self, key: str) -> bytes:
        if self.reads_fail:
            raise StoreUnreachableError("no answer")
        return super().read(key)

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        if self.reads_fail:
            raise StoreUnreachableError("no answer")
        return super().read_many(keys)


def written_but_unanswered(create: Create, key: str, data: bytes) -> None:
    create(key, data)
    raise StoreUnreachableError("the answer was lost")


def written_and_refused(create: Create, key: str, data: bytes) -> None:
    create(key, data)
    raise AlreadyExistsError(f"{key} exists already")


def not_written(_create: Create, _key: str, _data: bytes) -> None:
    raise StoreUnreachableError("the request was lost")


def refused_without_a_reason(_create: Create, key: str, _data: bytes) -> None:
    raise AlreadyExistsError(f"{key} exists already")


def another_was_first_and_the_answer_lost(create: Create, key: str, data: bytes) -> None:
    record = LogRecord.model_validate_json(data)
    other = ModelNamed(model="theirs").model_dump(mode="json")
    create(key, record.model_copy(update={"id": "another", "event": other}).encode())
    raise StoreUnreachableError("the answer was lost")


def _log(store: ModelStore) -> Log:
    return EventLog(store, "", RootMachine())


def _name(log: Log, name: str) -> tuple[str, ...]:
    return log.append(lambda known: plan_name(known.state, name), actor="ada").snapshot.state.models


def _filled(store: ModelStore, records: int) -> Log:
    log = _log(store)
    for number in range(records):
        _name(log, f"m{number}")
    return log


@pytest.mark.parametrize(
    "faults",
    [
        [written_but_unanswered],
        [written_and_refused],
        [not_written],
        [not_written, not_written],
        [not_written, written_but_unanswered],
        [not_written, written_and_refused],
    ],
)
def test_an_event_is_written_once_however_its_answer_was_lost(
    faults: list[Callable[[Create, str, bytes], None]],
) -> None:
    store = FaultyStore()
    log = _filled(store, 2)
    store.faults = list(faults)

    assert _name(log, "digits") == ("m0", "m1", "digits")

    assert store.faults == []
    assert _log(store).read().state.models == ("m0", "m1", "digits")
    assert _name(log, "faces") == _log(store).read().state.models


def test_a_number_that_another_took_while_the_answer_was_lost_is_not_mistaken_for_ours() -> None:
    store = FaultyStore()
    log = _filled(store, 1)
    store.faults = [another_was_first_and_the_answer_lost]

    assert _name(log, "digits") == ("m0", "theirs", "digits")


def test_a_store_that_fails_three_times_fails_the_append_and_nothing_was_written() -> None:
    store = FaultyStore()
    log = _filled(store, 1)
    store.faults = [not_written] * 3

    with pytest.raises(StoreUnreachableError, match="the request was lost"):
        _name(log, "digits")

    assert _log(store).read().state.models == ("m0",)
    assert _name(log, "digits") == ("m0", "digits")


@pytest.mark.parametrize("fault", [written_but_unanswered, not_written])
def test_an_outcome_that_nobody_can_tell_is_an_error_of_its_own(
    fault: Callable[[Create, str, bytes], None],
) -> None:
    store = FaultyStore()
    log = _filled(store, 1)

    def and_silence(create: Create, key: str, data: bytes) -> None:
        store.reads_fail = True
        fault(create, key, data)

    store.faults = [and_silence]
    with pytest.raises(UnknownOutcomeError, match=r"does not say whether it arrived.*same idempotency key") as caught:
        _name(log, "digits")
    assert isinstance(caught.value, ConflictError)

    store.reads_fail = False
    assert _name(log, "digits") == ("m0", "digits"), "the repeated call finds out"
    assert len(store.list("log")) == 2


def test_a_store_that_contradicts_itself_is_not_believed() -> None:
    store = FaultyStore()
    log = _filled(store, 1)
    store.faults = [refused_without_a_reason]

    with pytest.raises(ConflictError, match="the storage contradicts itself"):
        _name(log, "digits")
    assert _log(store).read().state.models == ("m0",)


@pytest.mark.parametrize("length", [3, 20, 40])
@pytest.mark.parametrize("changed", [1, 2])
def test_a_changed_record_is_found_by_whoever_reads_it_and_named(store: ModelStore, length: int, changed: int) -> None:
    _filled(store, length)
    key, following = f"log/{changed:012d}.json", f"log/{changed + 1:012d}.json"
    was = digest_of(store.read(key))
    store.replace(key, store.read(key).replace(b'"ada"', b'"eve"'))
    found = digest_of(store.read(key))

    with pytest.raises(IntegrityError) as caught:
        list(_log(store).history())

    assert caught.value.file == following
    assert caught.value.expected == f"a record that follows {found}"
    assert caught.value.found == f"one that follows {was}"
    assert "This record or the one before it was changed" in str(caught.value)


def test_a_changed_record_after_the_checkpoint_stops_every_reader_and_writer(store: ModelStore) -> None:
    _filled(store, 20)
    key = "log/000000000018.json"
    store.replace(key, store.read(key).replace(b'"ada"', b'"eve"'))

    for refused in (lambda: _log(store).read(), lambda: _name(_log(store), "digits")):
        with pytest.raises(IntegrityError) as caught:
            refused()
        assert caught.value.file == "log/000000000019.json"
    assert len(store.list("log")) == 20


def test_a_record_in_the_place_of_another_is_found(store: ModelStore) -> None:
    _filled(store, 3)
    store.replace("log/000000000003.json", store.read("log/000000000002.json"))

    with pytest.raises(IntegrityError, match=r"log/000000000003.json .*expected record 3, found record 2"):
        _log(store).read()


def test_a_warm_reader_finds_that_the_record_it_knew_was_exchanged(store: ModelStore) -> None:
    warm, other = _filled(store, 3), _log(store)
    store.replace("log/000000000003.json", store.read("log/000000000003.json").replace(b'"ada"', b'"eve"'))
    _name(other, "digits")

    with pytest.raises(IntegrityError, match=r"log/000000000004.json"):
        warm.read()


def test_a_failing_checkpoint_does_not_fail_the_append() -> None:
    class NoReplace(InMemoryModelStore):
        def replace(self, key: str, data: bytes) -> None:  # noqa: ARG002 - the contract's
            raise StoreError(f"{key}: no space left")

    store = NoReplace()
    log = _filled(store, 40)

    assert len(log.read().state.models) == 40
    assert _log(store).read() == log.read()
    assert store.list("checkpoints") == []
