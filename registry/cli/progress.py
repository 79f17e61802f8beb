"""Progress of long work as bars on standard error, for people only: where it is no terminal nothing is shown."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from registry.progress import Advance, listen

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

QUICK_S = 0.25
"""Bytes that have all passed by then are not worth a bar: it would only flicker."""


class RichProgress:
    """A listener for ``registry.progress``, listening for as long as its context lasts; safe to use from any thread."""

    def __init__(self, console: Console | None = None) -> None:
        """Take a console; standard error by default."""
        self._console = console
        self._bars: Progress | None = None
        self._running = 0
        self._lock = threading.RLock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if sys.stderr.isatty() if self._console is None else self._console.is_terminal:
            self._stack.enter_context(listen(self))
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()
        with self._lock:
            if self._bars is not None:
                self._bars.stop()

    def begin(self, title: str, total: int, unit: str) -> tuple[Advance, Callable[[], None]]:
        """Show a bar for ``total`` units; one of bytes only after a moment, and none for work without a title.

        Args:
            title: What is being done.
            total: How many units there are in all.
            unit: ``bytes``, or a plural noun.

        Returns:
            How to say that more units are done, and that the work has ended.
        """
        if not title:
            return lambda _amount: None, lambda: None
        bar = _Bar(self, title, total, unit)
        if unit != "bytes":
            bar.show()
        return bar.advance, bar.end

    def add(self, title: str, total: int, unit: str, *, done: int) -> TaskID:
        """Put a bar on the screen, ``done`` units along."""
        with self._lock:
            if self._bars is None:
                self._bars = _bars(self._console)
            self._bars.start()
            self._running += 1
            return self._bars.add_task(title, total=total, completed=done, of_bytes=unit == "bytes", unit=unit)

    def advance(self, bar: TaskID, amount: int) -> None:
        """Move a bar on."""
        if self._bars is not None:
            self._bars.advance(bar, amount)

    def remove(self, bar: TaskID) -> None:
        """Take a bar off the screen; with the last one the screen is given back."""
        with self._lock:
            if self._bars is None:
                return
            self._bars.refresh()  # what came since the last tenth of a second
            self._bars.remove_task(bar)
            self._running -= 1
            if self._running == 0:
                self._bars.stop()
                self._bars = None


class _Bar:
    """One piece of work; ``done`` counts from the start, also while nothing is shown yet."""

    def __init__(self, shown_by: RichProgress, title: str, total: int, unit: str) -> None:
        self._shown_by, self._title, self._total, self._unit = shown_by, title, total, unit
        self._since, self._done = time.monotonic(), 0
        self._task: TaskID | None = None
        self._lock = threading.Lock()

    def show(self) -> None:
        self._task = self._shown_by.add(self._title, self._total, self._unit, done=self._done)

    def advance(self, amount: int) -> None:
        with self._lock:  # several files of one artifact may be on their way at once
            self._done += amount
            if self._task is not None:
                self._shown_by.advance(self._task, amount)
            elif time.monotonic() - self._since > QUICK_S:
                self.show()

    def end(self) -> None:
        if self._task is not None:
            self._shown_by.remove(self._task)


def _bars(console: Console | None) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Amount(ProgressColumn):
        """How much of how much: sizes for bytes, counts for anything else."""

        def render(self, task: Task) -> Text:
            from rich.filesize import decimal

            done, total = int(task.completed), int(task.total or 0)
            if task.fields["of_bytes"]:
                speed = f" {decimal(int(task.speed))}/s" if task.speed else ""
                return Text(f"{decimal(done)} of {decimal(total)}{speed}", style="progress.download")
            return Text(f"{done} of {total} {task.fields['unit']}", style="progress.download")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        Amount(),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
        transient=True,
        # Standard output may be a file: rich would otherwise send what is printed meanwhile to the terminal instead.
        redirect_stdout=sys.stdout.isatty(),
    )
