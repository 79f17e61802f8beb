"""Run a pipeline's trainer, show how far it is, and look at what it returns."""

from __future__ import annotations

import time

from registry.errors import InvalidPipelineError
from registry.progress import track
from tasks import user_code
from tasks.model import Model
from tasks.pipeline import PipelineConfig


def run_trainer(pipeline: PipelineConfig) -> tuple[Model, float]:
    """Return what the pipeline's trainer made of its data, and how many seconds it took.

    Raises:
        InvalidPipelineError: It returned something else than ``Model(..., register=True)`` of the pipeline's name.
    """
    splits = user_code.load_splits(pipeline.data)
    started = time.perf_counter()
    with track(f"training {pipeline.name}", 100, "%") as advance:
        shown = 0

        def progress(done: int, of: int, _words: str) -> None:
            nonlocal shown
            advance(100 * done // of - shown)
            shown = 100 * done // of

        model = user_code.train(pipeline.trainer, splits, progress=progress)
    if model.registered is not None:
        raise InvalidPipelineError(
            f"{pipeline.trainer.entry_point} has registered {model.registered.full_name} itself. The pipeline "
            f"registers what its trainer returns, with the evidence: take @step away from it."
        )
    if model.name != pipeline.name or not model.register:
        raise InvalidPipelineError(
            f"{pipeline.trainer.entry_point} must return Model(data=..., name={pipeline.name!r}, register=True); "
            f"it returned Model(name={model.name!r}, register={model.register})."
        )
    return model, time.perf_counter() - started
