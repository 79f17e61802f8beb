"""What a run shows to others while it works: worth trying, and never worth failing for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.telling import tell


@contextmanager
def best_effort(step: str, what: str) -> Iterator[None]:
    """Go on after any error in the context, and tell it in the run's log: ``what``, and the error."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a run fails for its own work, never for telling of it
        tell(step, f"{what}: {type(error).__name__}: {error}")
