"""The verbs that keep account of runs: what was begun must be found, and finished or abandoned, by who comes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.events import RunEnded, RunStarted
from registry.reading import Reading
from registry.records import ModelVersion, Run, RunEnding
from registry.runs import plan_end, plan_start
from registry.versions import VersionRef, canonical


class Running(Reading):
    """The verbs that begin, take over and end runs, and find what one has done."""

    def begin_run(  # noqa: PLR0913 - what a run is made of
        self,
        name: str,
        run: str,
        *,
        kind: str,
        holder: str | None = None,
        taken_from: str | None = None,
        process: str = "",
        deployment: str | None = None,
        reason: str = "",
        version: VersionRef | None = None,
        parameters: Mapping[str, Any] | None = None,
        actor: str | None = None,
    ) -> Run:
        """Record that a run begins, goes on in another process, or is taken over from a flow run that is dead.

        The model need not exist yet. Calling it again changes nothing.

        Args:
            name: The model.
            run: The run's id: that of the flow run that begins it.
            kind: The flow's name.
            holder: The flow run that carries it; by default the one that begins it.
            taken_from: Who was found dead with it.
            process: Where it is carried, so that others can see whether that still lives.
            deployment: Which of Prefect's deployments started it.
            reason: Why it was begun.
            version: The version that it is about, where one is known.
            parameters: What the flow was called with; anything that JSON can hold.
            actor: Who is recorded.

        Raises:
            InvalidNameError: No name for a model.
            StaleExpectationError: Somebody else has taken it meanwhile, or it has ended.
        """
        wanted = RunStarted(
            run=run,
            kind=kind,
            holder=holder or run,
            process=process,
            deployment=deployment,
            reason=reason,
            version=None if version is None else canonical(version),
            parameters=dict(parameters or {}),
        )
        known = self._append(name, lambda known: plan_start(known.state, wanted, taken_from=taken_from), actor=actor)
        return known.state.runs[run]

    def end_run(  # noqa: PLR0913 - what an ending is made of
        self,
        name: str,
        run: str,
        ending: RunEnding,
        *,
        holder: str | None = None,
        version: VersionRef | None = None,
        words: str = "",
        actor: str | None = None,
    ) -> None:
        """Record how a run ended; one that has ended stays as it did.

        Args:
            name: The model.
            run: The run.
            ending: How.
            holder: Only if this flow run still carries it.
            version: The version that came of it.
            words: Why.
            actor: Who is recorded.

        Raises:
            NotFoundError: No such run.
            StaleExpectationError: Another flow run has taken it over.
        """
        label = None if version is None else canonical(version)
        wanted = RunEnded(run=run, ending=ending, version=label, words=words)
        self._append(name, lambda known: plan_end(known.state, wanted, holder=holder), actor=actor)

    def get_runs(self, name: str, *, only_open: bool = False) -> list[Run]:
        """Return the runs of a model, the oldest first: all that are open, and the last 100 that ended.

        A model that nothing was registered under yet has runs too, and a name that nobody has used has none.
        """
        runs = self._log(name).read().state.runs.values()
        return [run for run in runs if not (only_open and run.ending is not None)]

    def find_done(self, name: str, event_type: str, idempotency_key: str) -> ModelVersion | None:
        """Return the version that the event with this key was about; None where that has not happened.

        Args:
            name: The model; it need not exist.
            event_type: Which kind of event: ``reserved`` (for a registration), ``moved``, ``annotated``,
                ``variant_chosen``, ...
            idempotency_key: The key that the call had.
        """
        known = self._log(name).read()
        key = known.state.recall(event_type, idempotency_key)
        if key is None or known.state.versions[key].status != "registered":
            return None
        return self._version(name, known, key)
