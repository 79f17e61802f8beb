"""Real stores to work on, in memory and on disk, and what is asked of a refusal: that nothing has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import pytest

from registry import FileModelStore, InMemoryModelStore, ModelRegistry, ModelStore

if TYPE_CHECKING:
    from pathlib import Path

ACTOR = "ada@example.com"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep caches and states of this test below its own folder, and let no setting of the machine reach it."""
    home = tmp_path / "home"
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, str(home / variable.lower()))
    for variable in ("MODELWAY_URL", "MODELWAY_ACTOR", "MODELWAY_STORAGE_OPTIONS"):
        monkeypatch.delenv(variable, raising=False)
    return home


@pytest.fixture(params=["memory", "file"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], ModelStore]:
    """Return a function that makes an empty store by a name of this test, of each kind."""
    if request.param == "memory":
        return lambda _name: InMemoryModelStore()
    return lambda name: FileModelStore(tmp_path / name)


@pytest.fixture
def store(new_store: Callable[[str], ModelStore]) -> ModelStore:
    """Return an empty store of each kind."""
    return new_store("store")


@pytest.fixture
def models(store: ModelStore) -> ModelRegistry:
    """Return an empty registry on each kind of store."""
    return ModelRegistry(store=store, actor=ACTOR)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a file registry; ``on_disk`` is the registry."""
    return tmp_path / "registry"


@pytest.fixture
def on_disk(folder: Path) -> ModelRegistry:
    """Return an empty registry in ``folder``."""
    return ModelRegistry(folder, actor=ACTOR)


@pytest.fixture
def content() -> Callable[[ModelStore], dict[str, bytes]]:
    """Return a function that gives every byte of a store, by key."""
    return _content


@pytest.fixture
def nothing_changes(store: ModelStore) -> Callable[[], AbstractContextManager[None]]:
    """Return a context in which no byte of ``store`` may change."""

    @contextmanager
    def unchanged() -> Iterator[None]:
        before = _content(store)
        yield
        assert _content(store) == before

    return unchanged


def _content(store: ModelStore) -> dict[str, bytes]:
    return {key: store.read(key) for key in store.list("")}
