"""What ``modelway approvals`` shows: the records that it prints under ``--json``, and their tables."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from rich import box
from rich.table import Table

from deployments.approvals import label
from registry.base import Record
from registry.cli.text import plain
from registry.clock import minute
from registry.records import Approval, ApprovalRequest, RefusedAnswer
from tasks import labels
from tasks.notifying import run_link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prefect.client.schemas.objects import FlowRun

    from registry.registry import ModelRegistry
    from registry.state import Asked


class WaitingApproval(Record):
    """A run that waits for an answer; what stands in the registry is null or empty where that could not be read.

    ``needed`` is how many people must say yes, ``refused`` holds answers that did not count, ``link`` is the run's page
    in Prefect's UI, ``unread`` says why the registry could not be read.
    """

    request: str
    model: str
    version: str
    stage: str
    registry: str
    requested_by: str | None
    requested_at: datetime | None
    expires_at: datetime | None
    needed: int | None
    answers: tuple[Approval, ...]
    refused: tuple[RefusedAnswer, ...]
    run: str
    run_name: str
    link: str | None
    unread: str


class ApprovalPage(Record):
    """Everything of a request that waits: the form's evidence as Markdown, its fields, what the answer is bound to."""

    waiting: WaitingApproval
    evidence: str
    fields: tuple[str, ...]
    bound_to: ApprovalRequest


class AnswerPage(Record):
    """An answer that a run has got: ``recorded`` once it stands in the registry's log, else on its way there."""

    request: str
    model: str
    version: str
    stage: str
    decision: Literal["approve", "reject"]
    approver: str
    reason: str
    signed: bool
    run: str
    recorded: bool


class NewKey(Record):
    """A key that was made: where its private half lies, and its public half as a guard's ``signers`` hold it."""

    file: str
    approver: str | None
    public: str


PRINTS: Final[Mapping[str, tuple[Any, ...]]] = {
    "approvals list": (list[WaitingApproval],),
    "approvals show": (ApprovalPage,),
    "approvals approve": (AnswerPage,),
    "approvals reject": (AnswerPage,),
    "approvals keygen": (NewKey,),
}
"""What each verb prints under ``--json``; for the reference of the command line."""


def page_of_waiting(
    run: FlowRun, registry: ModelRegistry | None, asked: Asked | None, *, unread: str = ""
) -> WaitingApproval:
    """Return what a run waits for: as its labels say, and as its registry does where that could be read."""
    return WaitingApproval(
        request=label(run, labels.REQUEST),
        model=label(run, labels.MODEL),
        version=label(run, labels.VERSION),
        stage=label(run, labels.STAGE),
        registry=label(run, labels.REGISTRY),
        requested_by=None if asked is None else asked.request.requested_by,
        requested_at=None if asked is None else asked.request.requested_at,
        expires_at=None if asked is None else asked.request.expires_at,
        needed=None if registry is None else registry.guard.min_approvals,
        answers=() if asked is None else asked.answers,
        refused=() if asked is None else asked.refused,
        run=str(run.id),
        run_name=run.name,
        link=run_link(run.id) or None,
        unread=unread,
    )


def table_of_waiting(waiting: Iterable[WaitingApproval]) -> Table:
    """Return a row for each run that waits."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("id", "asks for", "asked (UTC)", "expires (UTC)", "answers", "run"):
        table.add_column(head, overflow="fold")
    for one in waiting:
        asked = f"{minute(one.requested_at, zone=False)} by {one.requested_by}" if one.requested_at else one.unread
        row = (
            one.request,
            f"{one.model}:{one.version} to {one.stage}",
            asked,
            minute(one.expires_at, zone=False) if one.expires_at else "never",
            _answers(one),
            f"{one.run_name} {one.link or one.run}",
        )
        table.add_row(*map(plain, row))
    return table


def table_of_bound(request: ApprovalRequest, waiting: WaitingApproval) -> Table:
    """Return what an answer is bound to, as the registry has it, and how it stands."""
    table = Table(title="As the registry has it", title_justify="left", show_header=False, box=box.SIMPLE_HEAD)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = {
        "request": request.id,
        "move": f"{request.model}:{request.version} to {request.stage}",
        "artifact": request.artifact_digest or "none",
        "policy": request.policy_digest,
        "incumbent": request.incumbent or "none",
        "asked": f"{minute(request.requested_at)} by {request.requested_by}",
        "expires": minute(request.expires_at) if request.expires_at else "never",
        "registry": f"{waiting.registry} ({request.registry})",
        "answers": _answers(waiting),
        **{f"refused {number}": f"{one.approver}: {one.why}" for number, one in enumerate(waiting.refused, 1)},
        "run": waiting.run,
    }
    for what, words in rows.items():
        table.add_row(plain(what), plain(words))
    return table


def _answers(waiting: WaitingApproval) -> str:
    given = ", ".join(f"{one.decision} by {one.approver}" for one in waiting.answers) or "none"
    needed = f" of {waiting.needed} needed" if (waiting.needed or 1) > 1 else ""
    refused = f"; {len(waiting.refused)} refused" if waiting.refused else ""
    return given + needed + refused
