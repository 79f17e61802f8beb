"""The records that users see: versions, transitions, approvals, variants; frozen, and light to import."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from registry.base import StoredRecord
from registry.encoding import FORMAT
from registry.engines.records import Latency, VariantReport
from registry.errors import InvalidInputError
from registry.frameworks.kinds import ModelFramework
from registry.metrics import ModelMetrics
from registry.signature import Signature
from registry.stages import ModelStage


class FileEntry(StoredRecord):
    """One file of an artifact: its path below the version's folder, its digest and its size."""

    path: str
    sha256: str
    size_bytes: int


class Manifest(StoredRecord):
    """The files of an artifact in order of their paths; ``digest`` is the sha256 of that list's canonical JSON."""

    digest: str
    size_bytes: int
    files: tuple[FileEntry, ...]


class Artifact(StoredRecord):
    """What a version's state keeps of its manifest: enough to tell two artifacts apart."""

    digest: str
    size_bytes: int
    files: int


class Description(StoredRecord):
    """What was said of a version at registration; the part of the sidecar that lists and tables need."""

    framework: ModelFramework | None = None
    metrics: ModelMetrics = ModelMetrics()
    parameters: dict[str, Any] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
    description: str = ""
    signature: Signature | None = None
    lineage: dict[str, Any] = Field(default_factory=dict)


def tags_of(tags: Mapping[str, str] | Iterable[str] | None) -> dict[str, str]:
    """Return tags as they are kept, from pairs or from plain words, which get an empty value.

    Raises:
        InvalidInputError: One string, whose letters nobody wants as tags.
    """
    if isinstance(tags, str):
        raise InvalidInputError(f"tags are a dict or a list of words, found the string {tags!r}: write [{tags!r}].")
    pairs = tags.items() if isinstance(tags, Mapping) else ((tag, "") for tag in tags or ())
    return {str(tag): str(value) for tag, value in pairs}


class Sidecar(StoredRecord):
    """``metadata.json``: what was registered; immutable, its digest is in the log. ``form`` tells how to load it."""

    format: int = FORMAT
    model: str
    version: str
    created_at: datetime
    created_by: str
    described: Description
    measured_on: dict[str, str] = Field(default_factory=dict)
    form: Literal["bytes", "file", "folder", "model", "none"] = "none"
    framework_info: dict[str, Any] = Field(default_factory=dict)
    manifest: Manifest | None = None


class Approval(StoredRecord):
    """A person's answer to a request; ``method`` says what the identity rests on: asserted and form are typed in.

    ``signature`` is kept where there is one (``registry.signing`` has its payload); it was verified when recorded.
    """

    request_id: str
    decision: Literal["approve", "reject"]
    approver: str
    reason: str = ""
    method: Literal["asserted", "form", "signature"] = "asserted"
    decided_at: datetime
    signature: str | None = None


class RefusedAnswer(StoredRecord):
    """An answer that did not count, and why: who may not approve, a signature that does not verify, an empty form."""

    approver: str
    why: str
    at: datetime


class ApprovalRequest(StoredRecord):
    """What an answer is bound to: it holds for this artifact, policy, target and incumbent, and until it expires.

    ``registry`` is the id of the registry that it was asked in, so that a signature is for no other.
    """

    id: str
    model: str
    version: str
    stage: ModelStage
    artifact_digest: str | None
    policy_digest: str
    incumbent: str | None
    requested_by: str
    requested_at: datetime
    expires_at: datetime | None = None
    registry: str = ""


RunEnding = Literal[
    "deployed", "promoted", "policy_failed", "not_better", "rejected", "approval_pending", "expired", "cancelled",
    "failed", "abandoned", "taken_back",
]  # fmt: skip


