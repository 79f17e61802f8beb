"""The way of a model, as one flow: train, register, validate, promote, optimise, ask, promote, deploy, try."""

from __future__ import annotations

from prefect import flow

from flows.gate import ASK_AT_MOST
from flows.running import carried
from flows.way import judged, to_serving, trained
from tasks import run_steps, steps
from tasks.notifying import tell_failure
from tasks.outcome import Outcome
from tasks.pipeline import load_pipeline


@flow(
    name="lifecycle",
    flow_run_name="{config}",
    validate_parameters=False,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def lifecycle(  # noqa: PLR0913 - the public interface
    config: str,
    *,
    url: str | None = None,
    version: str | None = None,
    keep_serving: bool = True,
    ask_at_most: int = ASK_AT_MOST,
    afresh: bool = False,
    requested_by: str | None = None,
) -> Outcome:
    """Bring a model from training to serving.

    A run that died is taken up where it stopped by the next one that is started with the same file and version.

    Args:
        config: The path of a pipeline file.
        url: The registry, instead of the one that the file names.
        version: Take this registered version on its way instead of training a new one.
        keep_serving: Leave the endpoint running when all is done.
        ask_at_most: How often a person may be asked while this process lives; 0 when nobody can.
        afresh: Leave what a run that died has left, and begin anew.
        requested_by: Who asks for the promotion; nobody approves their own request.

    Returns:
        How it ended. A policy that does not hold and a person who says no are endings, not errors.

    Raises:
        InvalidPipelineError: The file cannot be run; names its line.
        ModelwayError: A step failed; what was done until then stands in the registry.
    """
    pipeline = load_pipeline(config)
    url = url or pipeline.registry.url
    steps.prepare(url, pipeline)
    run = run_steps.begin(
        url,
        pipeline.name,
        kind="lifecycle",
        parameters={"config": config, "version": version},
        version=version,
        afresh=afresh,
    )

    def way() -> Outcome:
        candidate = trained(url, pipeline, run) if version is None else steps.find(url, pipeline.name, version)
        return judged(url, pipeline, candidate, run) or to_serving(
            url, pipeline, candidate, run, keep_serving=keep_serving, ask_at_most=ask_at_most, actor=requested_by
        )

    return carried(run, url=url, model=pipeline.name, way=way)
