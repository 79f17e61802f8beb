"""A folder with a deployments file and its pool file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployments_folder import DeploymentsFolder
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings


@pytest.fixture(autouse=True)
def _no_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Name a server that is not there: with none at all Prefect would start one."""
    with temporary_settings(
        {PREFECT_HOME: tmp_path_factory.mktemp("prefect"), PREFECT_API_URL: "http://127.0.0.1:9/api"}
    ):
        yield


@pytest.fixture
def deployments(tmp_path: Path) -> DeploymentsFolder:
    """A folder to write them into."""
    return DeploymentsFolder(tmp_path)
