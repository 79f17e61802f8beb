"""``modelway approvals``: look at what waits for a person, and answer it, signed where the registry wants that."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from registry.cli.app import group
from registry.cli.completing import Offers, offered
from registry.cli.invocation import Invocation, NextStep, confirm
from registry.cli.options import Context
from registry.cli.text import plain
from registry.errors import InvalidInputError, ModelwayError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from deployments.approval_pages import WaitingApproval
    from registry.registry import ModelRegistry


def _requests(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer what was asked in the registry; to ask Prefect's server what waits would hold the shell for long."""

    def find(registry: ModelRegistry) -> Offers:
        asked = (one.request for name in registry.list_models() for one in registry.get_approvals(name))
        return ((one.id, f"{one.model}:{one.version} to {one.stage}") for one in asked)

    return offered(ctx, incomplete, find)


Request = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The request's id, or the beginning of it, or the id of the flow run.",
        show_default=False,
        autocompletion=_requests,
    ),
]
As = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", help="Who answers; the owner of the key without it.", show_default=False),
]
Key = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="Sign the answer with this private key.", show_default=False),
]
Why = Annotated[
    str | None,
    typer.Option("--reason", metavar="R", help="Why; asked for at a terminal without it.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Whether to wait until the run has taken the answer up.")]


def list_(ctx: Context) -> None:
    """List what waits for an answer on Prefect's server, the oldest first; with --url what asks in that registry."""
    from deployments.approval_pages import table_of_waiting
    from deployments.approvals import answerable_runs, patient_server

    with patient_server() as client:
        found = [_described(ctx.obj, run) for run in answerable_runs(client)]
    waiting = [one for one in found if not (ctx.obj.url and one.unread)]
    ctx.obj.show(waiting, lambda _tables: [table_of_waiting(waiting)], if_none="nothing waits for an answer")


def _described(invocation: Invocation, run: FlowRun) -> WaitingApproval:
    from deployments.approval_answers import find_asked
    from deployments.approval_pages import page_of_waiting

    try:
        return page_of_waiting(run, *find_asked(invocation, run))
    except ModelwayError as error:  # one registry that is away must not hide what waits in the others
        return page_of_waiting(run, None, None, unread=str(error))


def show(ctx: Context, request: Request) -> None:
    """Show the evidence of a request that waits, and what the answer is bound to."""
    from deployments.approval_answers import find_asked
    from deployments.approval_pages import ApprovalPage, page_of_waiting, table_of_bound
    from deployments.approvals import answerable_runs, find_run, patient_server, read_form

    with patient_server() as client:
        run = find_run(answerable_runs(client), request)
        form = read_form(client, run)
    registry, asked = find_asked(ctx.obj, run)
    waiting = page_of_waiting(run, registry, asked)
    page = ApprovalPage(waiting=waiting, evidence=form.evidence, fields=form.fields, bound_to=asked.request)
    if not ctx.obj.as_json:
        from deployments.terminal import Terminal

        Terminal().evidence(form.evidence, waiting.link)
    ctx.obj.show(page, lambda _tables: [table_of_bound(asked.request, waiting)])


def approve(  # noqa: PLR0913 - each is an option of the command line
    ctx: Context, request: Request, *, as_: As = None, key: Key = None, reason: Why = None, yes: Yes = False,
    wait: Wait = True,
) -> None:  # fmt: skip
    """Say yes to a request that waits; the run goes on when a worker is free."""
    _answer(ctx.obj, request, "approve", (as_, key, reason), yes=yes, wait=wait)


def reject(  # noqa: PLR0913 - each is an option of the command line
    ctx: Context, request: Request, *, as_: As = None, key: Key = None, reason: Why = None, yes: Yes = False,
    wait: Wait = True,
) -> None:  # fmt: skip
    """Say no to a request that waits; the run ends, and the version stays where it is."""
    _answer(ctx.obj, request, "reject", (as_, key, reason), yes=yes, wait=wait)


