"""What a Triton server really serves for an endpoint, and what it counted: by its own word, not by what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.endpoints.target import Counted, Look
from registry.endpoints.triton.weighted import CANARY
from registry.errors import RefusedError, StoreError

if TYPE_CHECKING:
    from registry.endpoints.triton.config import Labels
    from registry.endpoints.triton.control import TritonControl
    from registry.endpoints.triton.repository import TritonRepository

CANDIDATE = "--candidate"
"""What stands behind a model's name in that of what is tried before it serves."""


def look_at(control: TritonControl, repository: TritonRepository) -> Look:
    """Return what is loaded for an endpoint; its shares are those that were routed last.

    Raises:
        EndpointError: Triton does not answer.
    """
    loaded = _loaded(control, repository)
    if not loaded:
        return Look(running=False, words=f"Triton at {control.address} has no model of this endpoint loaded")
    routed, words = _routed(list(loaded), repository)
    shares: dict[int, float] = {}
    digests: dict[int, str] = {}
    for name, (labels, versions) in loaded.items():
        for number in versions:
            # Triton gives a request that names no version to the highest one.
            asked = routed.get(name, routed.get(f"{name}/{number}", 0.0))
            shares.setdefault(number, asked if number == versions[-1] else 0.0)
        if labels.number in versions:
            digests.setdefault(labels.number, labels.digest)
    return Look(running=True, shares=shares, digests=digests, words=words)


def count_at(control: TritonControl, repository: TritonRepository) -> dict[int, Counted]:
    """Return what the versions of an endpoint did since they were loaded, by number.

    Raises:
        EndpointError: Triton does not answer.
    """
    found: dict[int, Counted] = {}
    for name in _loaded(control, repository):
        if not name.endswith(CANDIDATE):
            found.update(control.counted(name))
    return found


def _loaded(control: TritonControl, repository: TritonRepository) -> dict[str, tuple[Labels, list[int]]]:
    """Return the models of an endpoint that answer: the one that users ask first, a candidate last."""
    found = {}
    for name, versions in control.ready_versions().items():
        labels = control.labels(name)
        if labels is not None and (labels.registry, labels.endpoint) == (repository.registry, repository.endpoint):
            found[name] = labels, versions
    return dict(sorted(found.items(), key=lambda one: (one[0].endswith(CANDIDATE), one[0])))


def _routed(names: list[str], repository: TritonRepository) -> tuple[dict[str, float], str]:
    """Return the shares as they were routed, and what is to be said of them."""
    asked = [name for name in names if not name.endswith((CANDIDATE, CANARY))]
    if not asked:
        return {}, "the model that users ask is not loaded"
    words = f"the endpoint has several models loaded: {', '.join(asked)}" if len(asked) > 1 else ""
    try:
        marker = repository.marker(asked[0])
    except (RefusedError, StoreError) as error:
        return {asked[0]: 1.0}, f"the shares are not known: {error}"
    return (marker.shares if marker and marker.shares else {asked[0]: 1.0}), words
