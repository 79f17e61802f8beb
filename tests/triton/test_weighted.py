"""The client that splits requests: what it takes, and what it says of a server that is not there."""

from __future__ import annotations

import numpy as np
import pytest

from registry.endpoints.target import Reached
from registry.endpoints.triton.weighted import WeightedClient, shares_of
from registry.errors import EndpointError, InvalidInputError

NOWHERE = "127.0.0.1:1"


@pytest.mark.parametrize("shares", [{}, {"digits": 0.5}, {"digits": 1.5, "digits--canary/2": -0.5}])
def test_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match=r"shares must be 0 or more and add up to 1, found"):
        WeightedClient(NOWHERE, shares, seed=1)


@pytest.mark.parametrize(
    ("reached", "name"), [(Reached(url="http://127.0.0.1:8000", model_name="digits"), "digits"), (None, "nothing")]
)
def test_what_is_not_on_triton_has_no_such_client(reached: Reached | None, name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{name} is served by no Triton"):
        WeightedClient.of(reached, seed=1)


def test_a_server_that_does_not_answer_is_told_as_that() -> None:
    resources = shares_of({"digits": 0.5, "digits--canary/2": 0.5})
    reached = Reached(url=f"grpc://{NOWHERE}", grpc=NOWHERE, model_name="digits", resources=resources)
    with (
        WeightedClient.of(reached, seed=1) as client,
        pytest.raises(EndpointError, match=r"Triton at 127\.0\.0\.1:1 was to answer for digits and gave no answer"),
    ):
        client.infer({"x": np.zeros((1, 16), np.float32)})
