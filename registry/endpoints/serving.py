"""What a serving process is told, what it tells back, and how a running one is recognised; light to import."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from registry.base import Record, StoredRecord
from registry.errors import EndpointError
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

ServedRole = Literal["stable", "canary", "shadow", "candidate"]
"""What a version does: ``stable`` and ``canary`` share the requests that name no version, ``shadow`` gets copies of
them and its answers are dropped, ``candidate`` is asked only by that name."""

CANDIDATE = "candidate"
"""How a URL names the version that is open and gets no requests of users yet."""

_WHOLE = 1e-6  # how far from 1 the shares may add up to: 0.1 + 0.9 is what people write


class ServedVersion(Record):
    """One version to serve: its ONNX file and the sha256 that the file must have (``sha256:`` before it or not).

    ``ordinal`` is the version's number in its model, 0 where whoever starts the server has no use for it.
    ``share`` is of the requests that name no version, 0 to 1: those that the version answers, or, as a shadow, gets
    copies of; a candidate's says nothing. ``precision`` is what OpenVINO computes floats in.
    """

    model: str
    version: str
    ordinal: int = Field(default=0, ge=0)
    engine: Path
    digest: _Digest
    role: ServedRole = "stable"
    share: float = Field(default=1.0, ge=0.0, le=1.0)
    runtime: Runtime = "onnxruntime"
    precision: Literal["f32", "bf16"] = "f32"

    @field_validator("model")
    @classmethod
    def _within_the_grammar(cls, model: str) -> str:
        return check_name(model)

    @property
    def number(self) -> str:
        """The version as it stands in answers: ``1`` for ``v1``."""
        return canonical(self.version)

    @property
    def address(self) -> str:
        """The version as URLs name it: its number, or ``candidate``."""
        return CANDIDATE if self.role == CANDIDATE else self.number

    @property
    def opened_as(self) -> tuple[str, ...]:
        """What makes two open engines of a model the same: the bytes, what runs them, and in which precision."""
        return self.model, self.digest.removeprefix("sha256:"), self.runtime, self.precision


class ServedModels(Record):
    """What a process serves from now on: the content of its ``models_file``, read at the start and at each load.

    A model has at most one version of each role, and a canary or a shadow only beside a stable one. The shares of the
    stable one and the canary add up to 1.
    """

    generation: int = Field(default=0, ge=0)
    versions: tuple[ServedVersion, ...] = ()

    @model_validator(mode="after")
    def _each_version_once(self) -> Self:
        addresses = Counter((served.model, served.address) for served in self.versions)
        if twice := [f"{model}:{address}" for (model, address), count in addresses.items() if count > 1]:
            raise ValueError(f"{', '.join(twice)} is listed more than once")
        return self

    @model_validator(mode="after")
    def _shares_of_a_whole(self) -> Self:
        for model in dict.fromkeys(served.model for served in self.versions):
            shares = [(served.role, served.share) for served in self.versions if served.model == model]
            roles = [role for role, _ in shares if role != CANDIDATE]
            if len(roles) != len(set(roles)):
                raise ValueError(f"{model} has more than one version of a role: {', '.join(roles)}")
            if roles and "stable" not in roles:
                raise ValueError(f"{model} has a {roles[0]} version and no stable one")
            whole = sum(share for role, share in shares if role in {"stable", "canary"})
            if roles and abs(whole - 1.0) > _WHOLE:
                raise ValueError(f"the shares of {model}'s stable and canary versions add up to {whole:g}, not to 1")
        return self


class ServerConfig(Record):
    """What a serving process knows all its life; ``instance`` is random and tells two starts of one endpoint apart.

    ``models_file`` holds the ``ServedModels``; it need not be there yet. ``workers`` is how many inferences run at
    once, ``engine_threads`` how many threads each of them may take. Requests that can be answered together are, at most
    ``max_batch`` samples at once, and none waits longer than ``max_delay_ms`` for company. More than
    ``max_concurrency`` requests at once are refused, and one that takes longer than ``timeout_s`` ends. ``log_share``
    of the requests (0 to 1) are kept in Parquet files below ``log_folder``. ``drain_s`` is how long requests under way
    may go on after SIGTERM.
    """

    endpoint: str
    instance: str = Field(default_factory=lambda: uuid.uuid4().hex)
    models_file: Path
    state_file: Path
    log_file: Path | None = None
    port: int = Field(default=0, ge=0, le=65535)
    grpc: bool = True
    grpc_port: int = Field(default=0, ge=0, le=65535)
    limits: Limits = Limits()
    workers: int = Field(default=2, ge=1)
    engine_threads: int = Field(default=1, ge=1)
    max_batch: int = Field(default=32, ge=1)
    max_delay_ms: float = Field(default=0.0, ge=0.0, le=1000.0)
    max_concurrency: int = Field(default=256, ge=1)
    timeout_s: float = Field(default=30.0, gt=0.0)
    drain_s: int = Field(default=10, ge=1)
    log_folder: Path | None = None
    log_share: float = Field(default=0.0, ge=0.0, le=1.0)

    @field_validator("endpoint")
    @classmethod
    def _within_the_grammar(cls, endpoint: str) -> str:
        return check_name(endpoint, kind="endpoint")


class ServerState(StoredRecord):
    """The state file: written, atomically and for its owner alone, once the models are loaded and the socket listens.

    ``grpc`` is host and port of that service, None where it does not run. ``token`` is random, and whoever sends it may
    load and unload models; processes of an earlier release have none.
    """

    pid: int
    port: int
    url: str
    instance: str
    started_at: datetime
    grpc: str | None = None
    token: str = Field(default="", repr=False)


class RunningServer(StoredRecord):
    """A serving process as it was started.

    ``create_time`` (seconds since the epoch, by the operating system) tells it from a later process with the same pid.
    ``grpc`` is host and port of its gRPC service, None where it has none.
    """

    pid: int
    create_time: float
    url: str
    instance: str
    log_path: Path
    grpc: str | None = None


def read_state(state_file: Path) -> ServerState | None:
    """Return what a server says of itself, its token included; None where no server has said anything there.

    Raises:
        EndpointError: The file is there and tells nothing that this release can read.
    """
    try:
        return ServerState.model_validate_json(state_file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise EndpointError(
            f"{state_file} does not tell of a server as this release starts them: {error}. Stop that server and "
            "deploy again."
        ) from error
