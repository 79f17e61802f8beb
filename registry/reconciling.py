"""Bringing an endpoint to what is wanted of it: steps that can each be made again, whoever died after which of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING

from registry import clock
from registry.bringing_up import BringingUp
from registry.encoding import parse_json, parse_record, readable_json
from registry.endpoints.desired import (
    Desired,
    EndpointEvent,
    EndpointMachine,
    EndpointState,
    Observed,
    SeenPart,
)
from registry.endpoints.differences import differences
from registry.endpoints.settings import LocalSettings, TargetSettings
from registry.endpoints.target import Part, Rollout
from registry.endpoints.wanting import Superseded, plan_failed, plan_served
from registry.errors import FormatError, ModelwayError
from registry.events import DeployedAt
from registry.log import EventLog, Snapshot
from registry.state import ModelState

if TYPE_CHECKING:
    from registry.endpoints.target import Look, Reached
    from registry.engines.records import Parity

_AT_MOST = 10
"""How often somebody else may want another generation while one is brought up, before that is left to them."""


class Step(StrEnum):
    """The steps of a roll-out in their order, after the generation was wanted; each can be made again."""

    STAGE = "stage"  # the engines' files lie where the target reads them
    CONFIGURE = "configure"  # the target's configuration is written, if it differs
    LOAD = "load"  # the new versions are open beside what serves, and nobody asks them
    PROBE = "probe"  # they answer the golden samples as the model did
    ROUTE = "route"  # they get their share of the requests
    OBSERVE = "observe"  # observed.json and the endpoint's log say so
    SETTLE = "settle"  # what serves no more is closed, and the model's log says where the version serves

    @property
    def words(self) -> str:
        """What has been done, for people who wait."""
        return _DONE[self]


_DONE = {
    Step.STAGE: "its files lie where they are read",
    Step.CONFIGURE: "the configuration is written",
    Step.LOAD: "it is open beside what serves",
    Step.PROBE: "it answers the golden samples as the model did",
    Step.ROUTE: "its requests go to it",
    Step.OBSERVE: "what serves is written down",
    Step.SETTLE: "what serves no more is closed",
}
_ANSWERS = {Step.ROUTE, Step.OBSERVE, Step.SETTLE}


class Reconciling(BringingUp):
    """What brings endpoints to what is wanted of them, and sees where they are not."""

    def _endpoint_log(self, name: str) -> EventLog[EndpointState, EndpointEvent]:
        return EventLog(self.store, f"endpoints/{name}/", EndpointMachine())

    def _observed(self, name: str) -> Observed | None:
        """Return what was last seen of an endpoint; None also where its writer died halfway: it is observed again."""
        key = f"endpoints/{name}/observed.json"
        try:
            data = self.store.read(key)
        except FileNotFoundError:
            return None
        try:
            parse_json(data, key)
        except FormatError:
            return None
        return parse_record(Observed, data, self.store.address(key))

    @contextmanager
    def _alone(self, endpoint: str, settings: TargetSettings) -> Iterator[None]:
        """Keep other processes of this machine from an endpoint that serves here; others decide by the log alone."""
        if not isinstance(settings, LocalSettings):
            yield
            return
        from registry.endpoints.local import LocalTarget

        with LocalTarget(settings, endpoint=endpoint, folder=self._local_folder(endpoint)).locked():
            yield

    def _converge(self, endpoint: str, *, actor: str | None) -> Iterator[Step]:
        """Bring up what is wanted, unless it serves already: yield each step when it has been made.

        Whoever stops anywhere in between, or dies there, leaves an endpoint that this brings on from where it is.

        Raises:
            ModelwayError: A generation that never served could not be brought up; the one before is wanted again, and
                was brought up again. Or one that did serve cannot be now; it stays wanted.
        """
        log = self._endpoint_log(endpoint)
        refusal: ModelwayError | None = None
        for _ in range(_AT_MOST):
            state = log.read().state
            if state.desired is None:
                self._take_down(endpoint)
                break
            with self._alone(endpoint, state.desired.place):
                state = log.read().state  # what was wanted while another process brought something up
                if state.desired is None or (refusal is None and self._serves(endpoint, state)):
                    break
                step: Step | None = None
                try:
                    goes_on = refusal is not None
                    for step in self._bring_up(endpoint, log, state, goes_on=goes_on, actor=actor):
                        yield step
                except Superseded:
                    continue
                except ModelwayError as error:
                    # What answers already is brought to its end by the next one, not taken back.
                    if refusal is not None or state.proven or step in _ANSWERS:
                        raise (refusal or error) from (error if refusal else None)
                    refusal = error
                    self._write_off(endpoint, log, state.generation, state.desired, str(error), actor=actor)
                    continue
            if log.read().state.generation == state.generation:
                break
        if refusal is not None:
            raise refusal

    def _bring_up(
        self,
        endpoint: str,
        log: EventLog[EndpointState, EndpointEvent],
        state: EndpointState,
        *,
        goes_on: bool,
        actor: str | None,
    ) -> Iterator[Step]:
        """Make the steps; ``goes_on``: this generation served all the time, and only what failed is cleared away."""
        generation, desired = state.generation, state.desired
        if desired is None:
            return
        target = self._target(endpoint, desired.place)
        before = self._observed(endpoint)
        rollout = self._rollout(endpoint, generation, desired, target, None if before is None else before.desired)
        target.check(rollout)
        for step, do in (
            (Step.STAGE, target.stage),
            (Step.CONFIGURE, target.configure),
            (Step.LOAD, target.load),
        ):
            do(rollout)
            yield step
        golden = target.probe(rollout)
        yield Step.PROBE
        if log.read().state.generation != generation:
            raise Superseded
        reached = target.route(rollout)
        yield Step.ROUTE
        observed = self._seen(rollout, desired, reached, golden, target.look())
        if goes_on and before is not None and before.generation == generation:
            observed = observed.model_copy(update={"since": before.since})
        self.store.replace(f"endpoints/{endpoint}/observed.json", readable_json(observed))
        log.append(lambda known: plan_served(known.state, observed), actor=actor or self.actor)
        yield Step.OBSERVE
        if before is not None:
            self._end_other(endpoint, before, observed)
        target.collect(rollout)
        for part in rollout.parts:
            self._tell_model(part, endpoint, generation, actor=actor)
        yield Step.SETTLE

    def _write_off(  # noqa: PLR0913 - a generation, why it ended, and where to write that down
        self,
        endpoint: str,
        log: EventLog[EndpointState, EndpointEvent],
        generation: int,
        desired: Desired,
        reason: str,
        *,
        actor: str | None,
    ) -> None:
        """Write down that a generation failed; where nothing of the endpoint serves, what it left behind is ended."""
        log.append(lambda known: plan_failed(known.state, generation, reason), actor=actor or self.actor)
        before = self._observed(endpoint)
        if before is None or _address(before.desired.place) != _address(desired.place):
            with suppress(ModelwayError):  # why it failed is what the caller has to hear
                self._target(endpoint, desired.place).stop()

    def _seen(
        self, rollout: Rollout, desired: Desired, reached: Reached, golden: Mapping[str, Parity], look: Look
    ) -> Observed:
        why = {share.version: share.why_engine for _, share in desired.shares()}
        parts = tuple(
            SeenPart(
                role=part.role,
                version=part.version,
                share=part.share,
                engine=part.engine,
                digest=look.digests.get(part.number, ""),
                golden=golden.get(part.version),
            )
            for part in rollout.parts
        )
        return Observed(
            endpoint=rollout.endpoint,
            generation=rollout.generation,
            desired=desired,
            engine=rollout.stable.engine,
            why_engine=why[rollout.stable.version],
            server=reached.server,
            host=this_host(),
            golden=golden.get(rollout.stable.version),
            since=clock.now(),
            address=reached.url,
            grpc=reached.grpc,
            model_name=reached.model_name,
            resources=dict(reached.resources),
            parts=parts,
        )

    def _tell_model(self, part: Part, endpoint: str, generation: int, *, actor: str | None) -> None:
        """Say in the model's log, once, that a version serves at an endpoint."""

        def decide(known: Snapshot[ModelState]) -> DeployedAt | None:
            version = known.state.find(part.model, part.version)
            there = known.state.versions[version].deployments
            if any((one.endpoint, one.generation) == (endpoint, generation) for one in there):
                return None
            return DeployedAt(version=version, endpoint=endpoint, generation=generation)

        self._append_existing(part.model, decide, actor=actor)

    def _serves(self, endpoint: str, state: EndpointState) -> bool:
        """Return whether all steps of what is wanted were made, and what was brought up still serves."""
        observed, desired = self._observed(endpoint), state.desired
        if desired is None or observed is None or observed.generation != state.generation or not state.proven:
            return False
        for _, share in desired.shares():
            told = self.get_version(desired.model, share.version).deployments
            if not any((one.endpoint, one.generation) == (endpoint, state.generation) for one in told):
                return False
        return not differences(observed, self._target(endpoint, desired.place).look(), self._ordinals(desired))

    def _take_down(self, endpoint: str) -> None:
        """Let nothing of an endpoint serve; what was seen serving is forgotten last, so that this can be repeated."""
        observed = self._observed(endpoint)
        settings = LocalSettings() if observed is None else observed.desired.place
        with self._alone(endpoint, settings):
            self._target(endpoint, settings).stop()
        if observed is not None:
            self._end_process(observed)
            self.store.delete(f"endpoints/{endpoint}/observed.json")

    def _end_other(self, endpoint: str, before: Observed, now: Observed) -> None:
        """End what served until now, where that was another process or at another place."""
        if before.server is not None and now.server is not None:
            if before.server.instance != now.server.instance:
                self._end_process(before)
        elif _address(before.desired.place) != _address(now.desired.place):
            self._target(endpoint, before.desired.place).stop()
            self._end_process(before)

    def _end_process(self, observed: Observed) -> None:
        """End a process of this machine, also one that another user's deployment has started in a folder of its own."""
        if observed.server is not None and observed.host == this_host():
            from registry.endpoints.process import stop_server

            stop_server(observed.server)

    def _is_served_elsewhere(self, endpoint: str, observed: Observed | None) -> bool:
        """Return whether another machine, or another user of this one, runs the process of a local endpoint."""
        if observed is None or observed.server is None:
            return False
        here = observed.server.log_path.parent == self._local_folder(endpoint)
        return observed.host != this_host() or not here


def _address(settings: TargetSettings) -> dict[str, object]:
    """Return what of settings says where something is; the rest says how it runs."""
    where = {"kind", "repository", "grpc", "model_name", "project", "region", "api_endpoint"}
    return settings.model_dump(include=where)


def this_host() -> str:
    """Return the name that this machine has for itself."""
    import socket

    return socket.gethostname()
