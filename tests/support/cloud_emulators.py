"""Emulators of the three clouds, each started once for the folder whose conftest takes them in."""

from __future__ import annotations

from collections.abc import Iterator

import emulators
import pytest
from emulators import Emulator


@pytest.fixture(scope="session")
def s3() -> Iterator[Emulator]:
    """Return moto's S3."""
    with emulators.s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def gcs() -> Iterator[Emulator]:
    """Return the strict fake of Google Cloud Storage."""
    with emulators.gcs_server() as server:
        yield server


@pytest.fixture(scope="session")
def azure() -> Iterator[Emulator]:
    """Return Azurite."""
    with emulators.azure_server() as server:
        yield server
