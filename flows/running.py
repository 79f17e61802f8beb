"""A run from its beginning to its recorded end, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from prefect.exceptions import PrefectException

from registry.errors import StoreUnreachableError
from registry.records import Run
from tasks import run_steps
from tasks.outcome import Outcome

MAY_PASS = (StoreUnreachableError, PrefectException, httpx.HTTPError)
"""What is nobody's fault and may be over in a minute: the run stays open, and the next flow run takes it up."""


def carried(run: Run, *, url: str, model: str, way: Callable[[], Outcome]) -> Outcome:
    """Go the way, and record how the run ended; one that has ended already is not gone again.

    Args:
        run: The run, begun.
        url: The registry.
        model: The model.
        way: What the flow does; repeats nothing that the registry's log has.

    Raises:
        ModelwayError: A step failed; recorded as the run's end, unless it may pass.
    """
    if run.ending is not None:
        return Outcome(ending=run.ending, model=model, version=run.version, url=url, words=run.words)
    try:
        outcome = way()
    except MAY_PASS:
        raise
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        run_steps.end_run(run, Outcome(ending="failed", model=model, version=run.version, url=url, words=words))
        raise
    except KeyboardInterrupt:
        words = "interrupted at the terminal"
        run_steps.end_run(run, Outcome(ending="cancelled", model=model, version=run.version, url=url, words=words))
        raise
    run_steps.end(run, outcome)
    return outcome
