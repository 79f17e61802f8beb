"""MLflow's side, run in its own environment: SQLite direct or over a server, as ``MLFLOW_TRACKING_URI`` says."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import warnings
from typing import Any

from mlflow import MlflowClient  # type: ignore[import-not-found]  # in the environment that this runs in
from mlflow.exceptions import MlflowException  # type: ignore[import-not-found]

from benchmarks.sides.answering import FEW, FEW_VERSIONS, MANY, Job, Steps, answer, expect, race_model, watch

warnings.filterwarnings("ignore", category=FutureWarning)  # stages are deprecated there; they are what is compared


def fill(job: Job) -> Steps:
    """Make the database that the other actions work on: the many rows by two bulk inserts, which nobody times.

    Each version has one metric on our side; MLflow keeps metrics with runs, and of a version a tag can say the same.
    """
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlModelVersionTag  # type: ignore[import-not-found]
    from sqlalchemy import create_engine, insert

    yield None
    client = MlflowClient(f"sqlite:///{job.folder}/mlflow.db")
    for name in (FEW, MANY):
        client.create_registered_model(name)
    for _ in range(FEW_VERSIONS):
        client.create_model_version(FEW, source=str(job.folder))
    client.transition_model_version_stage(FEW, "3", "Production")
    client.set_registered_model_alias(FEW, "champion", "3")
    first = client.create_model_version(MANY, source=str(job.folder))
    rows = [
        {"name": MANY, "version": number, "source": first.source, "storage_location": first.source}
        for number in range(2, job.sizes.versions + 1)
    ]
    tags = [
        {"name": MANY, "version": number, "key": "accuracy", "value": f"{number / job.sizes.versions}"}
        for number in range(1, job.sizes.versions + 1)
    ]
    with create_engine(f"sqlite:///{job.folder}/mlflow.db").begin() as connection:
        connection.execute(insert(SqlModelVersion), rows)
        connection.execute(insert(SqlModelVersionTag), tags)
    yield None


def resolve_alias(_job: Job) -> Steps:
    """Say which version has the alias that MLflow recommends in the place of stages."""
    client = MlflowClient()
    while True:
        yield None
        found = client.get_model_version_by_alias(FEW, "champion")
        yield None
        expect(int(found.version), 3)


def resolve_stage(_job: Job) -> Steps:
    """Say which version is in production."""
    client = MlflowClient()
    while True:
        yield None
        [found] = client.get_latest_versions(FEW, ["Production"])
        yield None
        expect(int(found.version), 3)


def register_small(job: Job) -> Steps:
    """Register a file: a run, the file as its artifact, a version that points there; as users do."""
    yield from _registers(job, str(job.small_file), "small", run_each=True)


def register_small_in_one_run(job: Job) -> Steps:
    """Register a file as the artifact of a run that is there already."""
    yield from _registers(job, str(job.small_file), "small", run_each=False)


def register_large(job: Job) -> Steps:
    """Register a large file; copied, not hashed and not fsynced."""
    yield from _registers(job, str(job.large_file), "large", run_each=True, keep=False)


def _registers(job: Job, file: str, name: str, *, run_each: bool, keep: bool = True) -> Steps:
    client = MlflowClient()
    with contextlib.suppress(MlflowException):  # of several actions the first makes it
        client.create_registered_model(name)
    artifacts = job.folder / f"artifacts-{name}-{run_each}"
    experiment = client.create_experiment(artifacts.name, artifact_location=str(artifacts))
    run = client.create_run(experiment)
    for number in itertools.count():
        yield None
        if run_each:
            run = client.create_run(experiment)
        client.log_artifact(run.info.run_id, file, f"model-{number}")
        source = f"{run.info.artifact_uri}/model-{number}"
        client.create_model_version(name, source=source, run_id=run.info.run_id)
        yield None
        if not keep:
            shutil.rmtree(artifacts)


def change_stage(job: Job) -> Steps:
    """Bring the next version of a model with many to production, and archive the one before."""
    client = MlflowClient()
    for number in range(1, job.sizes.versions + 1):
        yield None
        client.transition_model_version_stage(MANY, str(number), "Production", archive_existing_versions=True)
        yield None


def list_warm(job: Job) -> Steps:
    """List the versions of a model with many."""
    client = MlflowClient()
    while True:
        yield None
        found = client.search_model_versions(f"name='{MANY}'", max_results=job.sizes.versions)
        listed = [(version.version, version.current_stage) for version in found]
        yield None
        expect(len(listed), job.sizes.versions)


def cycle(job: Job) -> Steps:
    """Register, change the stage and set an alias, as often as the sizes say; a cycle that an error ends is counted."""
    client = MlflowClient()
    for round_number in itertools.count():
        name, failed = race_model(round_number), 0
        with contextlib.suppress(MlflowException):  # another of the processes has made it
            client.create_registered_model(name)
        yield None
        for _ in range(job.sizes.cycles):
            try:
                version = client.create_model_version(name, source=str(job.folder)).version
                client.transition_model_version_stage(name, version, "Production", archive_existing_versions=True)
                client.set_registered_model_alias(name, "champion", version)
            except MlflowException:  # what a locked database becomes
                failed += 1
        yield {"failed": failed}


def look_on(job: Job) -> Steps:
    """Count the versions in production while others race."""
    client = MlflowClient()

    def count(name: str) -> int:
        found: list[Any] = []
        with contextlib.suppress(MlflowException):
            found = client.search_model_versions(f"name='{name}'", max_results=100_000)
        return sum(version.current_stage == "Production" for version in found)

    yield from watch(job, count)


if __name__ == "__main__":
    actions = (
        *(fill, resolve_alias, resolve_stage, register_small, register_small_in_one_run, register_large),
        *(change_stage, list_warm, cycle, look_on),
    )
    answer({each.__name__: each for each in actions})
