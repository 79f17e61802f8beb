"""A real Prefect server for a module's runs, and a working folder for `modelway` commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect_house import PrefectHouse
from working_folder import House, house_in


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a real Prefect server on loopback, started for this module."""
    with PrefectHouse(tmp_path_factory.mktemp("server")) as server:
        yield server.api_url


@pytest.fixture
def house(tmp_path: Path, api_url: str) -> Iterator[House]:
    """A working folder whose runs go to the module's Prefect server."""
    made = house_in(tmp_path / "work", PREFECT_API_URL=api_url)
    try:
        yield made
    finally:
        made.kill_all()
