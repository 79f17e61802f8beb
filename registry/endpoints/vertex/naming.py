"""How what is made on Vertex AI is named, within its grammars, so that a second run finds it again; pure."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from registry.encoding import canonical_json
from registry.errors import EndpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.endpoints.settings import VertexSettings
    from registry.endpoints.target import Part

REGISTRY_LABEL = "modelway-registry"
ENDPOINT_LABEL = "modelway-endpoint"

WHOLE = 100
"""What the traffic of an endpoint adds up to: Vertex AI splits it in whole percent."""

_DISPLAY = 128  # the longest display name, in characters
_MODEL_NAME = 54  # of the 63 characters of a model's id; a hyphen and 8 digits of a digest follow
_EXACT = 1e-9
_STAGED = re.compile(r"/[0-9a-f]{32}/[a-z][a-z0-9_-]*/([1-9][0-9]*)/[0-9a-f]{32}/?$")


def location_of(settings: VertexSettings) -> str:
    """Return the resource name that everything of a region begins with."""
    return f"projects/{settings.project}/locations/{settings.region}"


def model_name(settings: VertexSettings, registry: str, model: str) -> str:
    """Return the resource name of a registry's model; two registries of one project do not share one."""
    digest = hashlib.sha256(f"{registry}/{model}".encode()).hexdigest()[:8]
    return f"{location_of(settings)}/models/{model[:_MODEL_NAME].rstrip('-_')}-{digest}"


def endpoint_name(settings: VertexSettings, endpoint: str) -> str:
    """Return the resource name of an endpoint, whose id is its name with ``-`` for ``_``."""
    return f"{location_of(settings)}/endpoints/{endpoint.replace('_', '-')}"


def last_part(resource: str) -> str:
    """Return the id at the end of a resource name, without a version; the service writes the project as a number."""
    return resource.rpartition("/")[2].partition("@")[0]


def labels_of(registry: str, endpoint: str | None = None) -> dict[str, str]:
    """Return the labels that say whose a model, or an endpoint, is."""
    return {REGISTRY_LABEL: registry, **({} if endpoint is None else {ENDPOINT_LABEL: endpoint})}


def version_alias(label: str) -> str:
    """Return a version's label in the grammar of aliases: ``v3``, and ``v1-2-0-rc-1`` for ``1.2.0-rc.1``."""
    words = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
    return words if words[:1].isalpha() else f"v{words}"


def upload_alias(label: str, spec: Mapping[str, object]) -> str:
    """Return the alias by which one upload is found again: the label, and a digest of all that was uploaded."""
    return f"{version_alias(label)}-{hashlib.sha256(canonical_json(spec)).hexdigest()[:12]}"


def display_name(words: str) -> str:
    """Return words cut to what a display name may hold."""
    return words[:_DISPLAY]


def deployment_id(generation: int, place: int) -> str:
    """Return the id of the deployment that a generation makes for the part at ``place``: at most 10 digits.

    A generation is never used twice, so a request that was sent twice deploys once, and one id never means two things.

    Raises:
        EndpointError: The generation has more than 9 digits.
    """
    found = f"{generation}{place}"
    if len(found) > 10:  # noqa: PLR2004 - the service's own grammar
        raise EndpointError(
            f"generation {generation} has no id on Vertex AI, which takes 10 digits: stop the endpoint."
        )
    return found


def staged_folder(part: Part, registry: str, configuration: bytes) -> str:
    """Return where a part's model repository lies below the staging folder: what would differ lies elsewhere.

    Args:
        part: The version.
        registry: The registry's id.
        configuration: Triton's, which names the version's record and the engine, but without the engine's own digest,
            so that what is there already need not be fetched.
    """
    digest = hashlib.sha256(configuration).hexdigest()[:32]
    return f"{registry}/{part.model}/{part.number}/{digest}"


def number_of(artifact_uri: str) -> int | None:
    """Return the ordinal that a staged folder's URI tells, None if it is none of ours."""
    found = _STAGED.search(artifact_uri)
    return None if found is None else int(found[1])


def percent_of(share: float) -> int | None:
    """Return a share, 0 to 1, in whole percent; None if it is none."""
    percent = round(share * WHOLE)
    return percent if abs(share * WHOLE - percent) < _EXACT else None
