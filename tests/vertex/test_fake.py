"""The fake is as strict as the service: what this refuses would otherwise pass the other tests by accident."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from vertex_fake import FakeVertex
from vertex_parts import bring_up, part, rollout

from registry.endpoints.vertex import VertexTarget

Targets = Callable[..., VertexTarget]

_PLACE = "projects/acme/locations/europe-west4"


def _send(vertex: FakeVertex, verb: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    address = f"{vertex.url}/v1/{_PLACE}/{path}"
    answer = httpx.request(verb, address, content=json.dumps(body or {}).encode(), trust_env=False)
    return dict(answer.json())


def _deployment(**changed: Any) -> dict[str, Any]:
    machine = {"machineSpec": {"machineType": "n1-standard-4"}, "minReplicaCount": 1}
    model = f"{_PLACE}/models/MODEL@1"
    return {"deployedModel": {"id": "7", "model": model, "dedicatedResources": machine, **changed}}


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (("POST", "endpoints?endpointId=Digits", {"displayName": "d"}), "INVALID_ARGUMENT"),
        (("POST", "endpoints?endpointId=other", {"displayName": "d" * 129}), "INVALID_ARGUMENT"),
        (("POST", "endpoints?endpointId=other", {"displayName": "d", "colour": "red"}), "INVALID_ARGUMENT"),
        (("POST", "endpoints?endpointId=digits", {"displayName": "d"}), "ALREADY_EXISTS"),
        (("POST", "endpoints?endpointId=other", {"displayName": "d", "labels": {"A": "b"}}), "INVALID_ARGUMENT"),
        (("PATCH", "endpoints/digits", {"trafficSplit": {"10": 100}}), "INVALID_ARGUMENT"),
        (("PATCH", "endpoints/digits?updateMask=trafficSplit", {"trafficSplit": {"10": 99}}), "INVALID_ARGUMENT"),
        (("PATCH", "endpoints/digits?updateMask=trafficSplit", {"trafficSplit": {"99": 100}}), "INVALID_ARGUMENT"),
        (("DELETE", "endpoints/digits", None), "FAILED_PRECONDITION"),
        (("DELETE", "endpoints/nothing", None), "NOT_FOUND"),
        (("POST", "endpoints/digits:undeployModel", {"deployedModelId": "8"}), "NOT_FOUND"),
        (("POST", "endpoints/digits:deployModel", _deployment(id="a")), "INVALID_ARGUMENT"),
        (("POST", "endpoints/digits:deployModel", _deployment(id="10")), "ALREADY_EXISTS"),
        (("POST", "endpoints/digits:deployModel", _deployment(dedicatedResources={})), "INVALID_ARGUMENT"),
        (("POST", "endpoints/digits:deployModel", _deployment() | {"trafficSplit": {"10": 100}}), "INVALID_ARGUMENT"),
        (("POST", "endpoints/digits:deployModel", _deployment(model=f"{_PLACE}/models/none@1")), "NOT_FOUND"),
        (("POST", "models:upload", {"model": {"displayName": "d", "artifactUri": "/folder"}}), "INVALID_ARGUMENT"),
        (("POST", "endpoints/digits:mutateDeployedModel", {}), "UNIMPLEMENTED"),
        (("GET", "../us-central1/endpoints/digits", None), "INVALID_ARGUMENT"),
        (("GET", "../../../other/locations/europe-west4/endpoints/digits", None), "PERMISSION_DENIED"),
    ],
)
def test_what_the_service_refuses_is_refused_and_changes_nothing(
    vertex: FakeVertex, target: Targets, sent: tuple[str, str, dict[str, Any] | None], status: str
) -> None:
    verb, path, body = sent
    bring_up(target(), rollout(1, part(1)))
    [model] = vertex.rules.models
    named = json.loads(json.dumps(body).replace("MODEL", model)) if body else None
    assert _send(vertex, verb, path, named)["error"]["status"] == status
    assert target().look().shares == {1: 1.0}
    assert len(vertex.rules.operations) == 3


def test_a_model_with_traffic_is_not_undeployed_beside_another_one(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1, share=0.5), part(2, "canary", 0.5)))
    refused = _send(vertex, "POST", "endpoints/digits:undeployModel", {"deployedModelId": "10"})
    assert refused["error"]["status"] == "FAILED_PRECONDITION"
    assert target().look().shares == {1: 0.5, 2: 0.5}


def test_while_an_operation_is_under_way_the_endpoint_takes_no_other_change(
    vertex: FakeVertex, target: Targets
) -> None:
    bring_up(target(), rollout(1, part(1, share=0.5), part(2, "canary", 0.5)))
    body = {"deployedModelId": "10", "trafficSplit": {"11": 100}}
    begun = _send(vertex, "POST", "endpoints/digits:undeployModel", body)
    assert not begun.get("done")
    split = {"trafficSplit": {"10": 100}}
    patched = _send(vertex, "PATCH", "endpoints/digits?updateMask=trafficSplit", split)
    assert patched["error"]["status"] == "ABORTED"
    assert _send(vertex, "DELETE", "endpoints/digits")["error"]["status"] == "FAILED_PRECONDITION"


@pytest.mark.heavy
def test_googles_own_sdk_reads_what_was_made(vertex: FakeVertex, target: Targets) -> None:
    import warnings

    from google.auth.credentials import AnonymousCredentials

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that this environment need not have
        from google.cloud import aiplatform

    bring_up(target(), rollout(1, part(1)))
    aiplatform.init(
        project="acme",
        location="europe-west4",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        api_endpoint=vertex.url,
        api_transport="rest",
    )
    [endpoint] = aiplatform.Endpoint.list()
    [model] = aiplatform.Model.list()
    assert endpoint.display_name == "digits"
    assert endpoint.traffic_split == {"10": 100}
    assert [one.model_version_id for one in endpoint.list_models()] == [model.version_id]
    assert model.display_name == "digits"
