"""A flow whose steps run in workers, as a program: it goes through one flow run twice, and prints what that gave.

A program of its own, because Prefect's process pool forwards from threads that know no temporary settings.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, cast

from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow
from prefect.states import Scheduled

from tasks import Model, step
from tasks.runners import Runner, task_runner


@step(retries=1, retry_delay_seconds=0)
def train(seed: int, failed: Path) -> dict[str, Model]:
    """Give two Models; the first try with seed 3 fails when one of them stands."""
    label = "2.0.0"
    if seed == 3 and not failed.exists():
        failed.touch()
        label = "1.0.0"  # taken
    process = {"seed": seed, "process": os.getpid()}
    return {
        "here": Model(data=b"weights", name="detector", register=True, parameters=process),
        "other": Model(data=b"x", name="other", register=seed == 3, version=label),
    }


def training(failed: Path) -> list[dict[str, Model]]:
    """Call the step in every way that goes to a worker, twice with the same arguments."""
    return [*train.map([0, 1], failed).result(), train.submit(0, failed).result(), train.submit(3, failed).result()]


def pass_through(of: Flow[..., Any], run: FlowRun, **parameters: Any) -> list[tuple[str | None, Any]]:
    """Run the flow run from the top, as a worker does when it is retried."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Scheduled(), force=True)
        given: Any = run_flow(of, flow_run=client.read_flow_run(run.id), parameters=parameters)
    return [(model["here"].version, model["here"].parameters) for model in given]


def main(kind: str, failed: str) -> None:
    """Go through the run on that runner, and again in threads."""
    inside = flow(name="training", task_runner=task_runner(cast("Runner", kind), workers=2))(training)
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(inside)
    given = pass_through(inside, run, failed=Path(failed))
    again = pass_through(flow(name="training")(training), run, failed=Path(failed))
    sys.stdout.write("\n" + json.dumps({"process": os.getpid(), "given": given, "again": again}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
