"""Every backend keeps the whole contract, on disk, in memory and against the emulator of each cloud."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from emulators import Emulator
from own_store import SqliteStore

from registry import FileModelStore, InMemoryModelStore, ModelStore
from registry.store import open_store
from registry.testing.conformance import StoreConformance


@pytest.mark.heavy
class TestFolder(StoreConformance):
    rounds = 200

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self._folder = tmp_path

    def make_store(self) -> ModelStore:
        return FileModelStore(self._folder / "registry")


class TestMemory(StoreConformance):
    between_processes = False
    rounds = 200

    def make_store(self) -> ModelStore:
        return InMemoryModelStore()


@pytest.mark.heavy
class TestAStoreOfOnesOwn(StoreConformance):
    """``tests/support/own_store.py``, written from docs/storage.md alone."""

    rounds = 30

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self._folder = tmp_path

    def make_store(self) -> ModelStore:
        return SqliteStore(self._folder / "registry.sqlite")


class _Cloud(StoreConformance):
    rounds = 15

    def make_store(self) -> ModelStore:
        return open_store(f"{self._server.url}/{uuid.uuid4().hex}", storage_options=self._server.options)

    _server: Any


@pytest.mark.heavy
class TestS3(_Cloud):
    @pytest.fixture(autouse=True)
    def place(self, s3: Emulator) -> None:
        self._server = s3


@pytest.mark.heavy
class TestGoogleCloudStorage(_Cloud):
    @pytest.fixture(autouse=True)
    def place(self, gcs: Emulator) -> None:
        self._server = gcs


@pytest.mark.heavy
class TestAzure(_Cloud):
    @pytest.fixture(autouse=True)
    def place(self, azure: Emulator) -> None:
        self._server = azure