class Run(StoredRecord):
    """An attempt to bring a model on its way, which outlives the process and the flow run that began it.

    ``id`` is that of the first flow run; ``holder`` that of the one which carries it now, ``process`` where, and
    ``carried_since`` when that began; ``carriers`` counts the flow runs that have held it. ``kind`` is the flow's name,
    ``parameters`` what it was started with, ``deployment`` by which of Prefect's deployments, if any, and ``reason``
    why. It is open until it has an ``ending``, and ``words`` say why it ended so.
    """

    id: str
    kind: str
    holder: str
    process: str = ""
    deployment: str | None = None
    reason: str = ""
    version: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    started_at: datetime
    carried_since: datetime
    carriers: int = 1
    ended_at: datetime | None = None
    ending: RunEnding | None = None
    words: str = ""


class StageTransition(StoredRecord):
    """One version's change of stage; a promotion that demotes the incumbent gives two, of one record of the log."""

    number: int
    timestamp: datetime
    version: str
    from_stage: ModelStage
    to_stage: ModelStage
    actor: str
    reason: str = ""
    approval: Approval | None = None
    policy_digest: str | None = None


class Variant(StoredRecord):
    """A derived engine that is kept beside a version: its report, its files, and whether it was the one chosen.

    ``signature`` is that of whoever built it, ``signer``, over ``registry.signing.engine_payload``.
    """

    format: int = FORMAT
    report: VariantReport
    manifest: Manifest | None = None
    chosen: bool = False
    reason: str = ""
    signer: str | None = None
    signature: str | None = None

    @property
    def key(self) -> str:
        """The full engine key."""
        return self.report.key


class EngineChoice(StoredRecord):
    """Which engine is to serve a version (no key: its original form), why in words, and what it was held against.

    ``speedup`` is the original's p50 latency over the engine's, at the first batch size that was measured.
    ``judgement`` is the digest of the whole evidence, which ``get_judgement`` returns; None for older choices.
    """

    key: str | None
    reason: str
    speedup: float | None = None
    baseline: tuple[Latency, ...] = ()
    baseline_score: float | None = None
    judgement: str | None = None


class Deployed(StoredRecord):
    """That a version came to serve at an endpoint, and in which generation of it."""

    endpoint: str
    generation: int
    at: datetime


class ModelVersion(StoredRecord):
    """One version of a model as it stands now; ``measured_on`` maps a metric to the digest of its data."""

    name: str
    version: str
    ordinal: int
    stage: ModelStage
    stage_since: datetime
    created_at: datetime
    created_by: str
    described: Description
    measured_on: dict[str, str] = Field(default_factory=dict)
    artifact: Artifact | None = None
    artifact_path: str = ""
    metadata_digest: str = ""
    aliases: tuple[str, ...] = ()
    approvals: tuple[Approval, ...] = ()
    deployments: tuple[Deployed, ...] = ()
    variants: tuple[str, ...] = ()
    as_of: int

    @property
    def full_name(self) -> str:
        """Name and version as people write them: ``object-detector:v1``."""
        return f"{self.name}:{self.version}"

    @property
    def model_id(self) -> str:
        """The same as ``full_name``, under the name that document 004 uses."""
        return self.full_name

    @property
    def model_name(self) -> str:
        """The same as ``name``, under the name that documents 000 and 004 use."""
        return self.name

    @property
    def framework(self) -> ModelFramework | None:
        """What made the model."""
        return self.described.framework

    @property
    def metrics(self) -> ModelMetrics:
        """What was measured at registration, with later evaluations and annotations put over it."""
        return self.described.metrics

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The training's parameters."""
        return self.described.parameters

    @property
    def tags(self) -> Mapping[str, str]:
        """Tags; a tag given in a list has an empty value."""
        return self.described.tags

    @property
    def description(self) -> str:
        """What people say of this version."""
        return self.described.description

    @property
    def signature(self) -> Signature | None:
        """Inputs and outputs, where they could be known."""
        return self.described.signature


class RegisteredModel(StoredRecord):
    """A model and its versions, in order of registration."""

    name: str
    versions: tuple[ModelVersion, ...]

    @property
    def latest_version(self) -> ModelVersion | None:
        """The version that was registered last."""
        return self.versions[-1] if self.versions else None

    @property
    def production_version(self) -> ModelVersion | None:
        """The version in production."""
        return next((version for version in self.versions if version.stage is ModelStage.PRODUCTION), None)
