"""A server that speaks the Open Inference Protocol, ours and NVIDIA's by turns, and NVIDIA's clients of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from oip_clients import OipClient
from oip_servers import Served, our_server, triton_server


@pytest.fixture(scope="module", params=["ours", pytest.param("triton", marks=pytest.mark.heavy)])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same models at each server."""
    run = {"ours": our_server, "triton": triton_server}[request.param]
    with run(tmp_path_factory.mktemp(request.param)) as served:
        yield served


@pytest.fixture(params=["json", "binary", "grpc"])
def client(request: pytest.FixtureRequest, served: Served) -> Iterator[OipClient]:
    """NVIDIA's client, in each form in which tensors travel."""
    with served.client(request.param) as client:
        yield client
