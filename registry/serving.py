"""Deploying: say in the log what is to serve, bring it up beside what serves, check it, then let the old one go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from registry.base import StoredRecord
from registry.bringing_up import BringingUp, runs_here, this_host
from registry.encoding import parse_record, readable_json
from registry.endpoints.desired import (
    Desired,
    EndpointEvent,
    EndpointMachine,
    EndpointState,
    Failed,
    Observed,
    Stopped,
    Wanted,
)
from registry.errors import EndpointNotFoundError, ModelwayError
from registry.events import DeployedAt
from registry.guard import EndpointNamed, RootState
from registry.log import EventLog, Snapshot
from registry.names import check_name, near
from registry.records import ModelVersion
from registry.stages import ModelStage
from registry.state import ModelState
from registry.versions import VersionRef


class Endpoint(StoredRecord):
    """An endpoint as it stands: what is wanted of it, what was last seen, and whether that process runs."""

    name: str
    generation: int
    desired: Desired | None
    observed: Observed | None = None
    running: bool = False

    @property
    def url(self) -> str | None:
        """Where it answers; None where nothing runs."""
        return self.observed.server.url if self.observed is not None and self.running else None


class DeployedModel:
    """A deployed version: unpacks to ``(model, endpoint, metadata)``; the model is loaded when it is asked for."""

    def __init__(self, registry: Serving, endpoint: Endpoint, metadata: ModelVersion) -> None:
        """Hold the endpoint that serves and the version that it serves."""
        self._registry, self.endpoint, self.metadata = registry, endpoint, metadata

    @property
    def model(self) -> Any:
        """The object that was registered, loaded and verified."""
        return self._registry.load(self.metadata.name, self.metadata.version)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.model, self.endpoint, self.metadata))


class Serving(BringingUp):
    """The verbs that make versions serve."""

    def deploy_model(  # noqa: PLR0913 - the public interface
        self,
        model_name: str,
        version: VersionRef | None = None,
        stage: ModelStage | str | None = None,
        endpoint_name: str | None = None,
        *,
        target: Literal["local"] | None = None,
        why: str = "",
        actor: str | None = None,
        idempotency_key: str | None = None,
    ) -> DeployedModel:
        """Serve a version at an endpoint, and return when it answers the golden samples as the model did.

        What served there goes on until then, and stays if the new one cannot be brought up.

        Args:
            model_name: The model, or ``name@alias``.
            version: Number, label or alias; with no stage either, the version in production.
            stage: The latest version of this stage.
            endpoint_name: The endpoint; the model's name by default.
            target: ``local``: a process of this machine that speaks the Open Inference Protocol on loopback.
            why: Recorded with the generation.
            actor: Who is recorded.
            idempotency_key: The same key wants a generation once.

        Raises:
            NotFoundError: There is no such version.
            EndpointError: It has no engine that this target runs, or it could not be brought up.
            IntegrityError: A byte is not what was recorded.
        """
        if version is None and stage is None and "@" not in model_name:
            stage = ModelStage.PRODUCTION
        metadata = self.get_model_metadata(model_name, version, stage)
        endpoint = check_name(endpoint_name or metadata.name, kind="endpoint")
        desired = Desired(
            model=metadata.name,
            version=metadata.version,
            metadata_digest=metadata.metadata_digest,
            variant=self._servable(metadata).key,
            target=target or "local",
            why=why,
        )
        self._root.append(lambda known: _plan_endpoint(known, endpoint), actor=actor or self.actor)
        log = self._endpoint_log(endpoint)
        known = log.append(
            lambda known: _plan_wanted(known.state, desired, idempotency_key), actor=actor or self.actor
        ).snapshot
        self._converge(endpoint, log, known.state, actor=actor)
        return DeployedModel(self, self.get_endpoint(endpoint), self.get_version(metadata.name, metadata.version))

    def list_endpoints(self) -> list[Endpoint]:
        """Return all endpoints that were ever wanted, by name."""
        return [self.get_endpoint(name) for name in sorted(self._root.read().state.endpoints)]

    def get_endpoint(self, name: str) -> Endpoint:
        """Return what is wanted of an endpoint, what was last seen of it, and whether it runs.

        Raises:
            EndpointNotFoundError: There is none of that name.
        """
        names = self._root.read().state.endpoints
        if name not in names:
            raise EndpointNotFoundError(name, near(name, names))
        state, observed = self._endpoint_log(name).read().state, self._observed(name)
        running = observed is not None and runs_here(observed)
        return Endpoint(
            name=name, generation=state.generation, desired=state.desired, observed=observed, running=running
        )

    def stop_endpoint(self, name: str, *, reason: str = "", actor: str | None = None) -> Endpoint:
        """Let an endpoint serve nothing any more; requests under way are finished.

        Raises:
            EndpointNotFoundError: There is none of that name.
            EndpointError: The process could not be ended.
        """
        self.get_endpoint(name)
        log = self._endpoint_log(name)
        log.append(
            lambda known: None if known.state.desired is None else Stopped(reason=reason), actor=actor or self.actor
        )
        if (observed := self._observed(name)) is not None:
            self._stop(observed)
            self.store.delete(f"endpoints/{name}/observed.json")
        self._servers(name).sweep(keep=None)
        return self.get_endpoint(name)

    def restore_endpoint(self, name: str, *, actor: str | None = None) -> bool:
        """Bring up what an endpoint is to serve if it was served from this machine and does not run any more.

        Returns:
            Whether it was brought up.

        Raises:
            EndpointNotFoundError: There is none of that name.
            EndpointError: It could not be brought up.
        """
        endpoint = self.get_endpoint(name)
        here = endpoint.observed is not None and endpoint.observed.host == this_host()
        if endpoint.desired is None or not here or (endpoint.observed and runs_here(endpoint.observed)):
            return False
        log = self._endpoint_log(name)
        self._converge(name, log, log.read().state, actor=actor)
        return True

    def _serve_again(self, version: ModelVersion, endpoint_name: str, *, reason: str, actor: str | None) -> None:
        self.deploy_model(
            version.name, version.version, endpoint_name=endpoint_name, why=reason or "rolled back", actor=actor
        )

    def _endpoint_log(self, name: str) -> EventLog[EndpointState, EndpointEvent]:
        return EventLog(self.store, f"endpoints/{name}/", EndpointMachine())

    def _observed(self, name: str) -> Observed | None:
        key = f"endpoints/{name}/observed.json"
        try:
            return parse_record(Observed, self.store.read(key), self.store.address(key))
        except FileNotFoundError:
            return None

    def _converge(
        self, endpoint: str, log: EventLog[EndpointState, EndpointEvent], state: EndpointState, *, actor: str | None
    ) -> None:
        """Bring up what is wanted, unless it runs already; every step can be repeated."""
        before, desired = self._observed(endpoint), state.desired
        if desired is None or (before is not None and before.generation == state.generation and runs_here(before)):
            return
        try:
            observed = self._bring_up(endpoint, state.generation, desired)
        except ModelwayError as error:
            reason = str(error)
            log.append(lambda known: _plan_failed(known.state, state.generation, reason), actor=actor or self.actor)
            raise
        if log.read().state.generation != state.generation:
            self._stop(observed)  # another was wanted meanwhile, and whoever wants it brings it up
            return
        self.store.replace(f"endpoints/{endpoint}/observed.json", readable_json(observed))
        if before is not None:
            self._stop(before)
        self._servers(endpoint).sweep(keep=state.generation)

        def decide(known: Snapshot[ModelState]) -> DeployedAt:
            version = known.state.find(desired.model, desired.version)
            return DeployedAt(version=version, endpoint=endpoint, generation=state.generation)

        self._append_existing(desired.model, decide, actor=actor)


def _plan_endpoint(known: Snapshot[RootState], endpoint: str) -> EndpointNamed | None:
    return None if endpoint in known.state.endpoints else EndpointNamed(endpoint=endpoint)


def _plan_wanted(state: EndpointState, desired: Desired, key: str | None) -> Wanted | None:
    return None if key is not None and key in state.keys else Wanted(desired=desired, key=key)


def _plan_failed(state: EndpointState, generation: int, reason: str) -> Failed | None:
    known = {state.generation, *(number for number, _ in state.before)}
    return Failed(generation=generation, reason=reason) if generation in known else None
