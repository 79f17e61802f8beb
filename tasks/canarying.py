"""The steps of a canary: give a version a share of the requests, watch it beside the stable one, take it back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from registry import ModelRegistry, ModelVersion
from registry.endpoints.canary import CanarySettings, Verdict, judge_canary, since
from registry.endpoints.target import Counted
from registry.errors import EndpointError, InvalidInputError
from registry.stages import ModelStage
from tasks.prefect_events import emit_version
from tasks.prefect_task import registry_step
from tasks.telling import tell


def settings_in(given: Mapping[str, Any] | None) -> CanarySettings:
    """Return the settings that a flow was started with, the defaults for what they leave out.

    Raises:
        InvalidInputError: A setting that there is not, or a value that it cannot have.
    """
    try:
        return CanarySettings.model_validate(dict(given or {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidInputError(f"the canary's setting {place}: {first['msg']}. Nothing was changed.") from None


def serves_another(url: str, version: ModelVersion, endpoint: str) -> bool:
    """Return whether an endpoint serves another version of the model, beside which this one can be a canary."""
    registry = ModelRegistry(url)
    if endpoint not in {one.name for one in registry.list_endpoints()}:
        return False
    desired = registry.get_endpoint(endpoint).desired
    return desired is not None and desired.model == version.name and desired.version != version.version


@registry_step
def shares_left(
    url: str, version: ModelVersion, endpoint: str, settings: CanarySettings, *, key: str
) -> list[float] | None:
    """Return the shares that a version still has to go through, None where it was taken back already.

    A run that died is taken up at the step where it stood: what the endpoint is to serve stands in its log.
    """
    registry = ModelRegistry(url)
    desired = registry.get_endpoint(endpoint).desired
    canary = None if desired is None else desired.canary
    if canary is not None and canary.version == version.version:
        return [share for share in settings.steps if share >= canary.share]
    if not registry.was_wanted(endpoint, f"{key}:{settings.steps[0]:g}"):
        return list(settings.steps)
    return [] if desired is not None and desired.version == version.version else None


@registry_step
def give_share(url: str, version: ModelVersion, endpoint: str, share: float, *, key: str) -> None:
    """Let a version answer a share of the endpoint's requests; the rest goes on to the one that serves."""
    registry = ModelRegistry(url)
    registry.deploy_model(
        version.name,
        version.version,
        endpoint_name=endpoint,
        traffic=share,
        why=f"canary, {share:.0%} of the requests",
        idempotency_key=f"{key}:{share:g}",
    )
    tell("canary", f"{version.full_name} answers {share:.0%} of the requests to {endpoint}")


@registry_step
def watch(url: str, version: ModelVersion, endpoint: str, settings: CanarySettings) -> Verdict:
    """Return what came of a step: watched until there is enough to say, or somebody else decided.

    A target that does not answer for a while is looked at again; one that never did is reason to take the version back.
    """
    registry, began = ModelRegistry(url), time.monotonic()
    counted, nothing = _Counters(registry, endpoint, settings), Counted(requests=0, errors=0)
    try:
        first = now = counted.now()
    except EndpointError as error:
        return Verdict(passed=False, words=f"it could not be watched: {error}")
    while True:
        desired = registry.get_endpoint(endpoint).desired
        if desired is None or desired.canary is None or desired.canary.version != version.version:
            return Verdict(passed=False, words=f"somebody took it back from {endpoint} while it was watched")
        stable = desired.version
        with suppress(EndpointError):
            now = counted.now()
        verdict = judge_canary(
            settings,
            since(first.get(version.version), now.get(version.version, nothing)),
            since(first.get(stable), now.get(stable, nothing)),
            watched_s=time.monotonic() - began,
        )
        if verdict.passed is not None:
            tell("canary", f"{version.full_name} beside {stable}: {verdict.words}")
            return verdict
        time.sleep(settings.poll_s)


class _Counters:
    """What the versions at an endpoint did: as the target counts it, else as they answer when they are asked."""

    def __init__(self, registry: ModelRegistry, endpoint: str, settings: CanarySettings) -> None:
        self._registry, self._endpoint, self._settings = registry, endpoint, settings
        self._asked: dict[str, Counted] = {}

    def now(self) -> dict[str, Counted]:
        """Return the counters, which never fall."""
        found = self._registry.sample_endpoint(self._endpoint, self._settings.probe_requests)
        if found is None:
            return self._registry.count_endpoint(self._endpoint)
        self._asked = {version: one.plus(self._asked.get(version)) for version, one in found.items()}
        return self._asked


@registry_step
def take_over(url: str, version: ModelVersion, endpoint: str, *, key: str) -> str | None:
    """Let a version answer all requests, and return where."""
    registry = ModelRegistry(url)
    deployed = registry.deploy_model(
        version.name,
        version.version,
        endpoint_name=endpoint,
        why="it passed every step of its canary",
        idempotency_key=f"{key}:all",
    )
    tell("canary", f"{version.full_name} answers all requests to {endpoint}")
    emit_version("endpoint.deployed", registry, version, key=f"{key}:all")
    return deployed.endpoint.url


@registry_step
def take_back(url: str, version: ModelVersion, endpoint: str, reason: str, *, key: str) -> None:
    """Let the stable version answer all requests again; a version that holds production gives that back too."""
    registry = ModelRegistry(url)
    desired = registry.get_endpoint(endpoint).desired
    canary = None if desired is None else desired.canary
    if desired is not None and canary is not None and canary.version == version.version:
        registry.deploy_model(
            desired.model,
            desired.version,
            endpoint_name=endpoint,
            why=f"{version.version} was taken back: {reason}",
            idempotency_key=f"{key}:back",
        )
    now = registry.get_version(version.name, version.version)
    if now.stage is ModelStage.PRODUCTION and registry.find_way_back(version.name) is not None:
        registry.rollback(version.name, reason=f"canary: {reason}", idempotency_key=f"{key}:back")
    tell("canary", f"{version.full_name} was taken back from {endpoint}: {reason}")
