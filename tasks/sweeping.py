"""A sweep's steps: try a candidate in a worker, hear of one that died, and rank what is left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.futures import PrefectFuture

from registry import ModelRegistry, ModelVersion
from registry.errors import ModelwayError
from tasks import user_code
from tasks.best_effort import best_effort
from tasks.judging import judge, score_of
from tasks.pipeline import PipelineConfig
from tasks.prefect_task import registry_step
from tasks.sweep_file import Candidate, Failed, Tried
from tasks.telling import tell
from tasks.training import run_trainer


@registry_step
def try_candidate(url: str, pipeline: PipelineConfig, candidate: Candidate, *, run: str, threads: int) -> Tried:
    """Train, register and measure one candidate; what this run has registered before is only measured.

    Args:
        url: The registry.
        pipeline: The pipeline; its trainer gets the candidate's parameters instead of its own.
        candidate: The choice.
        run: The sweep's run; with the candidate's parameters it makes the idempotency keys.
        threads: How many threads torch may take meanwhile.
    """
    registry, key = ModelRegistry(url), f"{run}:candidate-{candidate.digest}"
    began = time.perf_counter()
    with _torch_threads(threads):
        version = registry.find_done(pipeline.name, "reserved", key) or _trained(
            registry, pipeline, candidate, run, key
        )
        validation = user_code.load_splits(pipeline.data).validation
        score = score_of(pipeline, _outputs(registry, version, validation.inputs), validation.labels)
        judged, result = judge(registry, pipeline, version, key=f"{key}:judge")
    seconds = time.perf_counter() - began
    return Tried(candidate=candidate, version=judged, score=score, failures=result.failures, seconds=seconds)


def _trained(
    registry: ModelRegistry, pipeline: PipelineConfig, candidate: Candidate, run: str, key: str
) -> ModelVersion:
    trainer = pipeline.trainer.model_copy(update={"parameters": candidate.parameters})
    model, _ = run_trainer(pipeline.model_copy(update={"trainer": trainer}))
    described = replace(
        model,
        tags=model.tags or pipeline.tags,
        description=model.description or pipeline.description,
        lineage={**(model.lineage or {}), "sweep": {"run": run, "candidate": candidate.number, **candidate.varied}},
    )
    return described.register_in(registry, idempotency_key=key)


def _outputs(registry: ModelRegistry, version: ModelVersion, inputs: Any) -> Any:
    from registry.frameworks.predict import predictor_of

    return predictor_of(registry.load(version.name, version.version), version.full_name)(inputs)


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Hold torch to ``count`` threads: each worker would take all cores otherwise, and all of them fight."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def result_of(candidate: Candidate, future: PrefectFuture[Tried]) -> Tried | Failed:
    """Wait for a candidate, and return what came of it; one that failed, or whose worker died, says why."""
    try:
        result: Any = future.result(raise_on_failure=False)
    except Exception as error:  # noqa: BLE001 - a worker that was killed raises what its framework has for that
        result = error
    if isinstance(result, Tried):
        return result
    words = f"{type(result).__name__}: {result}" if isinstance(result, BaseException) else str(result)
    failed = Failed(candidate=candidate, error=words)
    tell("sweep", f"{failed.name} failed: {words}")
    return failed


@registry_step
def rank(pipeline: PipelineConfig, results: Sequence[Tried | Failed]) -> list[Tried]:
    """Return the candidates that are left, the best first, and show all in a table: those that meet the policy lead.

    Among equals the one that comes first in the grid. The order is that of the validation data: who chose by the test
    data would judge the winner by what it was chosen for.

    Raises:
        ModelwayError: None is left.
    """
    tried = sorted((one for one in results if isinstance(one, Tried)), key=lambda one: (bool(one.failures), -one.score))
    failed = [one for one in results if isinstance(one, Failed)]
    for one in tried:
        verdict = "fails the policy" if one.failures else "meets the policy"
        tell("sweep", f"{one.name}: validation {pipeline.evaluation.metric} {one.score:.4f}, {verdict}")
    with best_effort("sweep", "the table could not be shown"):
        create_table_artifact(
            key="sweep",
            table=[_row(pipeline.evaluation.metric, one) for one in _together(tried, failed)],
            description=f"{pipeline.name}: {len(results)} candidates, {len(failed)} failed",
        )
    if not tried:
        why = "\n".join(f"  - {one.name}: {one.error}" for one in failed)
        raise ModelwayError(
            f"none of the {len(results)} candidates of {pipeline.name} could be trained and measured:\n{why}\n"
            f"Mend the trainer or the grid, and start the sweep again."
        )
    return tried


def _together(tried: Sequence[Tried], failed: Sequence[Failed]) -> list[Tried | Failed]:
    return [*tried, *failed]


def _row(metric: str, one: Tried | Failed) -> dict[str, Any]:
    row: dict[str, Any] = {"candidate": one.candidate.number, **one.candidate.varied}
    if isinstance(one, Failed):
        return {
            **row,
            "version": "",
            f"validation {metric}": "",
            f"test {metric}": "",
            "policy": one.error,
            "seconds": "",
        }
    measured = one.version.metrics.get(metric)
    return {
        **row,
        "version": one.version.version,
        f"validation {metric}": f"{one.score:.4f}",
        f"test {metric}": "" if measured is None else f"{measured:.4f}",
        "policy": "; ".join(one.failures) or "passed",
        "seconds": f"{one.seconds:.1f}",
    }
