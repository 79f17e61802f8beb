"""One fault at every call of every verb, and storms of several; judged after each try.

What is asked after each fault:
- The bytes keep every invariant, whoever reads them.
- An answer that came is true: the value of an undisturbed run, and its effect is there.
- An error that came is true: nobody else was there, so none is blamed, nothing is "not found", and an outcome is only
  called unknown after a write was sent. Faults that a registry must absorb bring no error.
- The same call again ends as an undisturbed run does: the same value, the same events, once each.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any
from unittest import mock

from registry import ModelRegistry
from registry.errors import FormatError, IntegrityError, ModelwayError, NotFoundError, StoreError, UnknownOutcomeError
from registry.store import InMemoryModelStore, ModelStore
from registry.testing.faults import Crashed, FaultStore
from registry.testing.invariants import outcome, problems
from registry.testing.plans import CRASHES, Call, Fault, Kind, Plan, at, faults_of, never
from registry.testing.verbs import ACTOR, MODEL, Verb, plain

Dress = Callable[[ModelStore], ModelStore]
"""Puts something between the faults and the registry: a planted bug, a cache, a client of another kind."""

TRIES_IN_A_STORM = 3

_ABSORBED = frozenset({Kind.STALE, Kind.SLOW, Kind.DUPLICATED})


class Start(StrEnum):
    """What the registry knows when it is asked."""

    COLD = "cold"  # nothing
    WARM = "warm"  # everything
    BEHIND = "behind"  # everything but what another client has written since


@dataclass(frozen=True)
class Ground:
    """Where a sweep takes place: ``new_store`` makes an empty store that conforms to the contract."""

    new_store: Callable[[], ModelStore] = InMemoryModelStore
    dress: Dress = lambda store: store


@dataclass
class Swept:
    """What a sweep of one verb found; ``violations`` are sentences, each of which begins with its case."""

    verb: str
    calls: int = 0
    cases: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Attempt:
    """How a call on the registry ended: with a value, an error, or the death of its process."""

    value: Any = None
    error: BaseException | None = None

    @classmethod
    def at(cls, verb: Verb, registry: ModelRegistry, scratch: Path) -> Attempt:
        """Make the call."""
        try:
            return cls(plain(verb.do(registry, scratch)))
        except (Exception, Crashed) as error:  # noqa: BLE001 - whatever it is, it is judged
            return cls(error=error)

    def __str__(self) -> str:
        """Return it as a person would say it."""
        return f"{type(self.error).__name__}: {self.error}" if self.error else f"the value {self.value}"


@dataclass(frozen=True)
class Right:
    """What is right: the values that may come back, and what stands there then, beside another's event or alone."""

    calls: tuple[Call, ...]
    values: tuple[Any, ...]
    alone: dict[str, list[str]]
    beside_another: dict[str, list[str]]


def sweep(verb: Verb, ground: Ground | None = None, *, storms: int = 0) -> Swept:
    """Return what came of disturbing ``verb``.

    Args:
        verb: What to do.
        ground: Where; in memory by default.
        storms: How many tries with faults at several calls, chosen by chance from their own number, come on top.
    """
    swept = Swept(verb.name)
    with hurried(), tempfile.TemporaryDirectory(prefix="modelway-") as scratch:
        scene = _Scene(verb, ground or Ground(), Path(scratch))
        for start in Start:
            swept.calls += len(scene.undisturbed(start).calls)
            for call, fault in scene.cases(start):
                case = f"{verb.name} ({start}), {fault.kind} at {call}"
                swept.cases += 1
                swept.violations += [f"{case}: {what}" for what in scene.one(start, call, fault)]
        for number in range(storms):
            swept.cases += 1
            swept.violations += [f"{verb.name}, storm {number}: {what}" for what in scene.storm(number)]
    return swept


@contextmanager
def hurried() -> Iterator[None]:
    """Let nobody sleep between tries: what they wait for happens at once here."""
    with mock.patch.object(time, "sleep"):
        yield


def filled(store: ModelStore, content: dict[str, bytes]) -> ModelStore:
    """Return ``store`` with these keys in it."""
    for key, data in content.items():
        store.create(key, data)
    return store


def content_of(store: ModelStore) -> dict[str, bytes]:
    """Return all bytes of a store by key."""
    keys = store.list("")
    return {key: data for key, data in zip(keys, store.read_many(keys), strict=True) if data is not None}


def world_of(verb: Verb) -> dict[str, bytes]:
    """Return the bytes of the world that a verb finds."""
    store = InMemoryModelStore()
    verb.prepare(ModelRegistry(store=store, actor=ACTOR))
    return content_of(store)


