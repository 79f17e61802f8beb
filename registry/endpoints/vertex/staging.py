"""The model repositories that Triton's containers are made from: a folder for each engine below the staging one."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.endpoints.target import Samples
from registry.endpoints.triton.config import Labels, ServingOptions, write_config
from registry.endpoints.triton.repository import CONFIG, TritonRepository
from registry.endpoints.triton.staging import Staged, golden_file
from registry.endpoints.vertex.naming import staged_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.endpoints.settings import VertexSettings
    from registry.endpoints.target import Part

OPTIONS = ServingOptions()
"""How a model runs in a container: more of it comes from more replicas, not from instances beside each other."""

_OWNER = "vertex"  # in place of an endpoint: what is staged serves all of them


@dataclass(frozen=True)
class Staging:
    """What lies below ``settings.staging`` for one registry; folders there are written once and never changed."""

    settings: VertexSettings
    registry: str
    storage_options: Mapping[str, Any] | None = None

    def put(self, part: Part) -> None:
        """Put a part's model repository there, ``config.pbtxt`` last; what is there already stays.

        Raises:
            EndpointError: Triton cannot serve the part. StoreError: The storage did not take it.
        """
        repository = self._repository(part)
        staged = repository.put(part.model, part)
        repository.configure(part.model, self._config(part, staged.digest))

    def address(self, part: Part) -> str:
        """Return the gs:// folder that is a part's model repository; nothing is asked."""
        return f"{self.settings.staging.rstrip('/')}/{staged_folder(part, self.registry, self._config(part, ''))}"

    def is_there(self, part: Part) -> bool:
        """Return whether a part's repository was written to its end, by what stands there; its bytes are not read."""
        repository = self._repository(part)
        marker = repository.marker(part.model)
        noted = marker is not None and str(part.number) in marker.versions
        return noted and repository.read(part.model, CONFIG) is not None

    def expected(self, part: Part) -> Samples | None:
        """Return golden inputs and the outputs that the engine must give for them; None where the version has none.

        An engine that rounds more than the model is held to what it gave when it was judged, which lies beside it.
        """
        if part.samples is None:
            return None
        own = self._repository(part).read(part.model, golden_file(part.number))
        inputs, outputs = part.samples
        return inputs, (outputs if own is None else np.load(io.BytesIO(own), allow_pickle=False))

    def staged_at(self, artifact_uri: str, number: int) -> Staged | None:
        """Return what lies in a staged folder, None where it is gone."""
        model = artifact_uri.rstrip("/").split("/")[-3]
        marker = self._at(artifact_uri).marker(model)
        return None if marker is None else marker.versions.get(str(number))

    def _repository(self, part: Part) -> TritonRepository:
        return self._at(self.address(part))

    def _at(self, address: str) -> TritonRepository:
        return TritonRepository(address, registry=self.registry, endpoint=_OWNER, storage_options=self.storage_options)

    def _config(self, part: Part, digest: str) -> bytes:
        labels = Labels(
            registry=self.registry,
            endpoint=_OWNER,
            number=part.number,
            version=part.version,
            digest=digest,
            metadata_digest=part.metadata_digest,
            variant=part.variant or "",
        )
        return write_config(part.model, part, labels=labels, options=OPTIONS)
