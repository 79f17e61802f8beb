"""The gate before a stage: what a move is made under, and the question that a person is asked."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from registry.approvals import Stand
from registry.base import Record
from registry.policy import PromotionPolicy
from registry.records import ApprovalRequest
from registry.stages import ModelStage
from registry.yaml_files.record import read_record
from tasks.notices import NoticeSettings


class Gate(Record):
    """What a version must pass to reach ``stage`` in the registry at ``url``.

    ``required`` asks a person even if the registry does not; ``timeout_s``: how long a run waits that holds a process.
    """

    url: str
    model: str
    stage: ModelStage = ModelStage.PRODUCTION
    policy: PromotionPolicy = PromotionPolicy()
    required: bool = True
    expires_in_hours: float = Field(default=72.0, gt=0)
    timeout_s: float = Field(default=3600.0, gt=0)
    notify: NoticeSettings = NoticeSettings()


def policy_in(path: str | None) -> PromotionPolicy:
    """Return the policy in a file, an empty one where none is named.

    Raises:
        InvalidPipelineError: It cannot be read; names the line.
    """
    return PromotionPolicy() if path is None else read_record(Path(path), "policy", PromotionPolicy)


class Question(Record):
    """A request for approval as it stands now.

    ``number`` counts the answers heard so far, so that each question has a key of its own; ``signed`` says that an
    answer must be signed; ``evidence`` is Markdown.
    """

    request: ApprovalRequest
    number: int
    stand: Stand
    words: str
    signed: bool
    evidence: str

    @property
    def key(self) -> str:
        """The key under which Prefect keeps the answer: two waits with one key would share one answer."""
        return f"approval-{self.request.id}-{self.number}"
