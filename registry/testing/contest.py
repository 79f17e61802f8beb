"""Four clients on one store, in an order that a seed decides, with lost answers; held against a plain table.

The history of calls and answers must be linearizable. Registering is two operations, taking a label and showing the
version, each of which happens at once; everything else is one. A call whose answer was lost is repeated with its
idempotency key where it has one, and counts as one call; where it has none it may have happened or not.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from registry import ModelRegistry
from registry.errors import ModelwayError, StoreError, UnknownOutcomeError
from registry.store import InMemoryModelStore, ModelStore
from registry.testing.faults import Crashed, FaultStore
from registry.testing.invariants import problems
from registry.testing.linearizability import UNKNOWN, Operation, explanation
from registry.testing.plain import KEYED, TAKEN, UNASKED, PlainModel, Wish, ask
from registry.testing.plans import Call, Fault, Kind, Plan, applies, never
from registry.testing.scheduler import ScheduledStore, Turns
from registry.testing.sweep import Dress, content_of, filled, hurried
from registry.testing.verbs import MODEL

CLIENTS = 4
CALLS_EACH = 3
TRIES = 3

_LABELS = ("v1", "v2", "v3", "v4", "v5")
_LOOKING = frozenset({"production", "resolve", "versions"})
_LOSSES = (Kind.ERROR_BEFORE, Kind.ERROR_AFTER, Kind.DUPLICATED, Kind.DELAYED, Kind.STALE)


@dataclass
class Contest:
    """What came of one seed: the history, whether some order explains it, and what is wrong with the bytes left."""

    seed: int
    history: list[Operation] = field(default_factory=list)
    is_explained: bool = True
    problems: list[str] = field(default_factory=list)

    @property
    def complaints(self) -> list[str]:
        """What is wrong, in words."""
        if self.is_explained:
            return self.problems
        lines = (f"  {operation}" for operation in sorted(self.history, key=lambda one: one.called))
        return [*self.problems, "no order of these calls explains their answers:\n" + "\n".join(lines)]


def play(
    seed: int,
    dress: Dress = lambda store: store,
    *,
    new_store: Callable[[], ModelStore] = InMemoryModelStore,
) -> Contest:
    """Return what four clients made of it; the same for the same seed.

    Args:
        seed: Chooses what is asked for, who goes on when, and, if it is odd, which answers are lost.
        dress: Puts something between a client and its connection, such as a planted bug.
        new_store: Makes an empty store, which all of them share; one of them at a time calls it.
    """
    contest, chance = Contest(seed), random.Random(seed)  # noqa: S311 - found again by its number
    shared, clock = filled(new_store(), _world()), itertools.count(1)
    turns = Turns(random.Random(seed + 1))  # noqa: S311 - as above
    lines = [FaultStore(ScheduledStore(shared, turns), _losing(chance) if seed % 2 else never) for _ in range(CLIENTS)]
    programs = [
        _Client(number, ModelRegistry(store=dress(line)), (contest.history, clock), _wishes(chance))
        for number, line in enumerate(lines)
    ]
    with hurried():
        turns.run(programs)
        for line in lines:
            line.arrive()
    _Client(CLIENTS, ModelRegistry(store=shared), (contest.history, clock), [Wish("versions")])()
    contest.problems = problems(shared)
    contest.is_explained = explanation(contest.history, _table(), _apply) is not None
    return contest


class _Client:
    """A program: some wishes, one after the other, on a registry of its own."""

    def __init__(
        self,
        number: int,
        registry: ModelRegistry,
        notes: tuple[list[Operation], Iterator[int]],
        wishes: list[Wish],
    ) -> None:
        self._number, self._registry, self._wishes = number, registry, wishes
        self._history, self._clock = notes

    def __call__(self) -> None:
        for count, wish in enumerate(self._wishes):
            called = next(self._clock)
            answer = UNKNOWN
            try:
                answer = self._answer(wish, f"{self._number}-{count}")
            except Crashed:
                return
            finally:
                self._write_down(wish, called, answer)

    def _answer(self, wish: Wish, key: str) -> Any:
        for _ in range(TRIES if wish.name in KEYED else 1):
            try:
                return ask(self._registry, wish, key)
            except (StoreError, UnknownOutcomeError):
                continue
            except ModelwayError as refusal:
                return type(refusal).__name__
        return UNKNOWN

    def _write_down(self, wish: Wish, called: int, answer: Hashable) -> None:
        returned = next(self._clock)
        if wish.name == "register":
            token = (self._number, called)
            taken = Operation(self._number, "take", (token, *wish.arguments), called, returned, answer)
            self._history.append(taken)
            if answer != TAKEN:
                after = self._history.index(taken)
                self._history.append(Operation(self._number, "show", (token,), called, returned, answer, after))
        elif answer != UNKNOWN or wish.name not in _LOOKING:
            self._history.append(Operation(self._number, wish.name, wish.arguments, called, returned, answer))


def _wishes(chance: random.Random) -> list[Wish]:
    return [_wish(chance) for _ in range(CALLS_EACH)]


def _wish(chance: random.Random) -> Wish:
    label, expect = chance.choice(_LABELS), chance.choice((UNASKED, UNASKED, None, *_LABELS))
    alias = chance.choice(("champion", "canary"))
    return chance.choice(
        (
            Wish("register", (None,)),
            Wish("register", (chance.choice(("v4", "v5", "v6")),)),
            Wish("promote", (label, expect)),
            Wish("promote", (label, UNASKED)),
            Wish("rollback"),
            Wish("archive", (label,)),
            Wish("restore", (label,)),
            Wish("set_alias", (alias, label, expect)),
            Wish("resolve", (alias,)),
            Wish("production"),
            Wish("versions"),
        )
    )


def _losing(chance: random.Random) -> Plan:
    own = random.Random(chance.random())  # noqa: S311 - as all of a contest

    def plan(call: Call) -> Fault | None:
        if own.random() < 0.01:  # noqa: PLR2004 - about one client in six dies
            return Fault(own.choice((Kind.CRASH_BEFORE, Kind.CRASH_AFTER)))
        if own.random() < 0.08:  # noqa: PLR2004 - about every second verb meets one
            fault = Fault(own.choice(_LOSSES), later=own.randint(1, 8))
            return fault if applies(fault.kind, call) else None
        return None

    return plan


@functools.cache
def _world() -> dict[str, bytes]:
    """Return three versions: the second in production, the first has held it and is called champion."""
    store: ModelStore = InMemoryModelStore()
    registry = ModelRegistry(store=store, actor="ada@example.com")
    for data in (b"one", b"two", b"three"):
        registry.register(MODEL, data)
    registry.promote(MODEL, 1, "production")
    registry.promote(MODEL, 2, "production")
    registry.set_alias(MODEL, "champion", 1)
    return content_of(store)


@dataclass(frozen=True)
class _Table:
    """The plain model, and which label was given for which registration, whose caller may never have heard it."""

    model: PlainModel
    given: frozenset[tuple[Hashable, str]] = frozenset()


@functools.cache
def _table() -> _Table:
    model = PlainModel()
    for label in ("v1", "v2", "v3"):
        model, _ = model.do("register", label)
    for label in ("v1", "v2"):
        model, _ = model.do("promote", label, UNASKED)
    return _Table(model.do("set_alias", "champion", "v1", UNASKED)[0])


def _apply(table: _Table, operation: Operation) -> tuple[_Table, Hashable]:
    if operation.name == "take":
        token, label = operation.arguments
        model, answer = table.model.do("take", label)
        given = table.given if answer == TAKEN else table.given | {(token, str(answer))}
        return _Table(model, given), answer
    if operation.name == "show":
        label = dict(table.given).get(operation.arguments[0])
        if label is None:
            return table, TAKEN
        model, answer = table.model.do("show", label)
        return _Table(model, table.given), answer
    model, answer = table.model.do(operation.name, *operation.arguments)
    return _Table(model, table.given), answer