def _answer(  # noqa: PLR0913 - what approve and reject were given
    invocation: Invocation,
    wanted: str,
    decision: Literal["approve", "reject"],
    given: tuple[str | None, Path | None, str | None],
    *,
    yes: bool,
    wait: bool,
) -> None:
    from deployments.approval_answers import Answerer, find_asked, wait_for_record
    from deployments.approval_pages import AnswerPage
    from deployments.approvals import answerable_runs, find_run, hand_over, patient_server, read_form

    name, key, reason = given
    with patient_server() as client:
        run = find_run(answerable_runs(client), wanted)
        registry, asked = find_asked(invocation, run)
        bound = asked.request
        what = f"{bound.model}:{bound.version} for {bound.stage}"
        answerer = Answerer(name, key, _reason(reason, what), say=_show_signed)
        fields = answerer.fields(decision, read_form(client, run), registry, asked)
        if not yes:
            question = f"{decision.capitalize()} {what} ({bound.artifact_digest}) as {fields['approver']}?"
            confirm(question, otherwise="nothing was sent")
        hand_over(client, run, fields)
        recorded = wait and wait_for_record(client, run, registry, asked, fields["approver"])
    page = AnswerPage(
        request=bound.id,
        model=bound.model,
        version=bound.version,
        stage=bound.stage.value,
        decision=decision,
        approver=fields["approver"],
        reason=fields["reason"],
        signed="signature" in fields,
        run=str(run.id),
        recorded=recorded,
    )
    taken = "the registry's log has it" if recorded else "the run will take it up when a worker is free"
    invocation.tell(
        page,
        f"{page.approver} answered {decision!r} to {what}; {taken}",
        NextStep("to see what came of it", ("models", "show", bound.model, bound.version)),
    )


def keygen(
    ctx: Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="Where to keep the private key; approval-key.pem in the user's configuration without it.",
            show_default=False,
        ),
    ] = None,
    *,
    as_: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Whose key it is, as approvers are listed.")
    ] = None,
) -> None:
    """Make a key to sign answers with, and tell what the registry must know of it; no file is written over."""
    from deployments.approval_pages import NewKey
    from registry.signing import generate

    private, public = generate()
    path = _write_key(file or _default_key(), private)
    ctx.obj.tell(
        NewKey(file=str(path), approver=as_, public=public), f"{path} holds the private key: give it to nobody"
    )
    if not ctx.obj.as_json:
        typer.echo(plain(_how_to_list(as_ or "you@example.com", public)))


VERBS: Final[dict[str, Callable[..., None]]] = {
    "list": list_,
    "show": show,
    "approve": approve,
    "reject": reject,
    "keygen": keygen,
}


def make_approvals() -> typer.Typer:
    """Return ``modelway approvals``."""
    return group(
        VERBS, "What waits for a person on the server of PREFECT_API_URL: look, answer, make a key to sign with."
    )


def _default_key() -> Path:
    import platformdirs

    return platformdirs.user_config_path("modelway") / "approval-key.pem"


def _write_key(path: Path, private: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidInputError(f"{path} exists already, and a key is never written over; give another FILE.") from None
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror}; give another FILE.") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(private)
    return path


def _how_to_list(name: str, public: str) -> str:
    return f"""
The registry's guard must know the public one. In the pipeline file:

registry:
  guard:
    accept_asserted: false
    signers:
      {json.dumps(name, ensure_ascii=False)}: {public}

or in Python:

signers = {{**registry.guard.signers, {name!r}: {public!r}}}
registry.set_guard(registry.guard.model_copy(update={{"signers": signers, "accept_asserted": False}}))"""


def _show_signed(payload: bytes) -> None:
    tag, _, body = payload.decode().partition("\n")
    shown = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    typer.echo(plain(f"The key signs {tag}:\n{shown}"), err=True)


def _reason(given: str | None, what: str) -> str:
    if given is None and sys.stdin.isatty():
        typer.echo(plain(f"Why, for {what}: "), err=True, nl=False)
        given = sys.stdin.readline()
    if given is None or not given.strip():
        raise InvalidInputError("an answer needs a reason, which is kept with it: give --reason R. Nothing was sent.")
    return given.strip()
