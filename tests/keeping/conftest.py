"""A registry with a history, on real stores, and what may be done to it behind its back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from registry import FileModelStore, InMemoryModelStore, ModelRegistry, ModelStore, artifacts, clock
from registry.encoding import digest_of, readable_json
from registry.engines.records import VariantReport
from registry.events import VariantAdded
from registry.records import Variant

if TYPE_CHECKING:
    from pathlib import Path

ACTOR = "ada@example.com"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep caches of this test below its own folder, and let no setting of the machine reach it."""
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home" / variable.lower()))
    for variable in ("MODELWAY_URL", "MODELWAY_ACTOR"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    """Return an empty store of each kind."""
    return InMemoryModelStore() if request.param == "memory" else FileModelStore(tmp_path / "registry")


@pytest.fixture
def models(store: ModelStore) -> ModelRegistry:
    """Return a registry of ``digits``: v1 archived, v2 in production and ``champion``, with an engine, v3 new."""
    registry = ModelRegistry(store=store, actor=ACTOR)
    for number in (1, 2, 3):
        registry.register("digits", b"weights of v%d" % number, metrics={"accuracy": 0.9 + number / 100})
    registry.promote("digits", 1, "production")
    registry.promote("digits", 2, "production")
    registry.set_alias("digits", "champion", 2)
    add_engine(registry, "digits", 2, b"engine of v2")
    return registry


def add_engine(registry: ModelRegistry, name: str, version: int, data: bytes, *, key: str = "e" * 64) -> str:
    """Keep an engine of one file beside a version, as ``optimize`` does; return its folder."""
    folder = f"models/{name}/versions/v{version}/variants/{key}"
    manifest = artifacts.upload(registry.store, folder, artifacts.from_bytes(data, "engine.onnx"), title="")
    report = VariantReport(key=key, key_fields={}, engine="onnxruntime fp32", status="measured")
    sidecar = readable_json(Variant(report=report, manifest=manifest))
    registry.store.create(f"{folder}/metadata.json", sidecar)
    added = VariantAdded(version=str(version), key=key, digest=digest_of(sidecar))
    registry._append_existing(name, lambda _known: added)  # noqa: SLF001 - what optimize does, without building one
    return folder


@pytest.fixture
def engine() -> Callable[..., str]:
    """Return what keeps an engine beside a version."""
    return add_engine


def content_of(store: ModelStore) -> dict[str, bytes]:
    """Return every byte of a store, by key."""
    return {key: store.read(key) for key in store.list("")}


@pytest.fixture
def content() -> Callable[[ModelStore], dict[str, bytes]]:
    """Return a function that gives every byte of a store, by key."""
    return content_of


@pytest.fixture
def nothing_changes(store: ModelStore) -> Callable[[], AbstractContextManager[None]]:
    """Return a context in which no byte of ``store`` may change."""

    @contextmanager
    def unchanged() -> Iterator[None]:
        before = content_of(store)
        yield
        assert content_of(store) == before

    return unchanged


class Clock:
    """The time of this process, and of storage in its memory; it goes on by itself, and can be moved."""

    def __init__(self) -> None:
        """Begin now."""
        self._now = clock.now
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        """Return the time."""
        return self._now() + self.ahead


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock, which a test may move."""
    moved = Clock()
    monkeypatch.setattr(clock, "now", moved.now)
    return moved
