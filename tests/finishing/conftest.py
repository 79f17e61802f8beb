"""A Prefect server and a worker for a module, whose flow runs may be killed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from finishing_place import Place
from prefect_house import PrefectHouse
from working_folder import ROOT


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectHouse]:
    """A server and a worker, whose flow runs may kill themselves."""
    folder: Path = tmp_path_factory.mktemp("house")
    with PrefectHouse(folder, more={"PYTHONPATH": str(ROOT / "tests" / "support")}) as house:
        house.start_worker()
        yield house


@pytest.fixture
def place(house: PrefectHouse, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A registry and a pipeline of this test's own."""
    place = Place(house, f"p{zlib.crc32(request.node.name.encode())}")
    try:
        yield place
    finally:
        for endpoint in place.registry.list_endpoints():
            place.registry.stop_endpoint(endpoint.name)
