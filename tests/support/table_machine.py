"""A registry and a plain table, asked the same in any order, with a fault in every other call of the registry."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from registry import InMemoryModelStore, ModelRegistry, ModelStore
from registry.errors import ModelwayError, StoreError, UnknownOutcomeError
from registry.testing.faults import Crashed, FaultStore
from registry.testing.invariants import problems
from registry.testing.plain import KEYED, UNASKED, PlainModel, Wish, ask
from registry.testing.plans import Call, Fault, Kind, Plan, applies, never
from registry.testing.sweep import hurried

KINDS = [kind for kind in Kind if kind not in {Kind.SHORT, Kind.SLOW}]


@dataclass(frozen=True)
class Trouble:
    """A fault at one of a verb's calls, if the verb makes so many and the call can go wrong so."""

    number: int
    fault: Fault

    def plan(self, call: Call) -> Fault | None:
        return self.fault if call.number == self.number and applies(self.fault.kind, call) else None


LABELS = st.sampled_from(["v1", "v2", "v3", "v4"])
EXPECTED = st.just(UNASKED) | st.none() | LABELS
ALIASES = st.sampled_from(["champion", "canary"])
TROUBLES = st.none() | st.builds(
    Trouble, st.integers(1, 12), st.builds(Fault, st.sampled_from(KINDS), later=st.integers(1, 6))
)


def wishes(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Wish]:
    return st.builds(Wish, st.just(name), st.tuples(*arguments))


WISHES = st.one_of(
    wishes("register", st.none() | LABELS),
    wishes("promote", LABELS, EXPECTED),
    wishes("promote", LABELS, st.just(UNASKED)),
    wishes("rollback"),
    wishes("archive", LABELS),
    wishes("restore", LABELS),
    wishes("set_alias", ALIASES, LABELS, EXPECTED),
    wishes("resolve", ALIASES),
)


class RegistryBesideATable(RuleBasedStateMachine):
    """Two clients of one registry and one table; ``dress`` is where a bug can be planted."""

    def __init__(self) -> None:
        """Make an empty registry, two clients of it, and two versions, so that there is something to ask for."""
        super().__init__()
        self.store = InMemoryModelStore()
        self.table = PlainModel()
        self.count = 0
        self.torn = False
        self.lines = [FaultStore(self.store) for _ in range(2)]
        self.clients = [self._client(line) for line in self.lines]
        for client in (0, 1):
            self.asks(client, Wish("register", (None,)), None)

    def dress(self, store: ModelStore) -> ModelStore:
        return store

    @rule(client=st.integers(0, 1), wish=WISHES, trouble=TROUBLES)
    def asks(self, client: int, wish: Wish, trouble: Trouble | None) -> None:
        key, before = self._key(), self.table
        with hurried():
            answer = self._asked(client, wish, key, never if trouble is None else trouble.plan)
            again = answer if answer is not None else self._asked(client, wish, key, never)
        assert again is not None
        for line in self.lines:
            line.arrive()
        after, expected = before.do(wish.name, *wish.arguments)
        allowed = {expected}
        if answer is None and wish.name not in KEYED:  # it may have happened, and then this was asked for twice
            allowed.add(after.do(wish.name, *wish.arguments)[1])
        assert again[0] in allowed, f"{wish} gave {again[0]}, and the table gives {expected}"
        self.table = after

    @invariant()
    def looks_the_same_to_everybody(self) -> None:
        assert problems(self.store, torn=self.torn) == []
        for looking in (*self.clients, ModelRegistry(store=self.store)):
            for name in ("versions", "production"):
                assert ask(looking, Wish(name), "") == self.table.do(name)[1]

    def _asked(self, client: int, wish: Wish, key: str, plan: Plan) -> tuple[Hashable] | None:
        """Return the answer, None if it was lost; whoever dies is followed by another."""
        line = self.lines[client]
        line.arm(plan)
        try:
            return (ask(self.clients[client], wish, key),)
        except Crashed:
            self.torn = self.torn or (line.injected is not None and line.injected.kind is Kind.TORN)
            self.lines[client] = FaultStore(self.store)
            self.clients[client] = self._client(self.lines[client])
        except (StoreError, UnknownOutcomeError):
            if line.injected is None:
                raise
        except ModelwayError as refusal:
            return (type(refusal).__name__,)
        finally:
            line.arm(never)
        return None

    def _client(self, line: FaultStore) -> ModelRegistry:
        return ModelRegistry(store=self.dress(line), actor="ada@example.com")

    def _key(self) -> str:
        self.count += 1
        return f"call-{self.count}"
