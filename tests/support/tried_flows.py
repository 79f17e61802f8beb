"""Flows that tests deploy: their runs say what they got, wait for a person, or go on until they are killed."""

from __future__ import annotations

import time
from pathlib import Path

from prefect import flow, suspend_flow_run
from prefect.input import RunInput


class Answer(RunInput):
    """What a person says."""

    decision: str


@flow
def note(config: str = "none", *, reason: str = "", epochs: int = 1) -> None:
    """Write what it got into a file of the working folder."""
    with Path("notes.txt").open("a") as notes:
        notes.write(f"{config} {epochs} {reason}\n")


@flow
def ask(config: str) -> None:
    """Suspend until a person has answered; a slow one works until the file ``release`` is there before it does."""
    while config == "slow" and not Path("release").exists():
        time.sleep(0.2)
    suspend_flow_run(wait_for_input=Answer, key=f"ask-{config}")


@flow
def go_on() -> None:
    """Never end."""
    while True:
        time.sleep(1)
