"""A roll-out that dies at any request, before or after it had its effect, is gone on with and ends as if it had not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from vertex_fake import FakeVertex, Fault
from vertex_fake_rules import VertexRules
from vertex_parts import bring_up, part, rollout

from registry.endpoints.vertex import VertexTarget
from registry.errors import EndpointError

if TYPE_CHECKING:
    from vertex_fake import When

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each

Targets = Callable[..., VertexTarget]
Scene = Callable[[Targets], None]

_CANARY = rollout(2, part(1, share=0.5), part(2, "canary", 0.5))
_UPDATE = rollout(3, part(2))


def _first(target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))


def _canary(target: Targets) -> None:
    bring_up(target(), _CANARY)


def _update(target: Targets) -> None:
    bring_up(target(), _UPDATE)


def _stop(target: Targets) -> None:
    target().stop()


def _state(vertex: FakeVertex) -> dict[str, Any]:
    """Return what is there: endpoints with what is deployed and its traffic, and versions by their aliases."""
    assert all(operation.done for operation in vertex.rules.operations)
    endpoints = {
        name: sorted((one.display_name, one.id, found.traffic_split.get(one.id, 0)) for one in found.deployed_models)
        for name, found in vertex.rules.endpoints.items()
    }
    models = {name: [list(one.version_aliases) for one in versions] for name, versions in vertex.rules.models.items()}
    return {"endpoints": endpoints, "models": models}


def _begin_with(vertex: FakeVertex, state: VertexRules) -> None:
    vertex.rules.restored(state)
    vertex.requests.clear()
    vertex.faults.clear()


_SCENES: dict[str, tuple[tuple[Scene, ...], Scene]] = {
    "first": ((), _first),
    "canary": ((_first,), _canary),
    "update": ((_first, _canary), _update),
    "stop": ((_first, _canary), _stop),
}


@pytest.mark.heavy
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("scene", _SCENES)
def test_a_run_that_dies_at_any_request_is_gone_on_with(
    vertex: FakeVertex, target: Targets, scene: str, when: When
) -> None:
    """Each request is refused once, with a status that nobody tries again after, which ends the run there."""
    earlier, act = _SCENES[scene]
    for step in earlier:
        step(target)
    begin = VertexRules(vertex.rules.read)
    begin.restored(vertex.rules)
    _begin_with(vertex, begin)
    act(target)
    expected, changes, requests = _state(vertex), list(vertex.changes), list(vertex.requests)
    assert len(changes) >= 2
    for at, request in enumerate(requests):
        if request.startswith("GET") and (when == "after" or request == requests[at - 1]):
            continue  # it has no effect, so this is the same as before it; or it is one more look at an operation
        _begin_with(vertex, begin)
        vertex.faults.append(Fault("PERMISSION_DENIED", when, at=at))
        with pytest.raises(EndpointError):
            act(target)
        act(target)
        assert _state(vertex) == expected, request
        # The request that was refused, and where a probe was, the traffic that was put back and given again.
        assert len(vertex.changes) - len(changes) <= 2, (request, vertex.changes)


@pytest.mark.heavy
@pytest.mark.parametrize("status", ["UNAVAILABLE", "INTERNAL", "ABORTED", "drop"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_error_that_passes_is_not_noticed_at_any_request_that_changes_something(
    vertex: FakeVertex, target: Targets, status: str, when: When
) -> None:
    _first(target)
    _canary(target)
    expected = _state(vertex)
    _begin_with(vertex, VertexRules(vertex.rules.read))
    for match in ("POST .*endpoints$", "models:upload", "deployModel", "PATCH"):
        vertex.faults.append(Fault(status, when, match=match))
    _first(target)
    _canary(target)
    assert _state(vertex) == expected
    assert all(fault.times == 0 for fault in vertex.faults)


def test_two_roll_outs_of_one_generation_at_once_end_in_one(vertex: FakeVertex, target: Targets) -> None:
    from concurrent.futures import ThreadPoolExecutor

    _first(target)
    _canary(target)
    expected = _state(vertex)
    _begin_with(vertex, VertexRules(vertex.rules.read))
    _first(target)
    with ThreadPoolExecutor(2) as both:
        for done in [both.submit(_canary, target) for _ in range(2)]:
            done.result()
    assert _state(vertex) == expected
