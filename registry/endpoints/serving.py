"""What a serving process is told, what it tells back, and how a running one is recognised; light to import."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from registry.base import Record, StoredRecord
from registry.names import check_name
from registry.versions import canonical

_Digest = Annotated[str, Field(pattern=r"^(sha256:)?[0-9a-f]{64}$")]


class Limits(Record):
    """What one request may ask for, checked before anything of that size is allocated.

    ``max_json_bytes`` is for the JSON part alone, where a number of two bytes takes 16 or more until it is a tensor.
    """

    max_body_bytes: int = Field(default=64 * 1024 * 1024, gt=0)
    max_json_bytes: int = Field(default=8 * 1024 * 1024, gt=0)
    max_rank: int = Field(default=8, ge=0)
    max_elements: int = Field(default=16 * 1024 * 1024, gt=0)


Runtime = Literal["onnxruntime", "openvino"]
"""What opens an engine at an endpoint."""


class ServedVersion(Record):
    """One version to serve: its ONNX file and the sha256 that the file must have (``sha256:`` before it or not).

    ``precision`` is what OpenVINO computes floats in.
    """

    model: str
    version: str
    engine: Path
    digest: _Digest
    default: bool = True
    runtime: Runtime = "onnxruntime"
    precision: Literal["f32", "bf16"] = "f32"

    @field_validator("model")
    @classmethod
    def _within_the_grammar(cls, model: str) -> str:
        return check_name(model)

    @property
    def number(self) -> str:
        """The version as it stands in URLs and answers: ``1`` for ``v1``."""
        return canonical(self.version)


class ServerConfig(Record):
    """Everything that a serving process knows; ``instance`` is random and tells two starts of one endpoint apart.

    ``workers`` is how many inferences run at once, ``engine_threads`` how many threads each of them may take.
    ``drain_s`` is how long requests under way may go on after SIGTERM.
    """

    endpoint: str
    instance: str = Field(default_factory=lambda: uuid.uuid4().hex)
    generation: int = Field(default=0, ge=0)
    versions: tuple[ServedVersion, ...] = Field(min_length=1)
    state_file: Path
    log_file: Path | None = None
    limits: Limits = Limits()
    workers: int = Field(default=2, ge=1)
    engine_threads: int = Field(default=1, ge=1)
    drain_s: int = Field(default=10, ge=1)

    @field_validator("endpoint")
    @classmethod
    def _within_the_grammar(cls, endpoint: str) -> str:
        return check_name(endpoint, kind="endpoint")

    @model_validator(mode="after")
    def _one_default_for_each_model(self) -> Self:
        labels = Counter((served.model, served.number) for served in self.versions)
        if twice := [f"{model}:{number}" for (model, number), count in labels.items() if count > 1]:
            raise ValueError(f"{', '.join(twice)} is listed more than once")
        defaults = Counter(served.model for served in self.versions if served.default)
        for model in sorted({served.model for served in self.versions}):
            if defaults[model] != 1:
                raise ValueError(f"{model} has {defaults[model]} default versions and needs exactly one")
        return self


class ServerState(StoredRecord):
    """The state file: written, atomically, once the models are loaded and the socket listens."""

    pid: int
    port: int
    url: str
    instance: str
    started_at: datetime


class RunningServer(StoredRecord):
    """A serving process as it was started.

    ``create_time`` (seconds since the epoch, by the operating system) tells it from a later process with the same pid.
    """

    pid: int
    create_time: float
    url: str
    instance: str
    log_path: Path
