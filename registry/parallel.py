"""Doing one thing to many items at once, in threads, with one progress and one error for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from registry.progress import Advance

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def each(
    work: Callable[[_Item, Advance], _Result], items: Sequence[_Item], advance: Advance, *, at_once: int
) -> list[_Result]:
    """Do ``work`` on every item and return what it gave, in order.

    The first error keeps what has not begun from beginning, stops what is on its way when it next says how far it is,
    and is the one raised, when all have stopped.

    Args:
        work: Takes an item, and what to call with the amount just done.
        items: What to do it on.
        advance: Is told of every amount, from the threads.
        at_once: The most threads; with 1 the work is done in the caller's own.
    """
    if min(at_once, len(items)) <= 1:
        return [work(item, advance) for item in items]
    from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait

    failed: list[BaseException] = []

    def advance_unless_failed(amount: int) -> None:
        if failed:
            raise CancelledError
        advance(amount)

    def run(item: _Item) -> _Result:
        try:
            advance_unless_failed(0)
            return work(item, advance_unless_failed)
        except BaseException as error:
            failed.append(error)
            raise

    with ThreadPoolExecutor(min(at_once, len(items)), thread_name_prefix="modelway-transfer") as threads:
        running = [threads.submit(run, item) for item in items]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        except BaseException as interrupt:
            failed.append(interrupt)
            raise
    if failed:
        raise failed[0]
    return [one.result() for one in running]
