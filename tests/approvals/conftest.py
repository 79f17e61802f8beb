"""A real Prefect server for a module, and a registry of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from approval_office import Office
from prefect_house import PrefectHouse


@pytest.fixture(scope="module")
def prefect_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectHouse]:
    """Give a Prefect server for this module."""
    with PrefectHouse(tmp_path_factory.mktemp("prefect")) as house:
        yield house


@pytest.fixture(scope="module")
def deployment(prefect_house: PrefectHouse) -> UUID:
    """Return the deployment of ``promotion`` on it; no worker is there to carry it."""
    return prefect_house.apply("flows.promotion:promotion")


@pytest.fixture
def office(prefect_house: PrefectHouse, deployment: UUID, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    """Give a registry of its own on the module's server."""
    # Nothing here is timed: a machine that does much else at once may take long.
    monkeypatch.setattr("deployments.approval_answers.WAIT_S", 240.0)
    monkeypatch.setattr("deployments.approvals.PATIENCE_S", 240.0)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("MODELWAY_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return Office(prefect_house, deployment, tmp_path)
