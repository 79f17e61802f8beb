"""What is refused, by us or by the service: the words say what to do next, and nothing has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from vertex_fake import FakeVertex, Fault
from vertex_parts import REGISTRY, bring_up, part, rollout

from registry.endpoints.settings import VertexSettings
from registry.endpoints.vertex import VertexTarget
from registry.errors import EndpointError, MissingExtraError, RefusedError

Targets = Callable[..., VertexTarget]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"staging": "s3://elsewhere"}, "reads models from gs:// only"),
        ({"image": "nvcr.io/nvidia/tritonserver:25.10-py3"}, "copy it to europe-west4-docker.pkg.dev/acme/"),
        ({"accelerator_type": "NVIDIA_L4"}, "give both, or none"),
        ({"min_replicas": 3}, "min_replicas is 3, more than max_replicas, which is 1"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_asked(
    vertex: FakeVertex, target: Targets, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(EndpointError, match=words):
        target(**changed).check(rollout(1, part(1)))
    assert vertex.requests == []


_UNKNOWN = replace(part(1), signature=None)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((part(1), part(2, "shadow", 0.0)), "cannot be a shadow on Vertex AI"),
        (
            (part(1, share=0.875), part(2, "canary", 0.125)),
            "a share of 0.875: Vertex AI splits traffic in whole percent",
        ),
        ((part(1, share=0.5), part(2, "canary", 0.4)), "do not add up to 1: digits:v1 0.5, digits:v2 0.4"),
        ((part(1, engine="openvino-int8"),), "the engine openvino-int8 of digits:v1 does not fit: Triton opens"),
        ((part(1, engine="tensorrt-fp16", key_fields={"package": "tensorrt"}),), "needs a GPU"),
        ((_UNKNOWN,), "are not known"),
    ],
)
def test_a_roll_out_that_cannot_be_is_refused_before_anything_is_asked(
    vertex: FakeVertex, target: Targets, parts: Any, words: str
) -> None:
    with pytest.raises(EndpointError, match=words):
        target().check(rollout(1, *parts))
    assert vertex.requests == []


def test_an_endpoint_of_another_registry_is_refused_and_left_alone(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    before = list(vertex.changes)
    other = target(registry="ab" * 16)
    for call in (other.check, other.configure, other.route, other.collect):
        with pytest.raises(RefusedError, match=f"belongs to endpoint digits of registry {REGISTRY}"):
            call(rollout(1, part(1)))
    with pytest.raises(RefusedError, match="Give this endpoint another name"):
        other.stop()
    assert vertex.changes == before
    assert target().look().shares == {1: 1.0}


def test_two_names_with_one_id_are_two_endpoints_and_the_second_is_refused(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target("my-digits"), rollout(1, part(1)))
    before = list(vertex.changes)
    with pytest.raises(RefusedError, match="belongs to endpoint my-digits"):
        target("my_digits").check(rollout(1, part(1)))
    assert vertex.changes == before


def test_a_model_that_somebody_else_made_is_not_used(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    [(name, [version])] = vertex.rules.models.items()
    version.labels, version.version_aliases = {}, ["default"]
    place, before = target(), len(vertex.changes)
    place.stage(rollout(2, part(2)))
    with pytest.raises(RefusedError, match=f"{name} is there and not of this registry"):
        place.configure(rollout(2, part(2)))
    assert len(vertex.changes) == before


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        ("PERMISSION_DENIED", "Permission denied.", "roles/aiplatform.user is missing, .*aiplatform.endpoints.create"),
        ("PERMISSION_DENIED", "Vertex AI API is disabled.", "gcloud services enable aiplatform.googleapis.com"),
        ("PERMISSION_DENIED", "needs iam.serviceAccounts.actAs.", "role roles/iam.serviceAccountUser is missing"),
        ("RESOURCE_EXHAUSTED", "Quota exceeded.", "A quota of project acme is used up"),
        ("INVALID_ARGUMENT", "Bad.", "Cloud Logging of project acme"),
        ("NOT_FOUND", "No such thing.", "the project, the region and the names"),
    ],
)
def test_a_refusal_of_the_service_says_what_to_do_and_nothing_is_made(
    vertex: FakeVertex, target: Targets, status: str, said: str, words: str
) -> None:
    place, wanted = target(), rollout(1, part(1))
    place.stage(wanted)
    vertex.faults.append(Fault(status, match="POST .*endpoints$", times=9, words=said))
    with pytest.raises(EndpointError, match=f"create projects/acme/.*/endpoints/digits .{status}.: {said} .*{words}"):
        place.configure(wanted)
    assert vertex.rules.endpoints == {}
    assert vertex.rules.models == {}
    assert vertex.changes == ["POST endpoints"]


def test_credentials_that_are_not_accepted_are_told_with_how_to_get_others(vertex: FakeVertex, target: Targets) -> None:
    vertex.faults.append(Fault("UNAUTHENTICATED", times=9, words="Expired."))
    with pytest.raises(EndpointError, match="gcloud auth application-default login"):
        target().check(rollout(1, part(1)))
    assert vertex.changes == []


def test_credentials_that_are_not_there_are_told_before_anything_is_asked(
    vertex: FakeVertex, settings: VertexSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    place = VertexTarget(settings, endpoint="digits", registry=REGISTRY)
    with pytest.raises(EndpointError, match=r"there are no credentials: .*key\.json.* set GOOGLE_APPL"):
        place.check(rollout(1, part(1)))
    assert vertex.requests == []


def test_a_service_that_does_not_answer_is_never_taken_for_one_without_the_endpoint(
    vertex: FakeVertex, target: Targets
) -> None:
    bring_up(target(), rollout(1, part(1)))
    vertex.faults.append(Fault("drop", match="endpoints/digits$", times=99))
    with pytest.raises(EndpointError, match="did not answer when it was asked to read the endpoint"):
        target().check(rollout(2, part(2)))
    seen = target().look()
    assert not seen.running
    assert "did not answer" in seen.words


def test_another_region_than_the_address_is_told(vertex: FakeVertex, target: Targets) -> None:
    with pytest.raises(EndpointError, match="region us-central1 is not that of this endpoint"):
        target(region="us-central1", image="gcr.io/acme/triton").check(rollout(1, part(1)))
    assert vertex.changes == []


def test_without_the_extra_the_refusal_names_it(
    vertex: FakeVertex, target: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "aiplatform" in name else real(name))
    with pytest.raises(MissingExtraError, match=r"pip install 'modelway\[vertex\]'"):
        target().check(rollout(1, part(1)))
    assert vertex.requests == []
