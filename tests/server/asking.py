"""A flow that suspends until somebody answers; a worker imports it from its working folder."""

from __future__ import annotations

from typing import Literal

from prefect import flow
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput


class Answer(RunInput):
    """What is asked."""

    decision: Literal["approve", "reject"]


@flow
def ask() -> None:
    """Ask once; end when the answer is a yes, fail when it is a no."""
    answer = suspend_flow_run(wait_for_input=Answer, key="approval-1", timeout=None)
    if answer.decision != "approve":
        raise PermissionError(answer.decision)
