"""Histories whose answer is known: which of them some order explains."""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from registry.testing.linearizability import UNKNOWN, Operation, explanation


def cell(value: int, operation: Operation) -> tuple[int, Hashable]:
    """Do an operation on one cell that holds a number, 0 at first."""
    if operation.name == "write":
        return int(str(operation.arguments[0])), "ok"
    return value, value


def write(value: int, called: int, returned: int, result: str = "ok", after: int | None = None) -> Operation:
    return Operation(0, "write", (value,), called, returned, result, after)


def read(value: int, called: int, returned: int) -> Operation:
    return Operation(1, "read", (), called, returned, value)


EXPLAINED = {
    "one after the other": [write(1, 1, 2), read(1, 3, 4)],
    "at once, either way": [write(1, 1, 4), read(0, 2, 3)],
    "at once, the other way": [write(1, 1, 4), read(1, 2, 3)],
    "lost and done later": [write(1, 1, 2, UNKNOWN), read(0, 3, 4), read(1, 5, 6)],
    "lost and never done": [write(1, 1, 2, UNKNOWN), read(0, 3, 4)],
    "nothing at all": [],
    "in the order that is asked for": [write(1, 1, 9), write(2, 1, 9, after=0), read(2, 10, 11)],
}
NOT_EXPLAINED = {
    "an old value": [write(1, 1, 2), read(0, 3, 4)],
    "a value of nobody": [write(1, 1, 4), read(2, 2, 3)],
    "new, then old": [write(1, 1, 9), read(1, 2, 3), read(0, 4, 5)],
    "undone after it was lost": [write(1, 1, 2, UNKNOWN), read(1, 3, 4), read(0, 5, 6)],
    "against the order that is asked for": [write(1, 1, 9), write(2, 1, 9, after=0), read(1, 10, 11)],
    "done twice": [write(1, 1, 2), write(2, 3, 4), read(1, 5, 6), read(2, 7, 8)],
}


@pytest.mark.parametrize("history", EXPLAINED.values(), ids=EXPLAINED)
def test_these_are_explained(history: list[Operation]) -> None:
    order = explanation(history, 0, cell)
    assert order is not None
    value = 0
    for operation in order:
        value, answer = cell(value, operation)
        assert operation.is_pending or answer == operation.result


@pytest.mark.parametrize("history", NOT_EXPLAINED.values(), ids=NOT_EXPLAINED)
def test_these_are_not(history: list[Operation]) -> None:
    assert explanation(history, 0, cell) is None
