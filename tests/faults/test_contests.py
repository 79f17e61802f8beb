"""Four clients in an order by seed: some order explains every answer, and a seed gives the same again."""

from __future__ import annotations

import functools
import random
import threading

import pytest

from registry.testing import scheduler
from registry.testing.contest import CLIENTS, play
from registry.testing.linearizability import Operation
from registry.testing.scheduler import Turns

SEEDS = 60


def turns_by(seed: int) -> Turns:
    return Turns(random.Random(seed))  # noqa: S311 - found again by its number


def test_every_answer_of_60_contests_is_explained() -> None:
    contests = [play(seed) for seed in range(SEEDS)]
    assert [complaint for contest in contests for complaint in contest.complaints] == []

    history = [operation for contest in contests for operation in contest.history]
    assert len(history) > SEEDS * CLIENTS * 2
    assert any(operation.is_pending for operation in history), "some answers must be lost"
    assert sum(_overlaps(contest.history) for contest in contests) > SEEDS / 2, "they must come in each other's way"


def _overlaps(history: list[Operation]) -> bool:
    return any(
        one.client != other.client and one.called < other.called < one.returned for one in history for other in history
    )


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_a_seed_gives_the_same_history_again_and_another_seed_another(seed: int) -> None:
    assert play(seed).history == play(seed).history
    assert play(seed).history != play(seed + 2).history


def test_one_client_runs_at_a_time_and_chance_decides_which() -> None:
    orders = set()
    for seed in range(20):
        turns, order, running = turns_by(seed), list[int](), list[int]()

        def program(me: int, turns: Turns = turns, order: list[int] = order, running: list[int] = running) -> None:
            for _ in range(5):
                running.append(me)
                assert running == [me], "two run at once"
                order.append(me)
                running.remove(me)
                turns.hand_on()

        turns.run([functools.partial(program, me) for me in range(3)])
        assert sorted(order) == [0] * 5 + [1] * 5 + [2] * 5
        orders.add(tuple(order))
    assert len(orders) > 15


def test_what_a_client_raises_is_raised_when_the_others_are_over() -> None:
    over = []

    def fails() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        turns_by(1).run([fails, lambda: over.append(1), lambda: over.append(2)])
    assert sorted(over) == [1, 2]


def test_clients_that_wait_for_each_other_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_STUCK_AFTER_S", 0.2)
    turns, lock = turns_by(3), threading.Event()

    with pytest.raises(TimeoutError, match="is a lock held over a call"):
        turns.run([lambda: lock.wait(5), lambda: lock.wait(5)])
    lock.set()
