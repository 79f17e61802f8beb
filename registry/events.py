"""The events of a model's log; one event changes everything that must change together."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from registry.base import StoredRecord
from registry.encoding import canonical_json
from registry.metrics import ModelMetrics
from registry.records import Approval, ApprovalRequest, Artifact, Description, EngineChoice, RefusedAnswer, RunEnding
from registry.stages import ModelStage
from registry.versions import Strategy


class Reserved(StoredRecord):
    """A label and a folder were set aside; nobody sees them yet."""

    type: Literal["reserved"] = "reserved"
    version: str
    label: str
    path: str
    strategy: Strategy
    key: str | None = None


class Registered(StoredRecord):
    """The bytes and the sidecar are in place: from here on the version exists; ``guard`` as in ``GuardChanged``."""

    type: Literal["registered"] = "registered"
    version: str
    metadata_digest: str
    described: Description
    measured_on: dict[str, str] = Field(default_factory=dict)
    artifact: Artifact | None = None
    guard: int = 0


class Abandoned(StoredRecord):
    """A reservation came to nothing."""

    type: Literal["abandoned"] = "abandoned"
    version: str
    reason: str = ""


class Moved(StoredRecord):
    """A version changed its stage. To production it is the demotion of ``demoted`` too, so there are never two."""

    type: Literal["moved"] = "moved"
    version: str
    from_stage: ModelStage
    to_stage: ModelStage
    demoted: str | None = None
    reason: str = ""
    policy_digest: str | None = None
    approvals: tuple[Approval, ...] = ()
    guard: int = 0
    key: str | None = None


class RolledBack(StoredRecord):
    """Production went back to a version that had held it."""

    type: Literal["rolled_back"] = "rolled_back"
    version: str
    from_stage: ModelStage
    demoted: str | None
    reason: str = ""
    key: str | None = None


class Restored(StoredRecord):
    """An archived version came back to development."""

    type: Literal["restored"] = "restored"
    version: str
    reason: str = ""
    key: str | None = None


class Annotated_(StoredRecord):  # noqa: N801 - typing has the plain name
    """Something was said or measured of a version; the artifact is as it was."""

    type: Literal["annotated"] = "annotated"
    version: str
    description: str | None = None
    tags: dict[str, str] | None = None
    metrics: ModelMetrics | None = None
    measured_on: str | None = None
    key: str | None = None


class Aliased(StoredRecord):
    """An alias points elsewhere; ``version`` is None where it was taken away."""

    type: Literal["aliased"] = "aliased"
    alias: str
    version: str | None
    taken_from: str | None = None
    key: str | None = None


class ApprovalAsked(StoredRecord):
    """Somebody asked for a move that needs a person."""

    type: Literal["approval_asked"] = "approval_asked"
    request: ApprovalRequest
    key: str | None = None


class ApprovalAnswered(StoredRecord):
    """A person answered."""

    type: Literal["approval_answered"] = "approval_answered"
    answer: Approval


class AnswerRefused(StoredRecord):
    """Somebody answered, and it did not count."""

    type: Literal["answer_refused"] = "answer_refused"
    request_id: str
    refused: RefusedAnswer


class RunStarted(StoredRecord):
    """A run began, goes on in another ``process``, or was taken over by ``holder`` from a flow run that is dead."""

    type: Literal["run_started"] = "run_started"
    run: str
    kind: str
    holder: str
    process: str = ""
    deployment: str | None = None
    reason: str = ""
    version: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)


class RunEnded(StoredRecord):
    """A run came to its end; ``words`` say why."""

    type: Literal["run_ended"] = "run_ended"
    run: str
    ending: RunEnding
    version: str | None = None
    words: str = ""


class VariantAdded(StoredRecord):
    """A derived engine lies beside the version; ``digest`` is that of its metadata.json."""

    type: Literal["variant_added"] = "variant_added"
    version: str
    key: str
    digest: str


class VariantChosen(StoredRecord):
    """Which engine is to serve this version."""

    type: Literal["variant_chosen"] = "variant_chosen"
    version: str
    choice: EngineChoice
    key: str | None = None


class DeployedAt(StoredRecord):
    """The version serves at an endpoint."""

    type: Literal["deployed"] = "deployed"
    version: str
    endpoint: str
    generation: int


class Deleted(StoredRecord):
    """A version is gone: its files may be removed, its label is never given again."""

    type: Literal["deleted"] = "deleted"
    version: str
    reason: str = ""


class GuardChanged(StoredRecord):
    """What this model is held to changed, by record ``guard`` of the registry's own log.

    It takes the next number, and so makes everybody look who would have written on what they knew before.
    """

    type: Literal["guard_changed"] = "guard_changed"
    guard: int


ModelEvent = Annotated[
    Reserved | Registered | Abandoned | Moved | RolledBack | Restored | Annotated_ | Aliased
    | ApprovalAsked | ApprovalAnswered | AnswerRefused | RunStarted | RunEnded
    | VariantAdded | VariantChosen | DeployedAt | Deleted | GuardChanged,
    Field(discriminator="type"),
]  # fmt: skip

_EVENTS: TypeAdapter[Any] = TypeAdapter(ModelEvent)


def parse_event(event: dict[str, Any]) -> ModelEvent:
    """Return the event that a record of the log holds.

    Raises:
        pydantic.ValidationError: Of no type that this release knows, or damaged.
    """
    # As JSON once more: only pydantic's JSON mode reads times and enums and is strict about all else.
    return _EVENTS.validate_json(canonical_json(event))  # type: ignore[no-any-return]
