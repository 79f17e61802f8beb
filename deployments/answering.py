"""Answer a paused run from the terminal, in the way that Prefect's UI would: by the run's own input.

The person at the prompt, a name given on the command line, and Prefect's UI end in one call,
``resume_flow_run`` with the form's fields; who is first is taken, and the other is told.
"""

from __future__ import annotations

import _thread
import json
import queue
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Protocol
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectException, PrefectHTTPStatusError
from prefect.flow_runs import resume_flow_run

from deployments.approvals import keys_of_pause
from tasks.notifying import run_link

if TYPE_CHECKING:
    from deployments.terminal import Terminal

_LOOK_EVERY_S = 0.5
_INPUT_IS_LATE_S = 10.0


class Answers(Protocol):
    """Whoever gives an answer, once the evidence has been shown."""

    def __call__(self, still_open: Callable[[], bool], /) -> dict[str, str] | None:
        """Return the form's fields, or None if the question was answered elsewhere meanwhile."""


def by_name(approver: str) -> Answers:
    """Return answers that approve in the name given on the command line."""
    return lambda _still_open: {
        "decision": "approve",
        "approver": approver,
        "reason": "approved by --approve-as on the command line",
    }


class AtThePrompt:
    """Answers by a person at the terminal; gives up a question that is answered elsewhere while they think."""

    def __init__(self, say: Callable[[str], None], stdin: IO[str] | None = None) -> None:
        """Take how to write a question, and where answers are typed."""
        self._say, self._stdin = say, stdin or sys.stdin

    def __call__(self, still_open: Callable[[], bool]) -> dict[str, str] | None:
        """Ask for the decision, the name and the reason."""
        decision = self._ask("Does it go live? Type approve or reject: ", still_open, among=("approve", "reject"))
        approver = decision and self._ask("Your name, as the registry's approvers list it: ", still_open)
        reason = approver and self._ask("Why: ", still_open)
        return (
            {"decision": decision, "approver": approver, "reason": reason} if decision and approver and reason else None
        )

    def _ask(self, question: str, still_open: Callable[[], bool], *, among: tuple[str, ...] = ()) -> str | None:
        while True:
            self._say(question)
            # A blocking read would hold this thread, and the terminal, after somebody answered in Prefect's UI.
            while not select.select([self._stdin], [], [], _LOOK_EVERY_S)[0]:
                if not still_open():
                    return None
            line = self._stdin.readline()
            if not line:  # the terminal was closed
                return None
            if (answer := line.strip()) and (not among or answer in among):
                return answer


class Answerer(threading.Thread):
    """Watches one flow run; whenever it pauses for input, shows the evidence and passes an answer on."""

    def __init__(self, run_ids: queue.Queue[UUID], answers: Answers | None, terminal: Terminal) -> None:
        """Take where the run's id will come from, who answers (None: only Prefect's UI), and where to show it."""
        super().__init__(name="answerer", daemon=True)
        self._run_ids, self._answers, self._terminal = run_ids, answers, terminal
        self._ended = threading.Event()
        self.error: BaseException | None = None

    def stop(self) -> None:
        """Watch no longer."""
        self._ended.set()

    def run(self) -> None:
        """Watch until told to stop; if that fails, interrupt the run, which would wait for an answer in vain."""
        try:
            self._watch()
        except BaseException as error:  # noqa: BLE001 - whatever it was, the main thread raises it
            self.error = error
            _thread.interrupt_main()

    def _watch(self) -> None:
        run_id, seen = self._first_run(), set[str]()
        if run_id is None:
            return
        with get_client(sync_client=True) as client:
            while not self._ended.wait(_LOOK_EVERY_S):
                keys = self._keys(client, run_id)
                if keys is not None and keys["response"] not in seen:
                    seen.add(keys["response"])
                    self._answer(client, run_id, keys)

    def _first_run(self) -> UUID | None:
        while not self._ended.is_set():
            try:
                return self._run_ids.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                continue
        return None

    def _answer(self, client: SyncPrefectClient, run_id: UUID, keys: dict[str, str]) -> None:
        self._terminal.evidence(self._read_input(client, run_id, keys["description"]), run_link(run_id))
        if self._answers is None:
            return

        def still_open() -> bool:
            return not self._ended.is_set() and self._keys(client, run_id) == keys

        fields = self._answers(still_open)
        if fields is None or not still_open():
            self._terminal.say("\nIt was answered elsewhere.")
            return
        try:
            resume_flow_run(run_id, run_input=fields)
        except (PrefectException, PrefectHTTPStatusError, RuntimeError) as error:
            self._terminal.say(f"The answer was not taken: {error}")

    def _keys(self, client: SyncPrefectClient, run_id: UUID) -> dict[str, str] | None:
        try:
            return keys_of_pause(client.read_flow_run(run_id))
        except (PrefectException, PrefectHTTPStatusError, OSError):
            return None

    def _read_input(self, client: SyncPrefectClient, run_id: UUID, key: str) -> str:
        """Return a saved input; Prefect pauses a run a moment before it saves what the form shows."""
        give_up_at = time.monotonic() + _INPUT_IS_LATE_S
        while True:
            try:
                return _text(client.read_flow_run_input(run_id, key))
            except (ObjectNotFound, PrefectHTTPStatusError):
                if time.monotonic() > give_up_at:
                    return "(Prefect has no evidence for this question.)"
                time.sleep(_LOOK_EVERY_S)


def _text(value: Any) -> str:
    try:
        decoded = json.loads(value)
    except ValueError:
        return str(value)
    return decoded if isinstance(decoded, str) else str(value)
