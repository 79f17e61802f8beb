"""Operations of Vertex AI that are slow, that fail, or that a run which died has left behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.cloud import aiplatform_v1 as v1
from vertex_fake import FakeVertex
from vertex_parts import bring_up, part, rollout

from registry.endpoints.vertex import VertexTarget
from registry.errors import EndpointError

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each

Targets = Callable[..., VertexTarget]

_FOREVER = 10**6


def test_an_operation_that_takes_too_long_is_told_and_taken_up_by_the_next_run(
    vertex: FakeVertex, target: Targets
) -> None:
    bring_up(target(), rollout(1, part(1)))
    place, wanted = target(timeout_s=0.1), rollout(2, part(2))
    for step in (place.check, place.stage, place.configure):
        step(wanted)
    vertex.rules.looks = _FOREVER
    with pytest.raises(EndpointError) as error:
        place.load(wanted)
    slow = vertex.rules.operations[-1]
    assert "has not ended after 0.1 s, asked to deploy digits:v2 at projects/acme/" in str(error.value)
    assert slow.name in str(error.value)
    assert "it is taken up, not begun anew" in str(error.value)
    vertex.rules.looks, slow.looks = 3, 3
    bring_up(target(), wanted)
    assert vertex.changes.count("POST endpoints/digits:deployModel") == 2
    assert [one.id for one in vertex.rules.endpoints["digits"].deployed_models] == ["20"]


@pytest.mark.parametrize("kind", ["endpoints", "models:upload"])
def test_what_is_slow_at_the_first_deployment_is_not_begun_twice_either(
    vertex: FakeVertex, target: Targets, kind: str
) -> None:
    place, wanted = target(timeout_s=0.1), rollout(1, part(1))
    place.stage(wanted)
    vertex.rules.looks = 3 if kind == "models:upload" else _FOREVER
    if kind == "models:upload":
        place._deploying.create()  # noqa: SLF001 - the first half of configure
        vertex.rules.looks = _FOREVER
    with pytest.raises(EndpointError, match="goes on there as"):
        place.configure(wanted)
    vertex.rules.operations[-1].looks = vertex.rules.looks = 3
    bring_up(target(), wanted)
    assert vertex.changes.count(f"POST {kind}") == 1


def test_a_deployment_that_fails_for_want_of_machines_names_the_quota_and_changes_no_traffic(
    vertex: FakeVertex, target: Targets
) -> None:
    bring_up(target(), rollout(1, part(1)))
    place, wanted = target(), rollout(2, part(2))
    for step in (place.check, place.stage, place.configure):
        step(wanted)
    vertex.rules.failing.append(("RESOURCE_EXHAUSTED", "The following quotas are exceeded: CustomModelServingCPUs"))
    with pytest.raises(EndpointError, match=r"CustomModelServingCPUs.* A quota of project acme is used up"):
        place.load(wanted)
    assert place.look().shares == {1: 1.0}
    bring_up(target(), wanted)
    assert target().look().shares == {2: 1.0}


def test_an_export_of_the_model_that_goes_on_for_hours_is_not_waited_for(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    [model] = vertex.rules.models
    vertex.rules.looks = _FOREVER
    vertex.rules.begin(f"models/{model}", lambda: None, v1.ExportModelOperationMetadata())
    vertex.rules.looks = 3
    bring_up(target(timeout_s=5.0), rollout(2, part(2)))
    assert target().look().shares == {2: 1.0}


def test_a_container_that_does_not_start_is_told_and_what_serves_goes_on(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    place, wanted = target(), rollout(2, part(2))
    for step in (place.check, place.stage, place.configure):
        step(wanted)
    [versions] = vertex.rules.models.values()
    vertex.rules.break_files(versions[-1])
    with pytest.raises(EndpointError, match=r"Model server exited .* Cloud Logging of project acme"):
        place.load(wanted)
    assert vertex.changes.count("POST endpoints/digits:deployModel") == 2
    assert place.look().shares == {1: 1.0}
    bring_up(target(), rollout(3, part(1)))
    assert target().look().shares == {1: 1.0}
