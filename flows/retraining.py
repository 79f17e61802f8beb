"""Retraining: train anew, compare with what is in production on the same data, and ask only when it is better."""

from __future__ import annotations

from prefect import flow

from flows.gate import ASK_AT_MOST
from flows.running import carried
from flows.way import judged, listed, to_serving, trained
from tasks import run_steps, steps
from tasks.notifying import tell_failure
from tasks.outcome import Outcome
from tasks.pipeline import load_pipeline


@flow(
    name="retraining",
    flow_run_name="{config}",
    validate_parameters=False,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def retraining(config: str, *, url: str | None = None, reason: str = "", ask_at_most: int = ASK_AT_MOST) -> Outcome:
    """Train a pipeline's model again, and bring it to serving if it is better than the version in production.

    Both are measured on the same data. One that is not better by the pipeline's margin stays in development, with the
    reason in the registry's log; nobody is asked. A run that died is taken up by the next.

    Args:
        config: The path of a pipeline file.
        url: The registry, instead of the one that the file names.
        reason: Why it is retrained: a schedule, drift, somebody's wish; recorded.
        ask_at_most: How often a person may be asked while this process lives.

    Raises:
        InvalidPipelineError: The file cannot be run; names its line.
        ModelwayError: A step failed; what was done until then stands in the registry.
    """
    pipeline = load_pipeline(config)
    url = url or pipeline.registry.url
    steps.prepare(url, pipeline)
    run = run_steps.begin(url, pipeline.name, kind="retraining", parameters={"config": config}, reason=reason)

    def way() -> Outcome:
        candidate = trained(url, pipeline, run)
        if (failed := judged(url, pipeline, candidate, run)) is not None:
            return failed
        better = steps.better_than_incumbent(url, pipeline, candidate)
        if not better.passed:
            words = f"it is not better than what is in production and stays where it is:\n{listed(better.failures)}"
            return Outcome.of("not_better", url, candidate, words)
        return to_serving(
            url, pipeline, candidate, run, keep_serving=True, ask_at_most=ask_at_most, actor=f"retraining {run.id}"
        )

    return carried(run, url=url, model=pipeline.name, way=way)
