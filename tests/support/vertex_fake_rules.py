"""The state of a fake Vertex AI and the rules by which requests change it; ``vertex_fake`` serves it over HTTP.

What takes minutes there takes some looks here: an operation ends when it has been asked for often enough, and has its
effect then. Until it has ended, what it works on takes no other change, as there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2, json_format
from google.protobuf.timestamp_pb2 import Timestamp
from vertex_fake_checks import (
    HTTP_OF,
    Refusal,
    check_deployment,
    check_display_name,
    check_endpoint_id,
    check_labels,
    check_model,
    check_split,
    parsed,
    refuse_unless,
)
from vertex_fake_container import Container, ContainerError
from vertex_fake_operations import Operation, plain

__all__ = ["HTTP_OF", "Refusal", "VertexRules"]

Answer = tuple[int, dict[str, str], bytes]
ReadFolder = Callable[[str], dict[str, bytes]]
"""Gives the bytes below a gs:// folder, by their path in it."""


@dataclass
class VertexRules:
    """One project and region. ``looks`` is how many an operation takes; ``failing`` are the errors of the next ones.

    ``lag`` is how many predictions after a change of traffic still go where they went before.
    """

    read: ReadFolder
    project: str = "acme"
    number: str = "123456789012"
    region: str = "europe-west4"
    looks: int = 3
    failing: list[tuple[str, str]] = field(default_factory=list)
    lag: int = 0
    models: dict[str, list[Any]] = field(default_factory=dict)
    endpoints: dict[str, Any] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with nothing deployed."""
        self._containers: dict[tuple[str, str], Container] = {}
        self._arguments: dict[tuple[str, str], list[str]] = {}
        self._files: dict[tuple[str, str], dict[str, bytes]] = {}
        self._before: tuple[int, dict[str, int]] = (0, {})
        self._draw = random.Random(7)  # noqa: S311 - no secret

    def handle(self, verb: str, path: str, query: dict[str, str], headers: Any, body: bytes) -> Answer:
        """Return the answer to a request.

        Raises:
            Refusal: The service would refuse it.
        """
        query.pop("$alt", None)
        found = re.fullmatch(r"/(?:v1|ui)/projects/([^/]+)/locations/([^/]+)/(.+)", path)
        refuse_unless(found, f"{path} is not emulated", "UNIMPLEMENTED")
        assert found is not None
        known = found[1] in {self.project, self.number}
        refuse_unless(known, f"Permission denied on resource project {found[1]}.", "PERMISSION_DENIED")
        refuse_unless(found[2] == self.region, f"region {found[2]} is not that of this endpoint: {self.region}")
        if verb == "POST" and found[3].endswith(":rawPredict"):
            name = found[3].removeprefix("endpoints/").removesuffix(":rawPredict")
            return self._predict(name, headers["Content-Type"], body)
        message = self._change(verb, found[3], query, body) if verb != "GET" else self._read(found[3], query)
        refuse_unless(not query, f"unknown name in the query: {sorted(query)}")
        return 200, {"Content-Type": "application/json"}, json_format.MessageToJson(plain(message)).encode()

    def restored(self, kept: VertexRules) -> None:
        """Take over the state of other rules, of which nothing is under way; they stay as they are."""
        self.models = {name: [v1.Model(one) for one in versions] for name, versions in kept.models.items()}
        self.endpoints = {name: v1.Endpoint(one) for name, one in kept.endpoints.items()}
        self.operations = list(kept.operations)
        self._containers, self._files = dict(kept._containers), dict(kept._files)
        self._arguments = dict(kept._arguments)
        self._before, self._draw = kept._before, random.Random(7)  # noqa: S311 - no secret

    def break_files(self, version: Any) -> None:
        """Make the container of an uploaded version one that does not start."""
        self._files[version.name.rpartition("/")[2], version.version_id] = {}

    # ------------------------------------------------------------------------------------------------------------ reads

    def _read(self, path: str, query: dict[str, str]) -> Any:
        if found := re.fullmatch(r"(.+)/operations/(\d+)", path):
            return self._operation(path)
        if found := re.fullmatch(r"((?:endpoints|models)/[^/]+)/operations", path):
            query.pop("pageSize", None)
            listed = [one.message() for one in self.operations if one.resource == found[1]]
            return operations_pb2.ListOperationsResponse(operations=listed)
        if found := re.fullmatch(r"endpoints/([^/]+)", path):
            return self._endpoint(found[1])
        if found := re.fullmatch(r"models/([^/@]+)(?:@(.+))?", path):
            return self._version(found[1], found[2] or "default")
        if path == "endpoints":
            return v1.ListEndpointsResponse(endpoints=list(self.endpoints.values()))
        if path == "models":
            return v1.ListModelsResponse(models=[self._version(name, "default") for name in self.models])
        raise Refusal("UNIMPLEMENTED", f"GET {path} is not emulated")

    def _operation(self, path: str) -> Any:
        found = next((one for one in self.operations if one.name.endswith(path)), None)
        refuse_unless(found, f"Operation {path} not found.", "NOT_FOUND")
        assert found is not None
        found.look()
        return found.message()

    def _endpoint(self, name: str) -> Any:
        refuse_unless(name in self.endpoints, f"Endpoint `{self._full('endpoints', name)}` not found.", "NOT_FOUND")
        return self.endpoints[name]

    def _version(self, name: str, version: str) -> Any:
        for one in self.models.get(name, []):
            if version == one.version_id or version in one.version_aliases:
                return one
        raise Refusal("NOT_FOUND", f"The Model `{self._full('models', name)}@{version}` does not exist.")

    # ---------------------------------------------------------------------------------------------------------- changes

    def _change(self, verb: str, path: str, query: dict[str, str], body: bytes) -> Any:
        if (verb, path) == ("POST", "endpoints"):
            return self._create(query.pop("endpointId", ""), parsed(body, v1.Endpoint))
        if (verb, path) == ("POST", "models:upload"):
            return self._upload(parsed(body, v1.UploadModelRequest))
        if found := re.fullmatch(r"endpoints/([^/:]+)(?::(deployModel|undeployModel))?", path):
            match verb, found[2]:
                case "POST", "deployModel":
                    return self._deploy(found[1], parsed(body, v1.DeployModelRequest))
                case "POST", "undeployModel":
                    return self._undeploy(found[1], parsed(body, v1.UndeployModelRequest))
                case "PATCH", None:
                    return self._update(found[1], query.pop("updateMask", ""), parsed(body, v1.Endpoint))
                case "DELETE", None:
                    return self._delete(found[1])
        raise Refusal("UNIMPLEMENTED", f"{verb} {path} is not emulated")

    def _create(self, name: str, endpoint: Any) -> Any:
        check_endpoint_id(name)
        check_display_name(endpoint.display_name)
        check_labels(endpoint.labels)
        refuse_unless(not endpoint.traffic_split, "traffic_split cannot be set before a model is deployed")
        taken = name in self.endpoints or self._busy(f"endpoints/{name}")
        refuse_unless(not taken, f"Endpoint with ID {name} already exists.", "ALREADY_EXISTS")

        def effect() -> Any:
            endpoint.name, endpoint.create_time = self._full("endpoints", name), self._now()
            self.endpoints[name] = endpoint
            return endpoint

        return self.begin(f"endpoints/{name}", effect, v1.CreateEndpointOperationMetadata())

    def _upload(self, request: Any) -> Any:
        model, parent = request.model, request.parent_model
        check_model(model)
        if parent:
            name = parent.rpartition("/")[2]
            refuse_unless(not request.model_id, "only one of parent_model and model_id may be set")
            refuse_unless(name in self.models, f"The parent model {parent} does not exist.", "NOT_FOUND")
        else:
            name = request.model_id
            refuse_unless(re.fullmatch(r"[a-z_][a-z0-9_-]{0,62}", name), f"model_id {name!r} is invalid")
            taken = name in self.models or self._busy(f"models/{name}")
            refuse_unless(not taken, f"A model with ID {name} already exists.", "ALREADY_EXISTS")
        refuse_unless(not self._busy(f"models/{name}"), "Another version is being uploaded.", "ABORTED")
        used = {alias for one in self.models.get(name, []) for alias in one.version_aliases}
        clash = sorted(used & set(model.version_aliases))
        refuse_unless(not clash, f"version aliases {clash} are those of another version", "ALREADY_EXISTS")

        def effect() -> Any:
            files = self.read(model.artifact_uri)
            refuse_unless(files, f"No files found at {model.artifact_uri}.", "FAILED_PRECONDITION")
            versions = self.models.setdefault(name, [])
            kept = v1.Model(model)
            kept.name, kept.version_id = self._full("models", name), str(len(versions) + 1)
            kept.version_aliases = [*model.version_aliases, *([] if versions else ["default"])]
            kept.create_time = kept.version_create_time = self._now()
            # The messages take words and None as well as what their annotations say.
            dedicated: Any = v1.Model.DeploymentResourcesType.DEDICATED_RESOURCES
            kept.supported_deployment_resources_types = [dedicated]
            self._arguments[name, kept.version_id] = list(model.container_spec.args)
            self._files[name, kept.version_id] = files
            del kept.container_spec  # input only
            versions.append(kept)
            return v1.UploadModelResponse(model=kept.name, model_version_id=kept.version_id)

        return self.begin(f"models/{name}", effect, v1.UploadModelOperationMetadata())

    def _deploy(self, name: str, request: Any) -> Any:
        endpoint, deployed = self._free(name), request.deployed_model
        check_deployment(deployed)
        model, _, version = deployed.model.rpartition("/")[2].partition("@")
        found = self._version(model, version or "default")
        ids = {one.id for one in endpoint.deployed_models}
        refuse_unless(deployed.id not in ids, f"DeployedModel {deployed.id} already exists.", "ALREADY_EXISTS")
        split = dict(request.traffic_split)
        refuse_unless(not split or "0" in split, 'traffic_split must name the model that is deployed as "0"')
        check_split(split, {*ids, "0"})

        def effect() -> Any:
            kept = v1.DeployedModel(deployed)
            kept.model, kept.model_version_id, kept.create_time = found.name, found.version_id, self._now()
            try:
                files, arguments = self._files[model, found.version_id], self._arguments[model, found.version_id]
                self._containers[name, kept.id] = Container(files, arguments)
            except ContainerError as error:
                raise Refusal("FAILED_PRECONDITION", f"Model server exited unexpectedly. Its logs: {error}.") from error
            endpoint.deployed_models.append(kept)
            if split:
                self._route(endpoint, {kept.id if key == "0" else key: share for key, share in split.items()})
            return v1.DeployModelResponse(deployed_model=kept)

        return self.begin(f"endpoints/{name}", effect, v1.DeployModelOperationMetadata())

    def _undeploy(self, name: str, request: Any) -> Any:
        endpoint, gone = self._free(name), request.deployed_model_id
        left = [one for one in endpoint.deployed_models if one.id != gone]
        refuse_unless(len(left) < len(endpoint.deployed_models), f"DeployedModel {gone} not found.", "NOT_FOUND")
        split = dict(request.traffic_split) or dict(endpoint.traffic_split)
        refuse_unless(not left or not split.get(gone), f"{gone} has traffic assigned to it", "FAILED_PRECONDITION")
        if left and request.traffic_split:
            check_split(split, {one.id for one in endpoint.deployed_models})

        def effect() -> Any:
            endpoint.deployed_models = left
            kept = {key: share for key, share in split.items() if key != gone}
            self._route(endpoint, kept if left else {})
            return v1.UndeployModelResponse()

        return self.begin(f"endpoints/{name}", effect, v1.UndeployModelOperationMetadata())

    def _update(self, name: str, mask: str, wanted: Any) -> Any:
        endpoint = self._endpoint(name)
        refuse_unless(not self._busy(f"endpoints/{name}"), "Another operation is under way.", "ABORTED")
        refuse_unless(mask, "update_mask is needed")
        refuse_unless(mask == "trafficSplit", f"update_mask {mask} is not emulated", "UNIMPLEMENTED")
        split = dict(wanted.traffic_split)
        check_split(split, {one.id for one in endpoint.deployed_models})
        self._route(endpoint, split)
        return endpoint

    def _delete(self, name: str) -> Any:
        endpoint = self._free(name)
        refuse_unless(not endpoint.deployed_models, "The endpoint has deployed models.", "FAILED_PRECONDITION")

        def effect() -> Any:
            del self.endpoints[name]
            return empty_pb2.Empty()

        return self.begin(f"endpoints/{name}", effect, v1.DeleteOperationMetadata())

    # ------------------------------------------------------------------------------------------------------ predictions

    def _predict(self, name: str, content_type: str, body: bytes) -> Answer:
        endpoint = self._endpoint(name)
        refuse_unless(len(body) <= 1_500_000, "The request is larger than 1.5 MB.")
        now = {key: share for key, share in endpoint.traffic_split.items() if share}
        lag, before = self._before
        if lag and before:
            self._before, now = (lag - 1, before), before
        refuse_unless(now, "The endpoint has no deployed model with traffic.", "FAILED_PRECONDITION")
        [key] = self._draw.choices(list(now), weights=list(now.values()))
        status, headers, data = self._containers[name, key].predict(body, content_type)
        return status, {**headers, "X-Vertex-AI-Endpoint-Id": name, "X-Vertex-AI-Deployed-Model-Id": key}, data

    def _route(self, endpoint: Any, split: dict[str, int]) -> None:
        self._before = self.lag, {key: share for key, share in endpoint.traffic_split.items() if share}
        endpoint.traffic_split = split

    # ------------------------------------------------------------------------------------------------------- operations

    def _free(self, name: str) -> Any:
        endpoint = self._endpoint(name)
        refuse_unless(
            not self._busy(f"endpoints/{name}"), "There are other operations on the endpoint.", "FAILED_PRECONDITION"
        )
        return endpoint

    def _busy(self, resource: str) -> bool:
        under_way = (one for one in self.operations if one.resource == resource and not one.done)
        return any(not isinstance(one.metadata, v1.ExportModelOperationMetadata) for one in under_way)

    def begin(self, resource: str, effect: Callable[[], Any], metadata: Any) -> Any:
        """Begin an operation on an endpoint or a model (``models/digits-1a2b3c4d``), and return its message."""
        name = f"{self._full(*resource.split('/'))}/operations/{len(self.operations) + 1}"
        error = self.failing.pop(0) if self.failing else None
        self.operations.append(Operation(name, resource, self.looks, effect, metadata, error))
        return self.operations[-1].message()

    def _full(self, kind: str, name: str) -> str:
        return f"projects/{self.number}/locations/{self.region}/{kind}/{name}"

    def _now(self) -> Any:
        now = Timestamp()
        now.GetCurrentTime()
        return now
