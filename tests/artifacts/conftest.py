"""Registries on each kind of store, and caches that are this test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry import FileModelStore, InMemoryModelStore, ModelRegistry, ModelStore


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's cache folder below the test's own, and let no setting of the machine reach it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("MODELWAY_URL", "MODELWAY_ACTOR"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "cache" / "modelway"


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    """Return an empty store of each kind: one that lies on this machine's disk and one that does not."""
    return InMemoryModelStore() if request.param == "memory" else FileModelStore(tmp_path / "registry")


@pytest.fixture
def models(store: ModelStore) -> ModelRegistry:
    """Return an empty registry on each kind of store."""
    return ModelRegistry(store=store, actor="ada@example.com")


@pytest.fixture
def on_disk(tmp_path: Path) -> ModelRegistry:
    """Return an empty registry on this machine's disk."""
    return ModelRegistry(tmp_path / "registry", actor="ada@example.com")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of three files."""
    top = tmp_path / "trained"
    (top / "below").mkdir(parents=True)
    for name in ("a.bin", "below/b.bin", "below/c.bin"):
        (top / name).write_bytes(name.encode() * 100)
    return top
