"""One server, as `modelway server` starts it, for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from closed_server import Served, free_port, serve
from working_folder import house_in, kill_tree


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that nobody stops, and whose settings nobody changes."""
    running = serve(house_in(tmp_path_factory.mktemp("served")), free_port())
    try:
        yield running
    finally:
        kill_tree(running.process.pid)
        running.process.wait()
