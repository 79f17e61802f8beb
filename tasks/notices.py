"""What is told to people outside of Prefect's UI: where it is sent, and what a notice says; light to import."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator

from registry import clock
from registry.base import Record
from registry.errors import InvalidInputError
from registry.records import Approval, ApprovalRequest
from tasks.labels import EXPIRES_AT, MODEL, REGISTRY, REQUEST, STAGE, VERSION

NoticeKind = Literal["pending", "decided", "expiring", "failed"]

_SCHEMES = ("mailto", "mailtos", "slack", "slacks", "http", "https")


def check_scheme(address: str) -> str:
    """Return the scheme of a channel's address.

    Raises:
        InvalidInputError: It has none that can be sent to; the message does not hold the address, which is a secret.
    """
    scheme, separator, _ = address.partition("://")
    if not separator or scheme not in _SCHEMES:
        known = ", ".join(f"{one}://" for one in _SCHEMES)
        raise InvalidInputError(
            f"a channel is an address that begins with {known} and this one does not. Write it so, or "
            "${NAME} for the environment variable that holds it."
        )
    return scheme


class NoticeSettings(Record):
    """Where notices go, and which; ``${NAME}`` in an address is taken from the environment when one is sent.

    ``webhook_secret`` signs what is posted to webhooks.
    """

    channels: tuple[SecretStr, ...] = ()
    on: tuple[NoticeKind, ...] = ("pending", "decided", "expiring", "failed")
    expiring_before_hours: float = Field(default=12.0, gt=0)
    webhook_secret: SecretStr | None = None

    @field_validator("channels")
    @classmethod
    def _known(cls, channels: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for channel in channels:
            if not channel.get_secret_value().startswith("${"):
                check_scheme(channel.get_secret_value())
        return channels


OneLine = Annotated[str, AfterValidator(lambda words: " ".join(words.split()))]


class Notice(Record):
    """One thing that is told: ``words`` are plain, ``evidence`` is Markdown, ``link`` leads to the run in Prefect's UI.

    ``url`` is the registry's.
    """

    kind: NoticeKind
    title: OneLine
    words: str
    model: str
    url: str
    version: str = ""
    stage: str = ""
    request_id: str = ""
    link: str = ""
    evidence: str = ""
    at: datetime = Field(default_factory=clock.now)


def of_question(request: ApprovalRequest, evidence: str, *, url: str) -> Notice:
    """Return the notice that an approval is pending."""
    full_name = f"{request.model}:{request.version}"
    until = "" if request.expires_at is None else f" It expires at {clock.minute(request.expires_at)}."
    words = f"{request.requested_by} asks whether {full_name} may go to {request.stage}.{until} {_how(request.id)}"
    asked = _notice("pending", request, url, title=f"{full_name} waits for an approval to {request.stage}", words=words)
    return asked.model_copy(update={"evidence": evidence})


def of_answer(request: ApprovalRequest, answer: Approval, *, url: str) -> Notice:
    """Return the notice that somebody has answered."""
    full_name = f"{request.model}:{request.version}"
    said = "approved" if answer.decision == "approve" else "rejected"
    why = f": {answer.reason}" if answer.reason else "."
    words = f"{answer.approver} has {said} the move of {full_name} to {request.stage}{why}"
    return _notice("decided", request, url, title=f"{full_name} to {request.stage}: {said}", words=words)


def of_expiry(labels: Mapping[str, str]) -> Notice:
    """Return the notice that an approval expires soon, from the labels of the run that waits for it."""
    model, version, stage, request, url, expires_at = (
        labels.get(name, "") for name in (MODEL, VERSION, STAGE, REQUEST, REGISTRY, EXPIRES_AT)
    )
    at = clock.minute(datetime.fromisoformat(expires_at))
    return Notice(
        kind="expiring",
        title=f"{model}:{version} waits for an approval to {stage} until {at}",
        words=f"Nobody has decided yet whether {model}:{version} may go to {stage}. The question expires at {at}. "
        f"{_how(request)}",
        model=model,
        version=version,
        stage=stage,
        request_id=request,
        url=url,
    )


def of_failure(model: str, words: str, *, url: str) -> Notice:
    """Return the notice that a run failed; ``words`` say why."""
    return Notice(kind="failed", title=f"A run of {model} failed", words=words, model=model, url=url)


def _notice(kind: NoticeKind, request: ApprovalRequest, url: str, *, title: str, words: str) -> Notice:
    return Notice(
        kind=kind,
        title=title,
        words=words,
        model=request.model,
        version=request.version,
        stage=request.stage.value,
        request_id=request.id,
        url=url,
    )


def _how(request_id: str) -> str:
    return f"Answer in Prefect's UI, or by `modelway approvals approve {request_id}` (or reject)."
