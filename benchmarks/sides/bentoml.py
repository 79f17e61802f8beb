"""bentoml's side, run in its own environment, with ``BENTOML_HOME`` at ``home`` in the side's folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks.sides.answering import FEW, FEW_VERSIONS, Job, Steps, answer


def fill(job: Job) -> Steps:
    """Make the store that the other actions work on."""
    yield None
    (job.folder / "home").mkdir()
    os.environ["BENTOML_HOME"] = str(job.folder / "home")  # the fixture's, before the first import
    source = job.folder / "model.bin"
    source.write_bytes(b"a model")
    for _ in range(FEW_VERSIONS):
        _register(FEW, source)
    for number in range(job.sizes.models):
        _register(f"model-{number:03}", source)
    yield None


def resolve(_job: Job) -> Steps:
    """Say which version is the latest: there are no stages."""
    import bentoml  # type: ignore[import-not-found]  # in the environment that this runs in

    while True:
        yield None
        bentoml.models.get(f"{FEW}:latest")
        yield None


def register_small(job: Job) -> Steps:
    """Register a file; not hashed and not fsynced."""
    while True:
        yield None
        _register("small", job.small_file)
        yield None


def _register(name: str, file: Path) -> None:
    import bentoml

    with bentoml.models.create(name) as model:
        shutil.copy(file, model.path_of(file.name))


if __name__ == "__main__":
    answer({each.__name__: each for each in (fill, resolve, register_small)})
