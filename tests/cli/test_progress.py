"""What a terminal shows of progress."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from registry.cli import progress
from registry.cli.progress import RichProgress
from registry.progress import track


@pytest.fixture
def terminal() -> Console:
    """Return a terminal whose screen can be read."""
    return Console(file=io.StringIO(), force_terminal=True, width=100)


def screen(console: Console) -> str:
    """Return everything that was ever written to the screen."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_work_is_shown_with_its_amount(terminal: Console) -> None:
    with RichProgress(terminal), track("training digits", 5, "epochs") as advance:
        for _ in range(5):
            advance(1)
    assert "training digits" in screen(terminal)
    assert "5 of 5 epochs" in screen(terminal)


def test_bytes_that_pass_in_a_moment_are_not_worth_a_bar(terminal: Console) -> None:
    with RichProgress(terminal), track("uploading digits:v1", 1000, "bytes") as advance:
        advance(1000)
    assert screen(terminal) == ""


def test_bytes_that_take_longer_are_shown_from_where_they_are(
    terminal: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "QUICK_S", -1.0)
    with RichProgress(terminal), track("uploading digits:v1", 2_000_000, "bytes") as advance:
        advance(500_000)
        advance(1_000_000)
    assert "1.5 MB of 2.0 MB" in screen(terminal)


def test_work_without_a_title_is_silent_and_so_is_a_pipe(terminal: Console) -> None:
    with RichProgress(terminal), track("", 5, "epochs") as advance:
        advance(5)
    assert screen(terminal) == ""
    piped = Console(file=io.StringIO())
    with RichProgress(piped), track("training", 5, "epochs") as advance:
        advance(5)
    assert screen(piped) == ""


def test_several_threads_show_their_work_at_once_and_the_screen_is_given_back(terminal: Console) -> None:
    def work(number: int) -> None:
        with track(f"part-{number}", 50, "steps") as advance:
            for _ in range(50):
                advance(1)

    with RichProgress(terminal):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with track("afterwards", 1, "steps") as advance:
            advance(1)
    assert "afterwards" in screen(terminal)
    with track("nobody listens", 1, "steps") as advance:
        advance(1)
    assert "nobody listens" not in screen(terminal)
