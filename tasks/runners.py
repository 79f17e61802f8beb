"""Where the calls of a flow run: threads or processes of this machine, or Dask or Ray, here or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from registry.errors import InvalidInputError, MissingExtraError

Runner = Literal["threads", "processes", "dask", "ray"]


def task_runner(kind: Runner, *, workers: int, address: str | None = None) -> TaskRunner[Any]:
    """Return a task runner with ``workers`` workers of one call at a time.

    Args:
        kind: Which.
        workers: How many calls run at once, >= 1; on a cluster its own workers decide.
        address: A Dask scheduler (``tcp://...``) or a Ray cluster (``ray://...``, or ``auto``) that runs already.
            Without one, Dask and Ray are started on this machine, on loopback alone, and stopped when the flow ends.

    Raises:
        InvalidInputError: No such runner, no worker, or an address for one that has none.
        MissingExtraError: Dask or Ray is not installed.
    """
    if kind not in _RUNNERS:
        raise InvalidInputError(f"there is no runner {kind!r}; take one of: {', '.join(_RUNNERS)}.")
    if workers < 1:
        raise InvalidInputError(f"a runner needs a worker: found workers={workers}.")
    if address is not None and kind not in {"dask", "ray"}:
        raise InvalidInputError(f"{kind} run on this machine and take no address, found {address!r}: use dask or ray.")
    return _RUNNERS[kind](workers, address)


def _threads(workers: int, _address: str | None) -> TaskRunner[Any]:
    return ThreadPoolTaskRunner(max_workers=workers)


def _processes(workers: int, _address: str | None) -> TaskRunner[Any]:
    return ProcessPoolTaskRunner(max_workers=workers)


def _dask(workers: int, address: str | None) -> TaskRunner[Any]:
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ModuleNotFoundError:
        raise MissingExtraError("prefect-dask", "dask", "the Dask runner") from None
    if address is not None:
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(
        cluster_kwargs={
            "n_workers": workers,
            "threads_per_worker": 1,
            "host": "127.0.0.1",
            "dashboard_address": None,
        }
    )


def _ray(workers: int, address: str | None) -> TaskRunner[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray starts; it reports home otherwise
    try:
        import prefect_ray
    except ModuleNotFoundError:
        raise MissingExtraError("prefect-ray", "ray", "the Ray runner") from None
    runner: type[TaskRunner[Any]] = prefect_ray.RayTaskRunner
    if address is not None:
        return runner(address=address)  # type: ignore[call-arg]
    return runner(  # type: ignore[call-arg]
        init_kwargs={
            "num_cpus": workers,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    )


_OBJECT_STORE_BYTES = 256 << 20
"""Ray would take a third of the memory; what goes between calls here are records and a trainer's data."""

_RUNNERS: dict[str, Callable[[int, str | None], TaskRunner[Any]]] = {
    "threads": _threads,
    "processes": _processes,
    "dask": _dask,
    "ray": _ray,
}
