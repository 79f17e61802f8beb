"""The steps around a run: begin it or take over a dead one, and record its end; safe to run again."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from prefect.runtime import deployment, flow_run

from registry import ModelRegistry, clock
from registry.errors import StaleExpectationError
from registry.records import Run, RunEnding
from registry.versions import VersionRef
from tasks.liveness import Fate, fate_of, this_process
from tasks.outcome import Outcome
from tasks.prefect_events import emit
from tasks.prefect_task import registry_step
from tasks.publishing import publish_version
from tasks.telling import tell

TAKEN_UP_WITHIN = timedelta(hours=24)
"""What a dead run left is finished if it began no longer ago than this, and abandoned otherwise: data grow old."""

CARRIED_AT_MOST = 5
"""Flow runs that may die with one run; more, and it is the run that kills them."""


@registry_step
def begin(  # noqa: PLR0913 - what a run is made of
    url: str,
    model: str,
    *,
    kind: str,
    parameters: Mapping[str, Any],
    version: VersionRef | None = None,
    reason: str = "",
    afresh: bool = False,
) -> Run:
    """Return the run that this flow run carries: its own, or one that a dead flow run of the same kind left.

    Args:
        url: The registry.
        model: The model.
        kind: The flow's name.
        parameters: What it was called with; only a run that was called with the same is taken over.
        version: The version that it is about, where that is given.
        reason: Why it was started.
        afresh: Leave what was left, and say so in the log.
    """
    registry, me = ModelRegistry(url), str(flow_run.get_id())
    runs = registry.get_runs(model)
    place: dict[str, Any] = {
        "kind": kind,
        "process": this_process(),
        "deployment": _deployment(),
        "parameters": parameters,
    }
    mine = next((run for run in reversed(runs) if run.holder == me), None)
    if mine is not None:
        return registry.begin_run(model, mine.id, holder=me, version=mine.version, reason=mine.reason, **place)
    for left in [run for run in runs if run.ending is None]:
        fate = fate_of(left)
        mine_to_mend = left.kind == kind and left.parameters == dict(parameters)
        given_up = hopeless(left, fate)
        if fate == "dead" and given_up is None and mine_to_mend and afresh:
            given_up = "abandoned", "its process died, and another was begun afresh"
        if given_up is not None:
            give_up(registry, model, left, *given_up)
        elif fate == "dead" and mine_to_mend:
            with contextlib.suppress(StaleExpectationError):  # another was faster
                taken = registry.begin_run(
                    model, left.id, holder=me, taken_from=left.holder, version=left.version, reason=left.reason, **place
                )
                tell("begin", f"taking up what run {left.id} left, begun {clock.minute(left.started_at)}")
                return taken
    return registry.begin_run(model, me, version=version, reason=reason, **place)


def hopeless(left: Run, fate: Fate) -> tuple[RunEnding, str] | None:
    """Return how and why a run that nobody carries any more is to be ended; None when it may still be finished."""
    if fate == "cancelled":
        return "cancelled", "its flow run was cancelled in Prefect"
    if fate == "dead" and left.carriers >= CARRIED_AT_MOST:
        return "abandoned", f"{left.carriers} flow runs died with it"
    if fate == "dead" and clock.now() - left.started_at >= TAKEN_UP_WITHIN:
        hours = TAKEN_UP_WITHIN.total_seconds() / 3600
        return "abandoned", f"its process died, and nobody took it up within {hours:g} hours"
    return None


def give_up(registry: ModelRegistry, model: str, left: Run, ending: RunEnding, words: str) -> None:
    """Record the end of a run that nobody carries, unless somebody does meanwhile; its version stays where it is."""
    with contextlib.suppress(StaleExpectationError):
        registry.end_run(model, left.id, ending, holder=left.holder, version=left.version, words=words)
        tell("begin", f"run {left.id} is {ending}: {words}")


@registry_step
def end(run: Run, outcome: Outcome) -> None:
    """Record how a run ended, and show the version's card; one that another flow run has taken over is left to it."""
    end_run(run, outcome)
    registry = ModelRegistry(outcome.url)
    labels = {"version": outcome.version or "", "registry": registry.url}
    payload = {"run": run.id, "ending": outcome.ending, "words": outcome.words}
    emit("run.ended", outcome.model, labels=labels, key=run.id, payload=payload)
    if outcome.version is not None:
        publish_version(registry, registry.get_version(outcome.model, outcome.version))


def end_run(run: Run, outcome: Outcome) -> None:
    """Record how a run ended, outside any task: also while the flow run itself is being ended."""
    try:
        ModelRegistry(outcome.url).end_run(
            outcome.model, run.id, outcome.ending, holder=run.holder, version=outcome.version, words=outcome.words
        )
    except StaleExpectationError as error:
        tell("end", str(error))


def _deployment() -> str | None:
    return None if deployment.id is None else f"{flow_run.get_flow_name()}/{deployment.name}"
