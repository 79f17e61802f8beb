"""Deploying: say in the log what is to serve, and bring it up beside what serves, checked, before it takes over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from registry.base import StoredRecord
from registry.drifting import Drifting
from registry.endpoint_history import EndpointEntry, entries
from registry.endpoints.desired import (
    Desired,
    EndpointState,
    Observed,
    Stopped,
    Wanted,
)
from registry.endpoints.settings import LocalSettings, TargetKind, TargetSettings
from registry.endpoints.wanting import Superseded, beside, place_of, plan_wanted
from registry.errors import ConflictError
from registry.guard import EndpointNamed, RootState
from registry.log import Snapshot
from registry.names import check_name
from registry.reconciling import Step
from registry.records import ModelVersion
from registry.stages import ModelStage
from registry.versions import VersionRef


class Endpoint(StoredRecord):
    """An endpoint as it stands: what is wanted of it, what was last seen, and whether that process runs.

    ``running`` is None where only the target could say: ``get_drift`` asks it.
    """

    name: str
    generation: int
    desired: Desired | None
    observed: Observed | None = None
    running: bool | None = False

    @property
    def url(self) -> str | None:
        """Where it answers; None where nothing runs."""
        return None if self.observed is None or self.running is False else self.observed.url


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


class Serving(Drifting):
    """The verbs that make versions serve."""

    def deploy_model(  # noqa: PLR0913 - the public interface
        self,
        model_name: str,
        version: VersionRef | None = None,
        stage: ModelStage | str | None = None,
        endpoint_name: str | None = None,
        *,
        target: TargetKind | TargetSettings | None = None,
        traffic: float = 1.0,
        shadow: float | None = None,
        pin: bool = False,
        why: str = "",
        actor: str | None = None,
        idempotency_key: str | None = None,
        report: Callable[[Step], None] = lambda _step: None,
    ) -> DeployedModel:
        """Serve a version at an endpoint, and return when it answers the golden samples as the model did.

        What served there goes on until then, and stays if the new one cannot be brought up. An endpoint that was given
        the version in production, or one by its alias, follows that: ``get_drift`` tells when it points elsewhere, and
        ``reconcile_endpoint`` brings the endpoint after it.

        Args:
            model_name: The model, or ``name@alias``.
            version: Number, label or alias; with no stage either, the version in production.
            stage: The latest version of this stage.
            endpoint_name: The endpoint; the model's name by default.
            target: ``local`` (a process of this machine on loopback), or settings of ``registry.endpoints.settings``;
                where the endpoint serves already by default.
            traffic: The share of the requests that the version gets, above 0, at most 1. Below 1 it is a canary: the
                rest goes on to the version that serves.
            shadow: Instead of traffic, the share of the requests that are copied to it; its answers are dropped.
            pin: Serve this version whatever holds production later.
            why: Recorded with the generation.
            actor: Who is recorded.
            idempotency_key: The same key wants a generation once.
            report: Told each step of the roll-out when it has been made.

        Raises:
            NotFoundError: There is no such version.
            InvalidInputError: A share outside its range, or beside nothing that serves.
            PolicyFailed, ApprovalRequired: It does not meet what production is guarded by.
            EndpointError: It has no engine that this target runs, or it could not be brought up.
            IntegrityError: A byte is not what was recorded.
            ConflictError: Somebody else wanted another generation before this one served.
        """
        if version is None and stage is None and "@" not in model_name:
            stage = ModelStage.PRODUCTION
        metadata = self.get_model_metadata(model_name, version, stage)
        endpoint = check_name(endpoint_name or metadata.name, kind="endpoint")
        follows = None if pin else self._followed(model_name, version, metadata)

        def plan(current: EndpointState) -> Desired:
            settings = place_of(target, current, self.config.vertex)
            desired = self._desired(metadata, endpoint, settings, why=why, follows=follows)
            if shadow is not None or traffic != 1.0:
                desired = beside(endpoint, current, desired, traffic=traffic, shadow=shadow)
            self._check_may_serve(metadata, endpoint, current, shadow=shadow is not None)
            return desired

        wanted, repeated = self._want(endpoint, plan, key=idempotency_key, actor=actor or self.actor)
        for step in self._converge(endpoint, actor=actor):
            report(step)
        found = self.get_endpoint(endpoint)
        if found.generation != wanted and not repeated:
            raise ConflictError(
                f"{metadata.full_name} was to serve at {endpoint}, and before it did somebody wanted something else: "
                f"generation {found.generation}. `modelway endpoints show {endpoint}` has it."
            )
        return DeployedModel(self, found, self.get_version(metadata.name, metadata.version))

    def _want(
        self, endpoint: str, plan: Callable[[EndpointState], Desired], *, key: str | None, actor: str
    ) -> tuple[int, bool]:
        """Write down what is wanted, and return its generation, and whether this key had wanted it before.

        What is planned rests on what is wanted until then: where that changes meanwhile, it is planned anew.
        """
        log = self._endpoint_log(endpoint)
        while True:
            current = log.read().state
            if key is not None and key in current.keys:
                return current.keys[key], True
            desired = plan(current)
            self._root.append(lambda known: _plan_endpoint(known, endpoint), actor=actor)
            with suppress(Superseded):
                wanted = log.append(
                    lambda known, desired=desired, current=current: plan_wanted(known.state, desired, current, key),  # type: ignore[misc]
                    actor=actor,
                ).snapshot.state
                return wanted.generation, False

    def list_endpoints(self) -> list[Endpoint]:
        """Return all endpoints that were ever wanted, by name."""
        return [self.get_endpoint(name) for name in sorted(self._root.read().state.endpoints)]

    def get_endpoint(self, name: str) -> Endpoint:
        """Return what is wanted of an endpoint, what was last seen of it, and whether it runs.

        Raises:
            EndpointNotFoundError: There is none of that name.
        """
        state, observed = self._endpoint_log(self._known_endpoint(name)).read().state, self._observed(name)
        running = False if observed is None else self._runs(observed)
        return Endpoint(
            name=name, generation=state.generation, desired=state.desired, observed=observed, running=running
        )

    def was_wanted(self, name: str, idempotency_key: str) -> bool:
        """Return whether a generation of an endpoint was wanted with this key; what became of it is not said.

        Raises:
            EndpointNotFoundError: There is none of that name.
        """
        return idempotency_key in self._endpoint_log(self._known_endpoint(name)).read().state.keys

    def get_endpoint_history(self, name: str) -> list[EndpointEntry]:
        """Return what was ever wanted of an endpoint, by whom and why, and what became of it; the oldest first.

        Raises:
            EndpointNotFoundError: There is none of that name.
        """
        return list(entries(self._endpoint_log(self._known_endpoint(name)).history()))

    def stop_endpoint(self, name: str, *, reason: str = "", actor: str | None = None) -> Endpoint:
        """Let an endpoint serve nothing any more; requests under way are finished.

        Raises:
            EndpointNotFoundError: There is none of that name.
            EndpointError: The process could not be ended.
        """
        log = self._endpoint_log(self._known_endpoint(name))
        log.append(
            lambda known: None if known.state.desired is None else Stopped(reason=reason), actor=actor or self.actor
        )
        self._take_down(name)
        return self.get_endpoint(name)

    def reconcile_endpoint(self, name: str, *, actor: str | None = None) -> list[str]:
        """Bring an endpoint to what is wanted of it: after a crash, a reboot, or a promotion that it is to follow.

        Returns:
            What was mended, in words; nothing where nothing had to be.

        Raises:
            EndpointNotFoundError: There is none of that name.
            ModelwayError: It could not be brought up.
        """
        endpoint = self.get_endpoint(name)
        if self._is_served_elsewhere(name, endpoint.observed):
            return []  # whoever serves it brings it after
        drifts = self.get_drift(name)
        if not drifts:
            deque(self._converge(name, actor=actor), maxlen=0)  # it may have been left before its last step
            return []
        follows = next((drift for drift in drifts if drift.kind == "follows"), None)
        desired = endpoint.desired
        if follows is not None and follows.version is not None and desired is not None:
            metadata = self.get_version(desired.model, follows.version)
            newer = self._desired(metadata, name, desired.place, why=follows.words, follows=desired.follows)
            self._endpoint_log(name).append(
                lambda known: (
                    Wanted(desired=newer, previous=known.state.generation) if known.state.desired == desired else None
                ),
                actor=actor or self.actor,
            )
        deque(self._converge(name, actor=actor), maxlen=0)
        return [drift.words for drift in drifts]

    def _desired(
        self, metadata: ModelVersion, endpoint: str, settings: TargetSettings, *, why: str, follows: str | None
    ) -> Desired:
        fitting = self._servable(metadata, self._target(endpoint, settings), settings.kind)
        plain = settings == LocalSettings()
        return Desired(
            model=metadata.name,
            version=metadata.version,
            metadata_digest=metadata.metadata_digest,
            variant=fitting.key,
            why_engine=fitting.words,
            target=settings.kind,
            why=why,
            follows=follows,
            settings=None if plain else settings,
        )

    def _serve_again(
        self, version: ModelVersion, endpoint_name: str, *, reason: str, actor: str | None, key: str | None
    ) -> None:
        self.deploy_model(
            version.name,
            version.version,
            endpoint_name=endpoint_name,
            why=reason or "rolled back",
            actor=actor,
            idempotency_key=None if key is None else f"{key}/rollback",
        )

    def _check_servable(self, version: ModelVersion, endpoint_name: str) -> None:
        settings = place_of(None, self._endpoint_log(check_name(endpoint_name, kind="endpoint")).read().state)
        self._servable(version, self._target(endpoint_name, settings), settings.kind)


def _plan_endpoint(known: Snapshot[RootState], endpoint: str) -> EndpointNamed | None:
    return None if endpoint in known.state.endpoints else EndpointNamed(endpoint=endpoint)
