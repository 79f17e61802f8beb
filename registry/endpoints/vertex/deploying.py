"""One endpoint of Vertex AI and the models deployed on it: each change looks first, and does only what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.endpoints.vertex.naming import (
    ENDPOINT_LABEL,
    REGISTRY_LABEL,
    WHOLE,
    deployment_id,
    display_name,
    endpoint_name,
    labels_of,
    last_part,
    location_of,
    percent_of,
)
from registry.errors import EndpointError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.endpoints.settings import VertexSettings
    from registry.endpoints.target import Part, Rollout
    from registry.endpoints.vertex.service import Service
    from registry.endpoints.vertex.uploading import Uploaded, Uploading

Split = dict[str, int]
"""Whole percent by the id of the deployed model, without those that get nothing; adds up to 100, or is empty."""


@dataclass(frozen=True)
class Deploying:
    """The endpoint of one name in one region."""

    service: Service
    settings: VertexSettings
    registry: str
    endpoint: str
    uploading: Uploading

    @property
    def name(self) -> str:
        """The endpoint's resource name."""
        return endpoint_name(self.settings, self.endpoint)

    def find(self) -> Any | None:
        """Return the endpoint, None where there is none.

        Raises:
            RefusedError: It belongs to somebody else.
        """
        found = self.service.get_endpoint(self.name)
        if found is None:
            return None
        owner = (found.labels.get(REGISTRY_LABEL), found.labels.get(ENDPOINT_LABEL))
        if owner != (self.registry, self.endpoint):
            whose = f"endpoint {owner[1]} of registry {owner[0]}" if all(owner) else "somebody who is not modelway"
            raise RefusedError(
                f"{self.name} is there already and belongs to {whose}; nothing was changed. Give this endpoint another "
                f"name, or use another project or region."
            )
        return found

    def get(self) -> Any:
        """Return the endpoint.

        Raises:
            EndpointError: It is not there. RefusedError: It belongs to somebody else.
        """
        if (found := self.find()) is None:
            raise EndpointError(f"{self.name} is not there: run the roll-out again, which makes it.")
        return found

    def create(self) -> None:
        """Make the endpoint, if it is not there."""
        request = {
            "parent": location_of(self.settings),
            "endpoint_id": last_part(self.name),
            "endpoint": {
                "display_name": display_name(self.endpoint),
                "labels": labels_of(self.registry, self.endpoint),
            },
        }

        def step() -> None:
            if self.find() is None:
                self.service.create_endpoint(f"create {self.name}", request)

        self.service.converge(self.name, step)

    def deploy(self, rollout: Rollout, place: int) -> None:
        """Deploy the part at ``place`` beside what serves, with no traffic; the first one of all gets all of it."""
        part = rollout.parts[place]
        uploaded = self.uploading.get(part)

        def step() -> None:
            endpoint = self.get()
            if self._deployed(endpoint, uploaded) is not None:
                return
            now = split_of(endpoint)
            request = {
                "endpoint": self.name,
                "deployed_model": {
                    "id": deployment_id(rollout.generation, place),
                    "model": uploaded.full_name,
                    "display_name": display_name(part.full_name),
                    "dedicated_resources": self._resources(),
                    "service_account": self.settings.service_account or "",
                },
                # "0" is the one being deployed. Where nothing serves yet, it can only be asked if it has the traffic.
                "traffic_split": {**now, "0": 0} if now else {"0": WHOLE},
            }
            self.service.deploy(f"deploy {part.full_name} at {self.name}", request)

        self.service.converge(self.name, step)

    def ids(self, rollout: Rollout, endpoint: Any) -> tuple[str, ...]:
        """Return the ids under which a rollout's parts are deployed, in their order.

        Raises:
            EndpointError: One is not deployed.
        """
        found = []
        for part in rollout.parts:
            deployed = self._deployed(endpoint, self.uploading.get(part))
            if deployed is None:
                raise EndpointError(f"{part.full_name} is not deployed at {self.name}: run the roll-out again.")
            found.append(str(deployed.id))
        return tuple(found)

    def route(self, words: str, split: Mapping[str, int]) -> None:
        """Make this the endpoint's traffic, in one request; nothing is sent if it is so already."""

        def step() -> None:
            if split_of(self.get()) != split:
                request = {
                    "endpoint": {"name": self.name, "traffic_split": dict(split)},
                    "update_mask": {"paths": ["traffic_split"]},
                }
                self.service.update_endpoint(words, request)

        self.service.converge(self.name, step)

    def undeploy(self, needless: Callable[[Any], bool]) -> None:
        """Take away what is needless and gets no traffic, one after the other.

        Args:
            needless: Takes a DeployedModel.
        """

        def step() -> None:
            while True:
                endpoint = self.get()
                now = split_of(endpoint)
                idle = (one for one in endpoint.deployed_models if one.id not in now and needless(one))
                if (one := next(idle, None)) is None:
                    return
                request = {"endpoint": self.name, "deployed_model_id": one.id}
                self.service.undeploy(f"undeploy {one.display_name} from {self.name}", request)

        self.service.converge(self.name, step)

    def empty(self) -> None:
        """Take everything away; what has most of the traffic goes last, and gets the rest of it until then."""

        def step() -> None:
            while (endpoint := self.find()) is not None and endpoint.deployed_models:
                now = split_of(endpoint)
                first, *others = sorted(endpoint.deployed_models, key=lambda one: (now.get(one.id, 0), one.id))
                request: dict[str, Any] = {"endpoint": self.name, "deployed_model_id": first.id}
                if others and first.id in now:
                    last = others[-1].id
                    rest = {key: value for key, value in now.items() if key != first.id}
                    request["traffic_split"] = rest | {last: rest.get(last, 0) + now[first.id]}
                self.service.undeploy(f"undeploy {first.display_name} from {self.name}", request)

        self.service.converge(self.name, step)

    def delete(self) -> None:
        """Delete the endpoint, if it is there; nothing may be deployed on it."""

        def step() -> None:
            if self.find() is not None:
                self.service.delete_endpoint(f"delete {self.name}", {"name": self.name})

        self.service.converge(self.name, step)

    def _deployed(self, endpoint: Any, uploaded: Uploaded) -> Any | None:
        """Return what is deployed of a version on the machines that the settings name, however it came there."""
        wanted = (*_machine(self._resources()), self.settings.service_account or "")
        return next(
            (
                one
                for one in endpoint.deployed_models
                if uploaded.is_of(one) and (*_machine_of(one), one.service_account) == wanted
            ),
            None,
        )

    def _resources(self) -> dict[str, Any]:
        machine: dict[str, Any] = {"machine_type": self.settings.machine_type}
        if self.settings.accelerator_type:
            machine["accelerator_type"] = self.settings.accelerator_type
            machine["accelerator_count"] = self.settings.accelerator_count
        return {
            "machine_spec": machine,
            "min_replica_count": self.settings.min_replicas,
            "max_replica_count": self.settings.max_replicas,
        }


def split_of(endpoint: Any) -> Split:
    """Return an endpoint's traffic without those that get none of it."""
    return {str(key): int(value) for key, value in endpoint.traffic_split.items() if value}


def wanted_split(parts: tuple[Part, ...], ids: tuple[str, ...]) -> Split:
    """Return the traffic that a rollout wants, whose shares are whole percent (``VertexTarget.check``)."""
    return {key: percent for key, part in zip(ids, parts, strict=True) if (percent := percent_of(part.share))}


def _machine(resources: dict[str, Any]) -> tuple[object, ...]:
    spec = resources["machine_spec"]
    return (
        spec["machine_type"],
        spec.get("accelerator_type", "ACCELERATOR_TYPE_UNSPECIFIED"),
        spec.get("accelerator_count", 0),
        resources["min_replica_count"],
        resources["max_replica_count"],
    )


def _machine_of(deployed: Any) -> tuple[object, ...]:
    resources = deployed.dedicated_resources
    spec = resources.machine_spec
    replicas = resources.min_replica_count, resources.max_replica_count
    return spec.machine_type, spec.accelerator_type.name, spec.accelerator_count, *replicas
