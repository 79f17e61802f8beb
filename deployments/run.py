"""``modelway run``: the lifecycle flow from a terminal, with a person, a name or Prefect's UI to answer it."""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from tasks.pipeline import load_pipeline

if TYPE_CHECKING:
    from deployments.terminal import Terminal
    from tasks.outcome import Outcome

EXIT_CODES = {"deployed": 0, "rejected": 0, "taken_back": 3, "policy_failed": 3, "approval_pending": 4, "expired": 4}
"""How each ending of a run ends the command; any other is an error. A person's no is an answer, not an error."""


def run_pipeline(  # noqa: PLR0913 - the command's options
    config: str,
    *,
    approve_as: str | None,
    keep_serving: bool,
    version: str | None,
    url: str | None,
    afresh: bool = False,
) -> int:
    """Run a pipeline file and show what happens.

    Args:
        config: The path of the pipeline file.
        approve_as: Answer the approval in this name.
        keep_serving: Leave the endpoint running.
        version: Take this registered version on its way instead of training a new one.
        url: The registry; else ``MODELWAY_URL``, else the one that the file names.
        afresh: Leave what a run that died has begun, and begin anew.

    Returns:
        The exit code: 0 deployed or rejected by a person, 3 policy failed, 4 approval pending.

    Raises:
        InvalidPipelineError: The file cannot be run; nothing was started.
        ModelwayError: A step failed.
    """
    load_pipeline(config)  # before anything slow: a typing error in it is told at once
    # Nothing leaves the machine unasked: neither from the server that Prefect starts for this run, nor from its client.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Its own 20 s are too short for the first start on a busy machine.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

    from deployments.terminal import Terminal, quiet_prefect
    from registry.cli.progress import RichProgress

    terminal = Terminal()
    terminal.step("start", f"{config}; starting Prefect")
    from flows.lifecycle import lifecycle

    quiet_prefect(terminal)  # after that import, which sets up Prefect's own logging
    with _answered(terminal, approve_as) as (run_ids, ask_at_most), RichProgress():
        watched = lifecycle.with_options(on_running=[lambda _flow, run, _state: run_ids.put(run.id)])
        where = url or os.environ.get("MODELWAY_URL")
        outcome: Outcome = watched(
            config, url=where, version=version, keep_serving=keep_serving, ask_at_most=ask_at_most, afresh=afresh
        )
    terminal.summary(outcome, config=config, curl=_curl(outcome))
    return EXIT_CODES.get(outcome.ending, 1)


@contextmanager
def _answered(terminal: Terminal, approve_as: str | None) -> Iterator[tuple[queue.Queue[UUID], int]]:
    """Have somebody answer the run's questions; give how often it may ask, 0 when nobody can answer."""
    from prefect.settings import get_current_settings

    from deployments.answering import Answerer, Answers, AtThePrompt, by_name

    answers: Answers | None = None
    ask_at_most = 20 if get_current_settings().api.url else 0
    if approve_as is not None:
        answers, ask_at_most = by_name(approve_as), 1
    elif sys.stdin is not None and sys.stdin.isatty():
        answers, ask_at_most = AtThePrompt(terminal.ask), 20
    run_ids: queue.Queue[UUID] = queue.Queue()
    answerer = Answerer(run_ids, answers, terminal)
    answerer.start()
    try:
        yield run_ids, ask_at_most
    except BaseException:
        if answerer.error is not None:
            raise answerer.error from None
        raise
    finally:
        answerer.stop()
        answerer.join(timeout=5)


def _curl(outcome: Outcome) -> str | None:
    """Return a command that asks the running endpoint with a sample kept beside the version."""
    if outcome.endpoint_url is None or outcome.version is None:
        return None
    from registry import ModelRegistry
    from registry.endpoints.client import InferenceClient, curl_line

    samples = ModelRegistry(outcome.url).load_samples(outcome.model, outcome.version)
    if samples is None:
        return None
    with InferenceClient(outcome.endpoint_url) as client:
        name = client.metadata(outcome.model)["inputs"][0]["name"]
    return curl_line(outcome.endpoint_url, outcome.model, samples[0][:1], name)