class _Scene:
    """A verb and its world, made anew for each case."""

    def __init__(self, verb: Verb, ground: Ground, scratch: Path) -> None:
        self.verb, self.ground, self._scratch = verb, ground, scratch
        self.world = world_of(verb)
        self._right: dict[Start, Right] = {}

    def undisturbed(self, start: Start) -> Right:
        if start not in self._right:
            trial = _Trial(self, start)
            attempt = trial.attempt()
            if attempt.error is not None:
                raise attempt.error
            alone = outcome(trial.store)
            other = filled(self.ground.new_store(), self.world)
            self.act_as_another(other)
            beside = Attempt.at(self.verb, ModelRegistry(store=other, actor=ACTOR), self.folder())
            values = (attempt.value, beside.value)
            self._right[start] = Right(tuple(trial.faulty.calls), values, alone, outcome(other))
        return self._right[start]

    def cases(self, start: Start) -> Iterator[tuple[Call, Fault]]:
        for call in self.undisturbed(start).calls:
            yield from ((call, fault) for fault in faults_of(call))

    def one(self, start: Start, call: Call, fault: Fault) -> Iterator[str]:
        trial = _Trial(self, start)
        yield from trial.disturbed(at(call.number, fault))
        if start is Start.COLD:  # the others go on with what they believe by now
            trial.reopen()
        yield from trial.finish()

    def storm(self, number: int) -> Iterator[str]:
        chance = random.Random(f"{self.verb.name} {number}")  # noqa: S311 - a storm is found again by its number
        trial = _Trial(self, Start.BEHIND)
        for _ in range(TRIES_IN_A_STORM):
            yield from trial.disturbed(self._somewhere(chance))
            if chance.random() < 0.3:  # noqa: PLR2004 - often enough, and not always
                trial.reopen()
        yield from trial.finish()

    def _somewhere(self, chance: random.Random) -> Plan:
        """Return one fault of any kind at one call, which may be one that is never made."""
        number = chance.randint(1, len(self.undisturbed(Start.COLD).calls) + 1)

        def plan(call: Call) -> Fault | None:
            if call.number != number:
                return None
            return chance.choice(list(faults_of(replace(call, found=1))))

        return plan

    def act_as_another(self, store: ModelStore) -> None:
        """Take the next number of the log that the verb writes to, and change nothing of its effect."""
        if f"models/{MODEL}/log/000000000002.json" in self.world:
            other = ModelRegistry(store=store, actor="eve@example.com")
            first = other.list_versions(MODEL)[0].version
            other.annotate(MODEL, first, tags={"seen": "yes"}, idempotency_key="another")

    def folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._scratch)) if self.verb.uses_folder else self._scratch


class _Trial:
    """A store with faults, the registry on it, and what is asked of both after each try."""

    def __init__(self, scene: _Scene, start: Start) -> None:
        self._scene, self._start = scene, start
        self.store = filled(scene.ground.new_store(), scene.world)
        self._folder = scene.folder()
        self._past: list[FaultStore] = []
        self._met: set[Kind] = set()
        self.faulty = self._new_process()
        if start is not Start.COLD:
            for name in self.registry.list_models():
                self.registry.list_versions(name)
        if start is Start.BEHIND:
            scene.act_as_another(self.store)
        self._before = content_of(self.store)

    def attempt(self, plan: Plan = never) -> Attempt:
        self.faulty.arm(plan)
        return Attempt.at(self._scene.verb, self.registry, self._folder)

    def disturbed(self, plan: Plan) -> Iterator[str]:
        attempt = self.attempt(plan)
        if self.faulty.injected is not None:
            self._met.add(self.faulty.injected.kind)
        yield from self._judged(attempt)
        if attempt.error is None:
            yield from self._effect(attempt)
        yield from problems(self.store, torn=Kind.TORN in self._met)
        for store in self._past:
            store.arrive()
        if isinstance(attempt.error, Crashed):
            self._past.append(self.faulty)
            self.faulty = self._new_process()

    def finish(self) -> Iterator[str]:
        attempt = self.attempt()
        for store in (*self._past, self.faulty):
            store.arrive()
        yield from self._judged(attempt)
        yield from self._effect(attempt)
        yield from problems(self.store, torn=Kind.TORN in self._met)
        if self._scene.verb.reads and Kind.SLOW not in self._met and content_of(self.store) != self._before:
            yield "a verb that only reads has written"

    def reopen(self) -> None:
        self.registry = ModelRegistry(store=self._scene.ground.dress(self.faulty), actor=ACTOR)

    def _new_process(self) -> FaultStore:
        self.faulty = FaultStore(self.store, meanwhile=lambda: self._scene.act_as_another(self.store))
        self.reopen()
        return self.faulty

    def _judged(self, attempt: Attempt) -> Iterator[str]:
        """Yield what is untrue in how a try ended."""
        error, fault = attempt.error, self.faulty.injected
        kind = None if fault is None else fault.kind
        if kind in CRASHES:
            if not isinstance(error, Crashed):
                yield f"the process died, and went on to {attempt}"
        elif error is None or isinstance(error, self._scene.verb.already):
            return
        elif kind is None or kind in _ABSORBED:
            yield f"{kind or 'no fault'} ended with {attempt}"
        elif isinstance(error, UnknownOutcomeError):
            if not self.faulty.writes_sent:
                yield f"no write was sent, and the outcome is called unknown: {attempt}"
        elif isinstance(error, IntegrityError | FormatError):
            if kind is not Kind.SHORT:
                yield f"all bytes were as recorded, and it ended with {attempt}"
        elif not isinstance(error, StoreError):
            what = "not found" if isinstance(error, NotFoundError) else "another's doing"
            known = what if isinstance(error, ModelwayError) else "an error of no kind that callers know"
            yield f"a failure of the storage became {known}: {attempt}"

    def _effect(self, attempt: Attempt) -> Iterator[str]:
        """Yield what is not as after an undisturbed run."""
        right = self._scene.undisturbed(self._start)
        if attempt.error is None and attempt.value not in right.values:
            yield f"gave {attempt.value}, and an undisturbed run gives {right.values[0]}"
        another = self._start is Start.BEHIND or Kind.SLOW in self._met
        stands, wanted = outcome(self.store), right.beside_another if another else right.alone
        for place in sorted({*stands, *wanted}):
            there, due = stands.get(place, []), wanted.get(place, [])
            if there != due:
                much, less = [line for line in there if line not in due], [line for line in due if line not in there]
                yield f"{place} has {len(there)} instead of {len(due)} entries; too much {much}, missing {less}"
