"""Versions in Vertex AI's Model Registry: one for each engine and container, found again by its alias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.endpoints.vertex.naming import (
    REGISTRY_LABEL,
    display_name,
    labels_of,
    last_part,
    location_of,
    model_name,
    upload_alias,
    version_alias,
)
from registry.errors import EndpointError, RefusedError

if TYPE_CHECKING:
    from registry.endpoints.settings import VertexSettings
    from registry.endpoints.target import Part
    from registry.endpoints.vertex.service import Service
    from registry.endpoints.vertex.staging import Staging

_PORT = 8080


@dataclass(frozen=True)
class Uploaded:
    """A version in Vertex AI's Model Registry: its model's resource name as we write it, and its own number there."""

    model: str
    version_id: str

    @property
    def full_name(self) -> str:
        """The resource name of this version: ``projects/.../models/digits-1a2b3c4d@3``."""
        return f"{self.model}@{self.version_id}"

    def is_of(self, deployed: Any) -> bool:
        """Return whether a DeployedModel is of this version; the service writes the project as a number."""
        return (last_part(deployed.model), deployed.model_version_id) == (last_part(self.model), self.version_id)


@dataclass(frozen=True)
class Uploading:
    """The models of one registry in one region."""

    service: Service
    settings: VertexSettings
    registry: str
    staging: Staging

    def find(self, part: Part) -> Uploaded | None:
        """Return the version that serves a part, None if it was not uploaded yet."""
        name = model_name(self.settings, self.registry, part.model)
        found = self.service.get_model(f"{name}@{self._alias(part)}")
        return None if found is None else Uploaded(name, found.version_id)

    def get(self, part: Part) -> Uploaded:
        """Return the version that serves a part.

        Raises:
            EndpointError: It was not uploaded.
        """
        if (found := self.find(part)) is None:
            raise EndpointError(f"{part.full_name} is not in Vertex AI's Model Registry: run the roll-out again.")
        return found

    def upload(self, part: Part) -> None:
        """Upload a part's version, if there is none yet, and wait for it.

        Raises:
            RefusedError: A model with this id is there, and is not of this registry.
            VertexError: The service refused, or did not answer.
        """
        name = model_name(self.settings, self.registry, part.model)
        self.service.converge(name, lambda: self._upload(part, name))

    def _upload(self, part: Part, name: str) -> None:
        if self.find(part) is not None:
            return
        if not self.staging.is_there(part):
            raise EndpointError(
                f"{part.full_name} is not whole at {self.staging.address(part)}: run the roll-out again."
            )
        model = self.service.get_model(name)
        if model is not None and model.labels.get(REGISTRY_LABEL) != self.registry:
            raise RefusedError(
                f"{name} is there and not of this registry, so {part.full_name} is not uploaded; nothing was changed. "
                f"Use another project or region, or delete that model if nobody needs it."
            )
        aliases = [self._alias(part)]
        label = version_alias(part.version)
        if self.service.get_model(f"{name}@{label}") is None:
            aliases.insert(0, label)
        request: dict[str, Any] = {"parent": location_of(self.settings), "model": self._model(part, aliases)}
        request |= {"model_id": last_part(name)} if model is None else {"parent_model": name}
        self.service.upload(f"upload {part.full_name}", request)

    def _alias(self, part: Part) -> str:
        return upload_alias(part.version, {"artifact_uri": self.staging.address(part), **self._container(part)})

    def _model(self, part: Part, aliases: list[str]) -> dict[str, Any]:
        return {
            "display_name": display_name(part.model),
            "version_description": f"{part.full_name}, {part.engine}",
            "version_aliases": aliases,
            "labels": labels_of(self.registry),
            "artifact_uri": self.staging.address(part),
            "container_spec": self._container(part),
        }

    def _container(self, part: Part) -> dict[str, Any]:
        """Return Triton as a container, which takes the bodies of rawPredict as its own protocol's."""
        return {
            "image_uri": self.settings.image,
            "command": ["tritonserver"],
            "args": [
                "--model-repository=$(AIP_STORAGE_URI)",
                "--allow-vertex-ai=true",
                f"--vertex-ai-default-model={part.model}",
                "--strict-readiness=true",
            ],
            "ports": [{"container_port": _PORT}],
            "predict_route": f"/v2/models/{part.model}/infer",
            "health_route": "/v2/health/ready",
        }
