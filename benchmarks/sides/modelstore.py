"""modelstore's side, run in its own environment."""

from __future__ import annotations

from modelstore import ModelStore  # type: ignore[import-not-found]  # in the environment that this runs in

from benchmarks.sides.answering import FEW, FEW_VERSIONS, Job, Steps, answer


def fill(job: Job) -> Steps:
    """Make the store that the other actions work on."""
    yield None
    (job.folder / "store").mkdir()
    store = _store(job)
    store.create_model_state("production")
    source = job.folder / "model.bin"
    source.write_bytes(b"a model")
    for number in range(FEW_VERSIONS):
        store.upload(FEW, model_id=f"model-{number}", model=str(source))
    store.set_model_state(FEW, "model-3", "production")
    yield None


def resolve(job: Job) -> Steps:
    """Say which version is in production, and what it is."""
    store = _store(job)
    while True:
        yield None
        [found] = store.list_models(FEW, "production")
        store.get_model_info(FEW, found)
        yield None


def register_small(job: Job) -> Steps:
    """Register a file; it is packed with gzip, not hashed and not fsynced."""
    store = _store(job)
    while True:
        yield None
        store.upload("small", model=str(job.small_file))
        yield None


def _store(job: Job) -> ModelStore:
    return ModelStore.from_file_system(root_directory=str(job.folder / "store"))


if __name__ == "__main__":
    answer({each.__name__: each for each in (fill, resolve, register_small)})
