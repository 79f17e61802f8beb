"""Progress of long work as progress artifacts of the run, written beside the work and not by it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextvars import copy_context
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.utilities.context import get_task_and_flow_run_ids
from rich.filesize import decimal

from registry.progress import Advance
from tasks.best_effort import best_effort
from tasks.markdown import escaped

EVERY_S = 1.0
"""Seconds between two updates; work that is done by then shows nothing."""

_LAST_WITHIN_S = 5.0


class PrefectProgress:
    """A listener for ``registry.progress``; outside of a run it is silent.

    with listen(PrefectProgress()):
        registry.optimize(...)
    """

    def begin(self, title: str, total: int, unit: str) -> tuple[Advance, Callable[[], None]]:
        """Show a new piece of work as an artifact of the run that this is called in, once it takes a moment."""
        task_run_id, flow_run_id = get_task_and_flow_run_ids()
        if not title or total <= 0 or flow_run_id is None:
            return lambda _amount: None, lambda: None
        work = _Work(title, total, unit, task_run_id=task_run_id, flow_run_id=flow_run_id)
        return work.advance, work.end


class _Work:
    """One piece of work, and the thread that shows how far it is: an advance costs no request."""

    def __init__(self, title: str, total: int, unit: str, *, task_run_id: UUID | None, flow_run_id: UUID) -> None:
        self._title, self._total, self._unit, self._done = title, total, unit, 0
        self._task_run_id, self._flow_run_id = task_run_id, flow_run_id
        self._ended = threading.Event()
        # In the run's context, where Prefect's settings and its log are.
        self._thread = threading.Thread(target=copy_context().run, args=(self._show,), name="progress", daemon=True)
        self._thread.start()

    def advance(self, amount: int) -> None:
        self._done += amount

    def end(self) -> None:
        self._ended.set()
        self._thread.join(_LAST_WITHIN_S)

    def _show(self) -> None:
        if self._ended.wait(EVERY_S):
            return
        with best_effort("progress", f"{self._title} could not be shown"), get_client(sync_client=True) as client:
            artifact = self._create(client)
            shown, ended = self._done, False
            while not ended:
                ended = self._ended.wait(EVERY_S)
                if self._done != shown:
                    shown = self._done
                    client.update_artifact(artifact, ArtifactUpdate(data=self._percent(), description=self._words()))

    def _create(self, client: SyncPrefectClient) -> UUID:
        named = re.sub(r"[^a-z0-9]+", "-", self._title.partition(":")[0].lower()).strip("-")
        artifact = ArtifactCreate(
            key=named or None,
            type="progress",
            description=self._words(),
            data=self._percent(),
            task_run_id=self._task_run_id,
            flow_run_id=self._flow_run_id,
        )
        return client.create_artifact(artifact).id

    def _percent(self) -> float:
        return min(100.0, 100.0 * self._done / self._total)

    def _words(self) -> str:
        if self._unit == "bytes":
            return f"{escaped(self._title)}: {decimal(self._done)} of {decimal(self._total)}"
        return f"{escaped(self._title)}: {self._done} of {self._total} {self._unit}"
