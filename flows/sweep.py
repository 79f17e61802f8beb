"""A sweep: train many candidates at once, here or on a cluster, and promote the best that meets the policy."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.gate import ASK_AT_MOST, pass_gate
from flows.running import carried
from flows.way import listed, to_serving
from registry import ModelRegistry, ModelStage
from tasks import run_steps, steps, sweeping
from tasks.gate import Gate
from tasks.outcome import Outcome
from tasks.runners import Runner, task_runner
from tasks.sweep_file import Failed, Sweep, Tried, load_sweep


@flow(name="sweep", flow_run_name="{config}", validate_parameters=False)
def sweep(  # noqa: PLR0913 - the public interface
    config: str,
    *,
    url: str | None = None,
    grid: dict[str, list[Any]] | None = None,
    runner: Runner | None = None,
    workers: int | None = None,
    address: str | None = None,
    to_production: bool = False,
    ask_at_most: int = ASK_AT_MOST,
) -> Outcome:
    """Train a pipeline with every choice of a grid, register all, and bring the best that meets the policy to staging.

    All are measured on the same data. A candidate that crashes is told and left out. A sweep that died is taken up by
    the next that is started with the same file and grid: what was registered is not trained again.

    Args:
        config: The path of a sweep file.
        url: The registry, instead of the one that the pipeline file names.
        grid: A list of values for each parameter that is varied, instead of the file's.
        runner: ``threads``, ``processes``, ``dask`` or ``ray``, instead of the file's.
        workers: How many candidates are trained at once, instead of the file's.
        address: A Dask or Ray cluster that runs already, instead of the file's.
        to_production: Go on from staging as ``lifecycle`` does: optimise, ask, promote, serve.
        ask_at_most: How often a person may be asked while this process lives.

    Raises:
        InvalidPipelineError: A file cannot be run; names its line.
        MissingExtraError: The runner is not installed.
        ModelwayError: No candidate is left, or a step failed; what was done until then stands in the registry.
    """
    plan = load_sweep(config, grid=grid, runner=runner, workers=workers, address=address)
    pipeline, settings = plan.pipeline, plan.settings
    where = task_runner(settings.runner, workers=settings.workers, address=settings.address)
    url = ModelRegistry(url or pipeline.registry.url).url  # a worker may stand in another folder
    steps.prepare(url, pipeline)
    parameters = {"config": config, "grid": {name: list(values) for name, values in settings.grid.items()}}
    run = run_steps.begin(url, pipeline.name, kind="sweep", parameters=parameters)

    def way() -> Outcome:
        results = candidates.with_options(task_runner=where)(url, plan, run.id)
        best = sweeping.rank(pipeline, results)[0]
        if best.failures:
            words = f"it is the best of {len(results)}, and does not meet the policy:\n{listed(best.failures)}"
            return Outcome.of("policy_failed", url, best.version, words)
        gate = Gate(url=url, model=pipeline.name, stage=ModelStage.STAGING, policy=pipeline.policy, required=False)
        by = f"sweep {run.id}"
        stopped = pass_gate(gate, best.version, run=run.id, ask_at_most=ask_at_most, actor=by)
        if stopped is not None:
            return stopped
        if to_production:
            return to_serving(url, pipeline, best.version, run, keep_serving=True, ask_at_most=ask_at_most, actor=by)
        return Outcome.of(
            "promoted", url, best.version, f"it is the best of {len(results)} and in staging: {best.name}"
        )

    return carried(run, url=url, model=pipeline.name, way=way)


@flow(name="candidates", flow_run_name="{run}", validate_parameters=False)
def candidates(url: str, plan: Sweep, run: str) -> list[Tried | Failed]:
    """Try each candidate on the task runner that this flow is given, and return what came of all."""
    threads = plan.settings.threads_per_worker
    futures = [
        sweeping.try_candidate.submit(url, plan.pipeline, candidate, run=run, threads=threads)
        for candidate in plan.candidates
    ]
    return [sweeping.result_of(candidate, future) for candidate, future in zip(plan.candidates, futures, strict=True)]
