"""Where an endpoint serves and how: the settings of each kind of target, kept with every generation; no secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, ValidationError

from registry.base import StoredRecord
from registry.errors import InvalidInputError, did_you_mean
from registry.names import near


class LocalSettings(StoredRecord):
    """A process of this machine that speaks the Open Inference Protocol on loopback.

    ``port`` and ``grpc_port`` 0 take a free one, which the endpoint then keeps. Requests that come while an engine runs
    are answered together, at most ``max_batch`` samples at once; none waits longer than ``max_delay_ms`` for company.
    More than ``max_concurrency`` requests at once are refused (429), and one that takes longer than ``timeout_s`` ends
    (504). ``log_share`` of the requests (0 to 1) are kept in Parquet files.
    """

    kind: Literal["local"] = "local"
    port: int = Field(default=0, ge=0, le=65535)
    grpc_port: int = Field(default=0, ge=0, le=65535)
    workers: int = Field(default=2, ge=1)
    engine_threads: int = Field(default=1, ge=1)
    max_batch: int = Field(default=32, ge=1)
    max_delay_ms: float = Field(default=0.0, ge=0.0, le=1000.0)
    max_concurrency: int = Field(default=256, ge=1)
    timeout_s: float = Field(default=30.0, gt=0.0)
    log_share: float = Field(default=0.0, ge=0.0, le=1.0)


class TritonSettings(StoredRecord):
    """A Triton Inference Server with explicit model control.

    ``repository`` is its model repository as this machine reaches it (a folder, gs:// or s3://), ``grpc`` and ``http``
    the host and port of its two services. ``model_name`` is the model's name there, the registry's without it.
    ``compute_capability`` and ``tensorrt_version`` (8.0 and 10.13.3 for instance) say which TensorRT engines its GPU
    runs; without them it gets none.
    """

    kind: Literal["triton"] = "triton"
    repository: str
    grpc: str = "127.0.0.1:8001"
    http: str | None = None
    model_name: str | None = None
    instances: int = Field(default=1, ge=1)
    device: Literal["auto", "cpu", "gpu"] = "auto"
    max_batch: int = Field(default=32, ge=0)
    max_delay_ms: float = Field(default=0.0, ge=0.0, le=1000.0)
    timeout_s: float = Field(default=120.0, gt=0.0)
    compute_capability: str | None = None
    tensorrt_version: str | None = None


class VertexSettings(StoredRecord):
    """An endpoint of Vertex AI, served by Triton as a custom container.

    ``staging`` is the gs:// folder where the container's model repositories are written. ``api_endpoint`` is the
    service's address where it is not the region's own. ``timeout_s`` is how long one operation may take, ``poll_s`` how
    often it is looked at.
    """

    kind: Literal["vertex"] = "vertex"
    project: str
    region: str
    staging: str
    image: str = "nvcr.io/nvidia/tritonserver:25.10-py3"
    machine_type: str = "n1-standard-4"
    accelerator_type: str | None = None
    accelerator_count: int = Field(default=0, ge=0)
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=1, ge=1)
    service_account: str | None = None
    api_endpoint: str | None = None
    timeout_s: float = Field(default=1800.0, gt=0.0)
    poll_s: float = Field(default=5.0, gt=0.0)
    compute_capability: str | None = None
    tensorrt_version: str | None = None


TargetSettings: TypeAlias = Annotated[LocalSettings | TritonSettings | VertexSettings, Field(discriminator="kind")]
TargetKind: TypeAlias = Literal["local", "triton", "vertex"]

_KINDS: dict[str, type[LocalSettings | TritonSettings | VertexSettings]] = {
    "local": LocalSettings,
    "triton": TritonSettings,
    "vertex": VertexSettings,
}


def settings_of(kind: TargetKind, given: Mapping[str, Any], current: TargetSettings | None = None) -> TargetSettings:
    """Return settings of a kind: those given, over those that an endpoint of this kind has already.

    Raises:
        InvalidInputError: An unknown setting, one that is missing, or a value that it cannot have.
    """
    record = _KINDS[kind]
    known = [name for name in record.model_fields if name != "kind"]
    for name in given:
        if name not in known:
            hint = did_you_mean(near(name, known)) or f" There are: {', '.join(known)}."
            raise InvalidInputError(f"a {kind} target has no setting {name!r}.{hint}")
    kept = {} if current is None or current.kind != kind else current.model_dump()
    try:
        return record.model_validate({**kept, **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise InvalidInputError(f"the setting {name} of a {kind} target: {first['msg'].lower()}.") from None
