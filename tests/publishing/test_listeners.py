"""Progress is heard by all who listen: a terminal and Prefect at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from registry.progress import Advance, listen, track


class Ear:
    """Keeps what it hears."""

    def __init__(self) -> None:
        """Have heard nothing."""
        self.heard: list[str] = []

    def begin(self, title: str, total: int, unit: str) -> tuple[Advance, Callable[[], None]]:
        """Listen to a new piece of work."""
        self.heard.append(f"{title}: {total} {unit}")
        return (lambda amount: self.heard.append(str(amount))), (lambda: self.heard.append("end"))


def test_all_who_listen_hear_the_beginning_every_advance_and_the_end() -> None:
    terminal, prefect = Ear(), Ear()

    with listen(terminal), listen(prefect), track("uploading", 7, "bytes") as advance:
        advance(3)
        advance(4)
    with listen(terminal), track("building", 1, "engines") as advance:
        advance(1)

    assert prefect.heard == ["uploading: 7 bytes", "3", "4", "end"]
    assert terminal.heard == [*prefect.heard, "building: 1 engines", "1", "end"]


def test_who_listens_hears_the_end_of_work_that_failed_and_who_comes_later_hears_nothing_of_it() -> None:
    early, late = Ear(), Ear()

    def work() -> None:
        with listen(early), track("uploading", 7, "bytes") as advance, listen(late):
            advance(1)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()

    assert early.heard == ["uploading: 7 bytes", "1", "end"]
    assert late.heard == []
