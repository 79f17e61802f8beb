"""Whether a history of concurrent calls can be explained by some order in which they happened one at a time.

Source: Wing and Gong, "Testing and Verifying Concurrent Objects", J. Parallel Distrib. Comput. 17, 1993; with Lowe's
memory of the configurations that were seen ("Testing for linearizability", Concurrency Computat. 29, 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

State = TypeVar("State", bound=Hashable)

UNKNOWN = "unknown"
"""The result of a call whose answer was lost: it may have happened at any time since, or never."""


@dataclass(frozen=True)
class Operation:
    """A call and its answer; ``called`` and ``returned`` are places in one order of all calls and returns.

    ``after`` is the place in the history of the operation that must come first: one call may be two operations, such as
    taking a label and then showing it.
    """

    client: int
    name: str
    arguments: tuple[Hashable, ...]
    called: int
    returned: int
    result: Hashable
    after: int | None = None

    @property
    def is_pending(self) -> bool:
        """Whether nobody knows if it happened."""
        return self.result == UNKNOWN

    def __str__(self) -> str:
        """Return it as a line of a history."""
        arguments = ", ".join(map(str, self.arguments))
        return f"{self.called:4}-{self.returned:<4} client {self.client}: {self.name}({arguments}) -> {self.result}"


Apply = Callable[[State, Operation], tuple[State, Hashable]]
"""Does one operation on a state that is never changed, and gives the next state and the answer."""


def explanation(history: Sequence[Operation], initial: State, apply: Apply[State]) -> list[Operation] | None:
    """Return an order of ``history`` that explains it, None where there is none.

    Operations whose answer was lost may be missing from the order.
    """
    return _Search(history, apply).from_state(initial)


class _Search(Generic[State]):
    def __init__(self, history: Sequence[Operation], apply: Apply[State]) -> None:
        self._history, self._apply = history, apply
        self._certain = sum(1 << place for place, one in enumerate(history) if not one.is_pending)
        self._seen: set[tuple[int, Hashable]] = set()

    def from_state(self, state: State, done: int = 0) -> list[Operation] | None:
        if done & self._certain == self._certain:
            return []
        if (done, state) in self._seen:
            return None
        self._seen.add((done, state))
        for place in self._next(done):
            operation = self._history[place]
            after, result = self._apply(state, operation)
            if operation.is_pending or result == operation.result:
                rest = self.from_state(after, done | 1 << place)
                if rest is not None:
                    return [operation, *rest]
        return None

    def _next(self, done: int) -> list[int]:
        """Return what may come next: whatever was called before the first return of what has not happened yet."""
        left = [place for place in range(len(self._history)) if not done >> place & 1]
        first_return = min(self._history[place].returned for place in left if not self._history[place].is_pending)
        return [place for place in left if self._may_follow(self._history[place], done, first_return)]

    @staticmethod
    def _may_follow(operation: Operation, done: int, first_return: int) -> bool:
        return operation.called < first_return and (operation.after is None or bool(done >> operation.after & 1))
