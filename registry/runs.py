"""Runs: which attempts to bring a model on its way have begun, who carries them, how they ended; pure."""

from __future__ import annotations

from registry.errors import NotFoundError, StaleExpectationError
from registry.events import RunEnded, RunStarted
from registry.state import ModelState


def plan_start(state: ModelState, wanted: RunStarted, *, taken_from: str | None) -> RunStarted | None:
    """Return the event that begins a run, or gives it another holder or process; None when it stands so already.

    Args:
        state: The model's state.
        wanted: What is to be recorded.
        taken_from: Who held it until now, when it is taken over; None for a new run.

    Raises:
        StaleExpectationError: Somebody else has taken it meanwhile, or it has ended.
    """
    found = state.runs.get(wanted.run)
    if found is not None:
        if found.holder == wanted.holder:
            return None if found.process == wanted.process or found.ending is not None else wanted
        if found.ending is not None or found.holder != taken_from:
            stands = found.ending or f"held by {found.holder}"
            raise StaleExpectationError(
                f"run {wanted.run} was to be taken over from {taken_from or 'nobody'}, and is {stands} now."
            )
    return wanted


def plan_end(state: ModelState, wanted: RunEnded, *, holder: str | None) -> RunEnded | None:
    """Return the event that ends a run, None when it has ended already.

    Args:
        state: The model's state.
        wanted: What is to be recorded.
        holder: Who ends it must hold it; None where anybody may.

    Raises:
        NotFoundError: No such run among those that are remembered.
        StaleExpectationError: Another flow run has taken it over.
    """
    found = state.runs.get(wanted.run)
    if found is None:
        still_open = [id_ for id_, run in state.runs.items() if run.ending is None]
        raise NotFoundError(f"no run {wanted.run!r}. Runs that are open: {', '.join(still_open) or 'none'}.")
    if found.ending is not None:
        return None
    if holder is not None and found.holder != holder:
        raise StaleExpectationError(
            f"run {wanted.run} is held by {found.holder} now, and not by {holder}: leave its end to it."
        )
    return wanted
