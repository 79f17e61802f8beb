"""Canary: give a version the requests of an endpoint step by step, and take it back at the first broken bound."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.running import carried
from registry import ModelVersion
from registry.endpoints.canary import CanarySettings
from registry.records import Run
from tasks import canarying, run_steps, steps
from tasks.outcome import Outcome


@flow(name="canary", flow_run_name="{name} {version} at {endpoint_name}", validate_parameters=False)
def canary(name: str, version: str, *, url: str, endpoint_name: str, settings: dict[str, Any] | None = None) -> Outcome:
    """Let a version take over an endpoint by steps; one that died is taken up by the next with the same parameters.

    Args:
        name: The model.
        version: Number, label or alias; it must be allowed to serve there.
        url: The registry.
        endpoint_name: The endpoint, where another version of the model serves.
        settings: The steps and bounds, as ``registry.endpoints.canary.CanarySettings`` has them; its own by default.

    Raises:
        NotFoundError: There is no such version.
        InvalidInputError: Settings that cannot be, or nothing serves there that it could be beside.
        ModelwayError: A step failed; what was done until then stands in the endpoint's log.
    """
    wanted = canarying.settings_in(settings)
    candidate = steps.find(url, name, version)
    parameters = {"name": name, "version": version, "endpoint_name": endpoint_name, "settings": settings or {}}
    run = run_steps.begin(url, candidate.name, kind="canary", parameters=parameters, version=candidate.version)

    def way() -> Outcome:
        return by_steps(url, candidate, endpoint_name, wanted, run)

    return carried(run, url=url, model=candidate.name, way=way)


def by_steps(url: str, version: ModelVersion, endpoint: str, settings: CanarySettings, run: Run) -> Outcome:
    """Go all steps, and take over or take back; repeats nothing that the endpoint's log has."""
    key = f"{run.id}:canary"
    left = canarying.shares_left(url, version, endpoint, settings, key=key)
    failed = "it was taken back before this run could say why" if left is None else ""
    for share in left or ():
        canarying.give_share(url, version, endpoint, share, key=key)
        verdict = canarying.watch(url, version, endpoint, settings)
        if not verdict.passed:
            failed = f"with {share:.0%} of the requests {verdict.words}"
            break
    if failed:
        canarying.take_back(url, version, endpoint, failed, key=key)
        words = f"{failed}; the version before answers all requests again"
        return Outcome.of("taken_back", url, version, words).model_copy(update={"endpoint": endpoint})
    where = canarying.take_over(url, version, endpoint, key=key)
    deployed = Outcome.of("deployed", url, version, f"it passed every step and answers all requests to {endpoint}")
    return deployed.model_copy(update={"endpoint": endpoint, "endpoint_url": where})
