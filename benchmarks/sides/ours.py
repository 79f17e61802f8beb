"""modelway's side: everything by the public interface."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from pathlib import Path
from unittest import mock

from benchmarks.sides.answering import FEW, FEW_VERSIONS, MANY, Job, Steps, answer, expect, race_model, watch
from registry import ModelRegistry
from registry.errors import ModelNotFoundError


def fill(job: Job) -> Steps:
    """Make the registries that the other actions work on."""
    # What is made here is copied and thrown away: it must be right, not safe from a power cut.
    with mock.patch("os.fsync"):
        yield None
        _fill(job)
        yield None


def _fill(job: Job) -> None:
    registry = ModelRegistry(job.folder / "registry")
    for number in range(FEW_VERSIONS):
        registry.register(FEW, metrics={"accuracy": number / FEW_VERSIONS})
    registry.promote(FEW, 3, "production")
    for number in range(job.sizes.versions):
        registry.register(MANY, metrics={"accuracy": number / job.sizes.versions})
    hundred = ModelRegistry(job.folder / "models")
    for number in range(job.sizes.models):
        for _ in range(2):
            hundred.register(f"model-{number:03}", metrics={"accuracy": 0.9})
        hundred.promote(f"model-{number:03}", 1, "production")


def resolve(job: Job) -> Steps:
    """Say which version is in production."""
    registry = ModelRegistry(job.folder / "registry")
    while True:
        yield None
        found = registry.get_production_model(FEW)
        yield None
        expect(found and found.version, "v3")


def register_small(job: Job) -> Steps:
    """Register a file; hashed and fsynced."""
    registry = ModelRegistry(job.folder / "registry")
    while True:
        yield None
        registry.register("small", job.small_file)
        yield None


def change_stage(job: Job) -> Steps:
    """Bring the next version of a model with many to production; the one before is archived by the same event."""
    registry = ModelRegistry(job.folder / "registry")
    registry.get_version(MANY, 1)
    for number in range(1, job.sizes.versions + 1):
        yield None
        registry.promote(MANY, number, "production")
        yield None


def list_warm(job: Job) -> Steps:
    """List the versions of a model with many, by an object that has done so before."""
    registry = ModelRegistry(job.folder / "registry")
    registry.list_versions(MANY)
    while True:
        yield None
        listed = [(version.version, version.stage) for version in registry.list_versions(MANY)]
        yield None
        expect(len(listed), job.sizes.versions)


def list_cold(job: Job) -> Steps:
    """List the versions of a model with many, by an object that knows nothing."""
    while True:
        yield None
        registry = ModelRegistry(job.folder / "registry")
        listed = [(version.version, version.stage) for version in registry.list_versions(MANY)]
        yield None
        expect(len(listed), job.sizes.versions)


def cycle(job: Job) -> Steps:
    """Register, promote and alias, as often as the sizes say, while others do the same to the same model."""
    registry = ModelRegistry(job.folder / "race")
    for round_number in itertools.count():
        name = race_model(round_number)
        yield None
        for _ in range(job.sizes.cycles):
            version = registry.register(name).version
            registry.promote(name, version, "production")
            registry.set_alias(name, "champion", version)
        yield {"failed": 0}


def look_on(job: Job) -> Steps:
    """Count the versions in production while others race."""
    registry = ModelRegistry(job.folder / "race")

    def count(name: str) -> int:
        with contextlib.suppress(ModelNotFoundError):  # before the first of them is there
            return sum(version.stage == "production" for version in registry.list_versions(name))
        return 0

    yield from watch(job, count)


def register_large(job: Job) -> Steps:
    """Register a large file; hashed and fsynced."""
    root = job.folder / "large"
    while True:
        shutil.rmtree(root, ignore_errors=True)
        registry = ModelRegistry(root)
        os.sync()  # nobody pays for what was written before
        base = _reset_peak_bytes()
        yield None
        registry.register("large", job.large_file)
        yield _over(base)
        shutil.rmtree(root)


def download_large(job: Job) -> Steps:
    """Copy a large artifact into a folder, verified."""
    registry, target = _with_large(job), job.folder / "downloaded"
    while True:
        shutil.rmtree(target, ignore_errors=True)
        os.sync()
        base = _reset_peak_bytes()
        yield None
        registry.download("large", 1, target, progress=False)
        yield _over(base)
        shutil.rmtree(target)


def load_large(job: Job) -> Steps:
    """Load a large artifact as bytes, verified."""
    registry = _with_large(job)
    while True:
        yield None
        loaded = registry.load_artifact("large", 1)
        yield None
        expect(len(loaded), job.sizes.large_bytes)
        del loaded


def map_large(job: Job) -> Steps:
    """Map a large artifact into memory, verified, by an object that has not seen it before."""
    url = _with_large(job).url
    while True:
        registry = ModelRegistry(url)
        yield None
        mapped = registry.map_artifact("large", 1)
        yield None
        expect(len(mapped), job.sizes.large_bytes)
        del mapped, registry


def _with_large(job: Job) -> ModelRegistry:
    registry = ModelRegistry(job.folder / "kept")
    registry.register("large", job.large_file, version=1, idempotency_key="large")  # the actions share it
    return registry


def _reset_peak_bytes() -> int | None:
    """Return the resident memory of this process, and have its peak counted from now on; None where nobody counts."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _memory_bytes("VmRSS")
    return None


def _over(base_bytes: int | None) -> dict[str, float]:
    return {} if base_bytes is None else {"over_base_bytes": _memory_bytes("VmHWM") - base_bytes}


def _memory_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    actions = (
        *(fill, resolve, register_small, change_stage, list_warm, list_cold, cycle, look_on),
        *(register_large, download_large, load_large, map_large),
    )
    answer({each.__name__: each for each in actions})
