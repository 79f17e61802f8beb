"""What Vertex AI refuses of a model, an endpoint or a deployment, as its reference tells it."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import json_format

HTTP_OF = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
}
CODE_OF = {"INVALID_ARGUMENT": 3, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "INTERNAL": 13, "UNAVAILABLE": 14}

_MACHINES = re.compile(r"(n1|n2|e2|g2|a2|a3|c3)-[a-z0-9-]+")
_ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
_LABEL = re.compile(r"[a-z0-9_-]{0,64}")


class Refusal(Exception):  # noqa: N818 - an answer
    """A canonical status, and the service's words."""

    def __init__(self, status: str, words: str) -> None:
        """Keep both."""
        self.status = status
        super().__init__(words)


def refuse_unless(condition: object, words: str, status: str = "INVALID_ARGUMENT") -> None:
    """Raise a Refusal unless a condition holds."""
    if not condition:
        raise Refusal(status, words)


def parsed(body: bytes, kind: Any) -> Any:
    """Return a body as one of the service's own messages.

    Raises:
        Refusal: It is none, or has a field that the message has not.
    """
    message = kind()
    try:
        json_format.Parse(body, kind.pb(message), ignore_unknown_fields=False)
    except json_format.ParseError as error:
        raise Refusal("INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from None
    return message


def check_display_name(name: str) -> None:
    """A display name is needed, and has 128 characters at most."""
    refuse_unless(0 < len(name) <= 128, f"display_name has {len(name)} characters")


def check_labels(labels: Any) -> None:
    """Keys and values have lower-case letters, digits, underscores and dashes, 64 at most."""
    for word in (*labels.keys(), *labels.values()):
        refuse_unless(_LABEL.fullmatch(word), f"label {word!r} is invalid")


def check_endpoint_id(name: str) -> None:
    """An endpoint's id begins with a letter and has 63 characters, or is a number of 9 digits."""
    refuse_unless(
        re.fullmatch(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}", name), f"endpoint_id {name!r} is invalid"
    )


def check_model(model: Any) -> None:
    """A model is a container of Artifact Registry over a folder of a bucket, with aliases in their grammar."""
    check_display_name(model.display_name)
    check_labels(model.labels)
    refuse_unless(model.artifact_uri.startswith("gs://"), "artifact_uri must be a Cloud Storage URI (gs://)")
    container = model.container_spec
    image = container.image_uri
    ours = image.partition("/")[0].endswith((".pkg.dev", "gcr.io"))
    refuse_unless(ours, f"image_uri {image!r} is not in Artifact Registry")
    refuse_unless(container.predict_route.startswith("/"), "predict_route must begin with a /")
    refuse_unless(container.health_route.startswith("/"), "health_route must begin with a /")
    for alias in model.version_aliases:
        refuse_unless(_ALIAS.fullmatch(alias), f"version alias {alias!r} is invalid")
    refuse_unless(not (model.name or model.version_id), "output only fields are set")


def check_deployment(deployed: Any) -> None:
    """A deployed model has an id of digits and a machine, with accelerators whose number is given."""
    refuse_unless(re.fullmatch(r"[0-9]{1,10}", deployed.id), f"DeployedModel.id {deployed.id!r} is invalid")
    refuse_unless(len(deployed.display_name) <= 128, "DeployedModel.display_name is too long")
    refuse_unless("dedicated_resources" in deployed, "'dedicated_resources' must be set for this model")
    spec = deployed.dedicated_resources.machine_spec
    refuse_unless(_MACHINES.fullmatch(spec.machine_type), f"machine type {spec.machine_type!r} is not supported")
    refuse_unless(bool(spec.accelerator_type) == bool(spec.accelerator_count), "accelerator_count must be set")
    least, most = deployed.dedicated_resources.min_replica_count, deployed.dedicated_resources.max_replica_count
    refuse_unless(1 <= least <= (most or least), "min_replica_count must be at least 1, and no more than the most")


def check_split(split: dict[str, int], known: set[str]) -> None:
    """Traffic adds up to 100, and goes to deployed models only."""
    refuse_unless(not split or sum(split.values()) == 100, f"traffic_split {split} does not add up to 100")
    refuse_unless(all(0 <= share <= 100 for share in split.values()), f"traffic_split {split} is out of range")
    unknown = sorted(set(split) - known)
    refuse_unless(not unknown, f"traffic_split names {unknown}, which are not deployed on the endpoint")
