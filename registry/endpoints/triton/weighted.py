"""A client that splits its requests between what serves and a canary; Triton itself does not."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from registry.endpoints.triton.control import TritonControl
from registry.errors import EndpointError, InvalidInputError

if TYPE_CHECKING:
    from types import TracebackType

    from registry.endpoints.desired import Observed
    from registry.endpoints.target import Part, Reached
    from registry.endpoints.tensors import Array

CANARY = "--canary"
"""What stands behind a model's name in that of its canary."""

_RESOURCE = "shares"


@dataclass(frozen=True)
class Answer:
    """What came back: the model and the version that answered, and the outputs by name."""

    model: str
    version: int
    outputs: dict[str, Array]


class WeightedClient:
    """Asks a model and its canary by their shares; usable from one thread, closed at the end of a ``with``.

    The model that serves is asked without a version, whichever it has; the canary by its version, so that a client with
    old shares never asks another canary than it was told of. A canary that gives no answer or a refusal has its request
    answered by the model that serves: it may have been taken down since the shares were told.
    """

    def __init__(self, address: str, shares: Mapping[str, float], *, seed: int, timeout_s: float = 30.0) -> None:
        """Take the gRPC address and the shares; nothing is sent yet.

        Args:
            address: Host and port.
            shares: From 0 to 1, with a sum of 1, by model (``digits``, which comes first) or by model and version
                (``digits--canary/4``).
            seed: Of the choice between them; each client needs one of its own.
            timeout_s: How long one request may take.

        Raises:
            InvalidInputError: No shares, one below 0, or a sum other than 1.
            MissingExtraError: tritonclient is not installed.
        """
        if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:  # noqa: PLR2004 - rounding
            raise InvalidInputError(f"shares must be 0 or more and add up to 1, found {dict(shares)}.")
        self._addressees, self._weights = list(shares), list(shares.values())
        self._control = TritonControl(address, timeout_s=timeout_s)
        self._random = random.Random(seed)  # noqa: S311 - spreads requests, guards nothing

    @classmethod
    def of(cls, reached: Reached | Observed | None, *, seed: int, timeout_s: float = 30.0) -> Self:
        """Return a client of what a rollout reached: what the target gave, or an endpoint's ``observed``.

        Raises:
            InvalidInputError: It is not on Triton, or nothing was reached.
        """
        if reached is None or reached.grpc is None or _RESOURCE not in reached.resources:
            name = "nothing" if reached is None else reached.model_name
            raise InvalidInputError(
                f"{name} is served by no Triton, so that there are no shares to split requests by. Ask the endpoint's "
                f"own address: another target splits them itself."
            )
        shares = json.loads(reached.resources[_RESOURCE])
        return cls(reached.grpc, shares, seed=seed, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        self._control.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control.__exit__(kind, error, trace)

    def infer(self, inputs: Mapping[str, Array]) -> Answer:
        """Return the outputs of the model that this request fell to.

        Args:
            inputs: Arrays by input name, in the types and shapes that the model takes; the batch comes first.

        Raises:
            EndpointError: No answer, or a refusal, from the model that serves.
            InvalidInputError: An array of a type that the protocol has no word for.
        """
        [chosen] = self._random.choices(self._addressees, self._weights)
        if chosen != self._addressees[0]:
            try:
                return self._ask(chosen, inputs)
            except EndpointError:
                chosen = self._addressees[0]
        return self._ask(chosen, inputs)

    def _ask(self, addressee: str, inputs: Mapping[str, Array]) -> Answer:
        model, _, wanted = addressee.partition("/")
        version, outputs = self._control.infer(model, inputs, version=wanted)
        return Answer(model, int(version), outputs)


def share_key(name: str, part: Part) -> str:
    """Return under which model, and for a canary which version, a part's share of the requests is answered."""
    return f"{name}{CANARY}/{part.number}" if part.role == "canary" else name


def shares_of(shares: Mapping[str, float]) -> dict[str, str]:
    """Return shares as a target tells them among its resources, from which a client is made."""
    return {_RESOURCE: json.dumps(dict(shares))}
