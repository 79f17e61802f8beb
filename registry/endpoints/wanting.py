"""What may be wanted of an endpoint next, and what may be written down of it; pure."""

from __future__ import annotations

from registry.endpoints.desired import Desired, EndpointState, Failed, Observed, Served, Share, Wanted
from registry.endpoints.settings import LocalSettings, TargetKind, TargetSettings, VertexSettings
from registry.errors import InvalidInputError


class Superseded(Exception):  # noqa: N818 - not an error: somebody wants something newer
    """Another generation was wanted while this one was brought up."""


def place_of(
    target: TargetKind | TargetSettings | None, current: EndpointState, vertex: VertexSettings | None = None
) -> TargetSettings:
    """Return the target's settings: those given, those that the endpoint has, or ``vertex``, the registry's own.

    Raises:
        InvalidInputError: Only a name was given, and the endpoint has no settings of that kind yet.
    """
    if target is not None and not isinstance(target, str):
        return target
    if current.desired is not None and target in {None, current.desired.target}:
        return current.desired.place
    if target in {None, "local"}:
        return LocalSettings()
    if target == "vertex" and vertex is not None:
        return vertex
    settings = "TritonSettings(repository=...)" if target == "triton" else "VertexSettings(project=..., ...)"
    raise InvalidInputError(
        f"target {target!r} needs settings the first time: give target={settings} of registry.endpoints.settings, or "
        f"--set on the command line. Nothing was changed."
    )


def beside(endpoint: str, current: EndpointState, wanted: Desired, *, traffic: float, shadow: float | None) -> Desired:
    """Return what serves at an endpoint with the wanted version beside it, as canary or shadow.

    Raises:
        InvalidInputError: A share outside its range, another model, or nothing that it could be beside.
    """
    stable = current.desired
    asked = f"{wanted.model}:{wanted.version} cannot get a part of the requests of {endpoint}"
    if not 0.0 < traffic <= 1.0 or (shadow is not None and not 0.0 < shadow <= 1.0):
        raise InvalidInputError(f"{asked}: a share is above 0 and at most 1, found {shadow or traffic:g}.")
    if shadow is not None and traffic != 1.0:
        raise InvalidInputError(f"{asked}: give either traffic or shadow; a shadow answers nobody.")
    if stable is None:
        raise InvalidInputError(f"{asked}: nothing serves there. Deploy it for all requests first, without a share.")
    if stable.model != wanted.model or stable.version == wanted.version:
        raise InvalidInputError(
            f"{asked}: {stable.model}:{stable.version} serves there, and a part of the requests goes to another "
            f"version of the same model."
        )
    if stable.place != wanted.place:
        raise InvalidInputError(f"{asked}: it serves with other settings. Deploy with those first, then give a share.")
    kept = wanted.model_dump(include={"version", "metadata_digest", "variant", "why_engine"})
    if shadow is not None:
        return stable.model_copy(update={"shadow": Share(**kept, share=shadow), "why": wanted.why})
    # Whoever was a shadow and gets traffic now is none any more.
    same = stable.shadow is not None and stable.shadow.version == wanted.version
    return stable.model_copy(
        update={
            "canary": Share(**kept, share=traffic),
            "shadow": None if same else stable.shadow,
            "why": wanted.why,
        }
    )


def plan_wanted(state: EndpointState, desired: Desired, planned_on: EndpointState, key: str | None) -> Wanted | None:
    """Return the event that wants a generation, None when this key has wanted one.

    Raises:
        Superseded: Something else is wanted than when this was planned.
    """
    if key is not None and key in state.keys:
        return None
    if state.generation != planned_on.generation:
        raise Superseded
    return Wanted(desired=desired, previous=state.generation, key=key)


def plan_failed(state: EndpointState, generation: int, reason: str) -> Failed | None:
    """Return the event that gives a generation up, None when it was given up already or has served."""
    known = {state.generation, *(number for number, _ in state.before)}
    return Failed(generation=generation, reason=reason) if generation in known and state.served != generation else None


def plan_served(state: EndpointState, observed: Observed) -> Served | None:
    """Return the event that says a generation serves, None when the log says so or a newer one is wanted."""
    if state.generation != observed.generation or state.proven:
        return None
    return Served(generation=observed.generation, parts=observed.parts, url=observed.url or "", host=observed.host)
