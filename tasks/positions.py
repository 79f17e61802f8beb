"""Where in a flow run a call of a step stands: the same in each pass of that run, in whatever process it runs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from typing import Any

from prefect.context import FlowRunContext, TaskRunContext

_counting = threading.Lock()


def position_of(name: str, parameters: Mapping[str, Any]) -> str | None:
    """Return the position of a call of the step ``name`` that is made now; None where no flow runs.

    A flow run is passed through again from the top when it is retried, or resumed after it was suspended, and each of
    its task runs has another id then. A position is made of what stays: the flow run's id, the step's name, a digest of
    the call's arguments, and how many calls of that step with such arguments came before it in this pass. Of the
    arguments count None, bools, numbers and text, and lists, tuples and dicts of them; all others (arrays, models,
    futures, dates) count as the same one, so that they are told apart by the order of their calls. An edited function,
    and calls added before this one with other such arguments, change nothing.

    A call in another step's run is counted within that step's position and try; one in a task that is no step within
    the task run, whose retries thus find what was registered, and another pass of the flow does not. A subflow is known
    by the place of its call in its parent.

    Args:
        name: The step's name.
        parameters: The call's arguments by name, as they stand when it is made.
    """
    flow, task = FlowRunContext.get(), TaskRunContext.get()
    if flow is None or flow.flow_run is None:
        return None
    # A subflow has another id in each pass, and the task that stands for it in its parent has not.
    within = attempt = str(flow.flow_run.parent_task_run_id or flow.flow_run.id)
    if task is not None and task.task_run.flow_run_id == flow.flow_run.id:  # else the flow itself runs inside that task
        within = getattr(task.task, "position", None) or f"{within}:{task.task_run.id}"
        attempt = f"{task.task_run.id}:{task.task_run.run_count}"
    call = f"{name}-{_digest(parameters)}"
    with _counting:
        # Prefect's own counters of calls: each pass has new ones, and so has each process.
        counts = flow.task_run_dynamic_keys
        number = counts[f"{attempt}:{call}"] = int(counts.get(f"{attempt}:{call}", 0)) + 1
    return f"{within}:{call}-{number}"


def _digest(parameters: Mapping[str, Any]) -> str:
    shown = json.dumps({name: _shown(value) for name, value in parameters.items()}, sort_keys=True)
    return hashlib.sha256(shown.encode()).hexdigest()[:12]


def _shown(value: Any) -> Any:
    """Return what is equal for equal arguments in every process, as JSON holds it."""
    if value is None or type(value) in {bool, int, float, str}:
        return value
    if type(value) in {list, tuple}:
        return [_shown(part) for part in value]
    if type(value) is dict:
        return {json.dumps(_shown(key)): _shown(part) for key, part in value.items()}
    return {}
