"""An answer to a waiting run: what the registry has of its request, the fields, signed, and the log afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Final

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from deployments.approvals import Form, has_ended, label
from registry.approvals import Decision
from registry.cli.invocation import Invocation
from registry.errors import ApprovalRequired, IntegrityError, InvalidInputError, ModelwayError, NotFoundError
from registry.guard import Guard, same_person
from registry.registry import ModelRegistry
from registry.signing import payload, public_of, sign
from registry.state import Asked
from tasks import labels

WAIT_S: Final = 30.0
"""How long is waited for the run to take an answer up."""

_LOOK_EVERY_S = 0.5


def find_asked(invocation: Invocation, run: FlowRun) -> tuple[ModelRegistry, Asked]:
    """Return the registry that a run asks in, and the request as it stands there; ``--url`` goes before the label.

    Raises:
        NotFoundError: That registry has no such request.
        IntegrityError: It has another than the run's labels say.
    """
    named = label(run, labels.REGISTRY)
    registry = dataclasses.replace(invocation, url=invocation.url or named).open()
    try:
        asked = registry.get_approval(label(run, labels.MODEL), label(run, labels.REQUEST)).asked
    except NotFoundError as error:
        raise NotFoundError(
            f"run {run.name} asks in the registry at {named}, and the one at {registry.url} has no such request: "
            f"{error} Give the registry that it asks in by --url."
        ) from error
    bound = asked.request
    told = tuple(label(run, name) for name in (labels.MODEL, labels.VERSION, labels.STAGE))
    found = (bound.model, bound.version, bound.stage.value)
    if told != found or bound.registry not in {"", registry.identity.id}:
        raise IntegrityError(
            f"run {run.name}",
            "{}:{} to {} in registry {}".format(*found, bound.registry),
            "{}:{} to {} in registry {}".format(*told, registry.identity.id),
            mend="Do not answer it: its labels were changed, or it asks in a copy of the registry.",
        )
    return registry, asked


@dataclasses.dataclass(frozen=True)
class Answerer:
    """What a person gave of themselves and of why; ``say`` shows them what their key signs, before it is sent."""

    name: str | None
    key: Path | None
    reason: str
    say: Callable[[bytes], None]

    def fields(self, decision: Decision, form: Form, registry: ModelRegistry, asked: Asked) -> dict[str, str]:
        """Return the form's fields, signed where it wants that; nothing is sent by this.

        Raises:
            InvalidInputError: Something is missing, or given although the form has no place for it.
            ApprovalRequired: The registry wants a signature, or has another key for this person.
        """
        signs = "signature" in form.fields
        if self.key is None and signs:
            raise ApprovalRequired(
                "this registry takes no name that is only typed in: give your key by --key FILE. Nothing was sent. "
                "`modelway approvals keygen` makes one, and the guard's signers must list it."
            )
        if self.key is not None and not signs:
            raise InvalidInputError(
                "the form has no place for a signature, as this registry takes typed-in names (accept_asserted): "
                "leave --key out, and give --as NAME."
            )
        private = None if self.key is None else read_key(self.key)
        approver = self._approver(None if private is None else public_of(private), registry.guard)
        answer = {"decision": decision, "approver": approver, "reason": self.reason}
        if private is None:
            return answer
        signed = payload(registry.identity.id, asked.request, decision=decision, approver=approver, reason=self.reason)
        self.say(signed)
        return {**answer, "signature": sign(private, signed)}

    def _approver(self, public: str | None, guard: Guard) -> str:
        owners = [name for name, key in guard.signers.items() if public == key]
        named = (self.name or "").strip()
        if named and public is not None and guard.key_of(named) != public:
            raise ApprovalRequired(
                f"the registry has {'another' if guard.key_of(named) else 'no'} key for {named!r}, so this signature "
                f"would prove nothing; nothing was sent. This key is that of {', '.join(owners) or 'nobody'}."
            )
        if named:
            return named
        if len(owners) != 1:
            of_key = f"; the key is that of {' and '.join(owners) or 'nobody'} there" if public else ""
            raise InvalidInputError(f"who answers? Give --as NAME, as the registry's approvers list it{of_key}.")
        return owners[0]


def read_key(path: Path) -> bytes:
    """Return the private key in a file.

    Raises:
        InvalidInputError: There is no such file, or no ed25519 key in it.
    """
    try:
        private = path.read_bytes()
        public_of(private)
    except OSError as error:
        raise InvalidInputError(f"--key {path}: {error.strerror}; `modelway approvals keygen` makes one.") from error
    except InvalidInputError as error:
        raise InvalidInputError(f"--key {path}: {error}") from error
    return private


def wait_for_record(
    client: SyncPrefectClient, run: FlowRun, registry: ModelRegistry, before: Asked, approver: str
) -> bool:
    """Return whether the registry's log has the answer of ``approver`` within ``WAIT_S``.

    Args:
        client: Prefect's API.
        run: The run that got the answer.
        registry: Where it asks.
        before: The request as it stood before the answer.
        approver: Whose answer it is.

    Raises:
        ApprovalRequired: The log has it as one that did not count.
        ModelwayError: The run ended without a word of it.
    """

    def look() -> bool:
        ended = has_ended(client, run)  # asked first: what a run records before its end is then seen below
        now = registry.get_approval(before.request.model, before.request.id).asked
        refused = [one for one in now.refused[len(before.refused) :] if same_person(one.approver, approver)]
        if refused:
            raise ApprovalRequired(f"the answer was not taken, and the run asks again: {refused[0].why}")
        if any(same_person(one.approver, approver) for one in now.answers[len(before.answers) :]):
            return True
        if ended is not None:
            raise ModelwayError(
                f"run {run.name} ended without recording the answer ({ended}). Start it again; nothing is done twice."
            )
        return False

    retrying = Retrying(
        retry=retry_if_result(lambda recorded: not recorded),
        stop=stop_after_delay(WAIT_S),
        wait=wait_fixed(_LOOK_EVERY_S),
        retry_error_callback=lambda _last: False,
    )
    return bool(retrying(look))
