"""Progress of long work: the work says how far it is, whoever shows it listens; silent when nobody does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

Advance = Callable[[int], None]
"""Called with how many more units are done."""


class Listener(Protocol):
    """Whoever shows progress."""

    def begin(self, title: str, total: int, unit: str) -> tuple[Advance, Callable[[], None]]:
        """Show a new piece of work of ``total`` units; return how to advance it and how to end it."""


_listeners: list[Listener] = []


@contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Show all progress of this process to ``listener``, beside those that listen already, while the context lasts."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def track(title: str, total: int, unit: str) -> Iterator[Advance]:
    """Give a function to call with the number of ``unit`` done since the last call; a unit is ``bytes`` or a plural.

    It may be called from any thread; a listener hears one call at a time.
    """
    if not _listeners:
        yield lambda _amount: None
        return
    with ExitStack() as ends:
        advances = []
        for listener in tuple(_listeners):
            advance, end = listener.begin(title, total, unit)
            ends.callback(end)
            advances.append(advance)
        one_at_a_time = threading.Lock()

        def advance_all(amount: int) -> None:
            with one_at_a_time:
                for advance in advances:
                    advance(amount)

        yield advance_all
