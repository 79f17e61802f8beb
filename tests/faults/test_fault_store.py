"""Each way in which a call can go wrong, on stores that are right: what is done, what is seen, who is dead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry import FileModelStore, InMemoryModelStore, ModelStore
from registry.errors import StoreUnreachableError
from registry.store import AlreadyExistsError
from registry.testing.faults import Crashed, FaultStore
from registry.testing.plans import CRASHES, Call, Fault, Kind, at, faults_of, is_replaceable

LOST = [Kind.ERROR_BEFORE, Kind.ERROR_AFTER, Kind.OUTAGE_BEFORE, Kind.OUTAGE_AFTER]
DONE = {Kind.ERROR_AFTER, Kind.OUTAGE_AFTER, Kind.CRASH_AFTER, Kind.DUPLICATED}
HINT = "head.json"


@pytest.fixture(params=["memory", "file"])
def inner(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    """Return a store that keeps the contract, with two keys in it."""
    store = InMemoryModelStore() if request.param == "memory" else FileModelStore(tmp_path / "store")
    store.create("a", b"aaaa")
    store.create(HINT, b"old hint")
    return store


def faulty(inner: ModelStore, kind: Kind, number: int = 1, **more: int) -> FaultStore:
    """Return a store whose call of this number goes wrong."""
    return FaultStore(inner, at(number, Fault(kind, **more)))


def pieces(*data: bytes) -> Iterator[bytes]:
    return iter(data)


WRITES: dict[str, Callable[[ModelStore], object]] = {
    "create": lambda store: store.create("b", b"bbbb"),
    "upload": lambda store: store.upload("b", pieces(b"bb", b"bb")),
    "replace": lambda store: store.replace("b", b"bbbb"),
}


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("write", WRITES)
def test_a_write_without_an_answer_has_happened_or_not(inner: ModelStore, write: str, kind: Kind) -> None:
    store = faulty(inner, kind)
    with pytest.raises(StoreUnreachableError, match=rf"{write} b: no answer"):
        WRITES[write](store)

    assert inner.read_many(["b"]) == [b"bbbb" if kind in DONE else None]
    if kind in {Kind.OUTAGE_BEFORE, Kind.OUTAGE_AFTER}:
        with pytest.raises(StoreUnreachableError):
            store.read("a")
        store.arm(at(99, Fault(kind)))
    assert store.read("a") == b"aaaa"


@pytest.mark.parametrize("kind", sorted(CRASHES))
@pytest.mark.parametrize("write", WRITES)
def test_nobody_writes_after_a_crash_and_what_was_torn_is_seen_only_where_that_may_be(
    inner: ModelStore, write: str, kind: Kind
) -> None:
    store = faulty(inner, kind)
    if kind is Kind.TORN and write == "create":
        assert kind not in {fault.kind for fault in faults_of(Call(1, "create", ("b",)))}
        return
    with pytest.raises(Crashed):
        WRITES[write](store)

    torn = b"bb" if kind is Kind.TORN and write == "replace" else None
    assert inner.read_many(["b"]) == [b"bbbb" if kind in DONE else torn]
    with pytest.raises(Crashed):
        store.read("a")
    with pytest.raises(Crashed):
        store.delete("a")
    with pytest.raises(Crashed):
        WRITES["create"](store)
    assert inner.read("a") == b"aaaa"
    assert not isinstance(Crashed(), Exception), "code that catches every Exception must not survive its own death"


def test_a_stream_that_is_cut_by_a_crash_leaves_no_object(inner: ModelStore) -> None:
    store, drawn = faulty(inner, Kind.TORN), []

    def stream() -> Iterator[bytes]:
        for piece in (b"first", b"second"):
            drawn.append(piece)
            yield piece

    with pytest.raises(Crashed):
        store.upload("b", stream())
    assert drawn == [b"first"]
    assert inner.list("") == ["a", HINT]


@pytest.mark.parametrize("write", ["create", "upload"])
def test_a_write_that_is_sent_twice_finds_its_own_object(inner: ModelStore, write: str) -> None:
    with pytest.raises(AlreadyExistsError):
        WRITES[write](faulty(inner, Kind.DUPLICATED))
    assert inner.read("b") == b"bbbb"


@pytest.mark.parametrize("write", WRITES)
def test_a_late_write_arrives_after_later_calls_and_overwrites_nothing_but_a_hint(
    inner: ModelStore, write: str
) -> None:
    store = faulty(inner, Kind.DELAYED, later=2)
    with pytest.raises(StoreUnreachableError):
        WRITES[write](store)

    seen = [store.read_many(["b"]) for _ in range(3)]
    assert seen == [[None], [None], [b"bbbb"]]
    late = faulty(inner, Kind.DELAYED)
    inner.delete("b")
    with pytest.raises(StoreUnreachableError):
        WRITES[write](late)
    late.create("b", b"another")
    late.arrive()
    assert inner.read("b") == (b"bbbb" if write == "replace" else b"another")


def test_only_what_is_replaced_is_ever_read_as_it_was(inner: ModelStore) -> None:
    inner.create("log", b"record")
    store = FaultStore(inner, lambda _call: Fault(Kind.STALE))
    assert store.read("log") == b"record"
    with pytest.raises(FileNotFoundError):
        store.read(HINT)
    store.replace(HINT, b"new hint")
    assert store.read(HINT) == b"old hint"
    assert store.read_many(["log", HINT, "none"]) == [b"record", b"old hint", None]
    assert [is_replaceable(key) for key in ("models/m/checkpoints/1.json", "models/m/log/1.json")] == [True, False]


def test_a_short_read_has_half_of_the_bytes(inner: ModelStore) -> None:
    assert faulty(inner, Kind.SHORT).read("a") == b"aa"
    assert b"".join(faulty(inner, Kind.SHORT).chunks("a")) == b"aa"
    assert faulty(inner, Kind.SHORT).read_many(["a", HINT, "none"]) == [b"aaaa", b"old ", None]
    assert faulty(inner, Kind.SHORT, part=1).read_many(["a", HINT, "none"]) == [b"aa", b"old hint", None]


@pytest.mark.parametrize("kind", [Kind.ERROR_AFTER, Kind.CRASH_AFTER])
def test_a_stream_that_breaks_gives_some_bytes_first(inner: ModelStore, kind: Kind) -> None:
    stream = faulty(inner, kind).chunks("a")
    assert next(stream) == b"aa"
    with pytest.raises((StoreUnreachableError, Crashed)):
        next(stream)


def test_another_acts_while_a_call_is_slow(inner: ModelStore) -> None:
    store = FaultStore(inner, at(1, Fault(Kind.SLOW)), meanwhile=lambda: inner.create("b", b"theirs"))
    with pytest.raises(AlreadyExistsError):
        store.create("b", b"ours")
    assert inner.read("b") == b"theirs"


def test_calls_are_numbered_and_told_with_what_they_found(inner: ModelStore) -> None:
    store = FaultStore(inner)
    store.read_many(["a", "none"])
    store.create("b", b"")
    assert store.calls == [Call(1, "read_many", ("a", "none"), found=1), Call(2, "create", ("b",))]
    assert (store.writes_sent, store.injected) == (1, None)
    assert str(store.calls[1]) == "call 2, create b"
