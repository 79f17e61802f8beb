"""The golden samples, sent to a deployed model through the endpoint's traffic, which is the only way to one."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from registry.endpoints.protocol import read_response, write_request
from registry.endpoints.target import GOLDEN_TOLERANCE, Counted, Samples
from registry.endpoints.triton.config import fixed_rows, max_batch_of
from registry.endpoints.vertex.naming import WHOLE
from registry.endpoints.vertex.staging import OPTIONS
from registry.engines.parity import compare
from registry.errors import EndpointError

if TYPE_CHECKING:
    from registry.endpoints.protocol import Message
    from registry.endpoints.target import Part
    from registry.endpoints.vertex.service import Service
    from registry.engines.records import Parity
    from registry.signature import TensorSpec

WHO_ANSWERED = "X-Vertex-AI-Deployed-Model-Id"

_LARGEST_BYTES = 1_400_000  # Vertex AI takes 1.5 MB in a request
_BINARY = "application/vnd.vertex-ai-triton.binary+json;json-header-size="
_MISSED_BY_CHANCE = 1e-9


@dataclass(frozen=True)
class Prober:
    """Asks one endpoint. A change of its traffic may take ``within_s`` to be seen; ``pause_s`` is between two tries."""

    service: Service
    endpoint: str
    within_s: float
    pause_s: float

    def probe(self, part: Part, deployed: str, percent: int, samples: Samples) -> Parity:
        """Return how far a deployed model's answers are from what they must be.

        Args:
            part: The version.
            deployed: The id of its deployed model.
            percent: Its share of the traffic, 1 to 100. Requests that another one answers are sent again.
            samples: Golden inputs and outputs, shapes (n, ...), n >= 1.

        Raises:
            EndpointError: The answers differ, or none of them came from it.
        """
        inputs, expected = samples
        if part.signature is None or len(part.signature.inputs) != 1 or len(inputs) == 0:
            raise EndpointError(f"{part.full_name} has no golden samples of its one input to be probed with.")
        asking = _Asking(part, deployed, percent, part.signature.inputs[0], part.signature.outputs[0].name)
        rows = asking.rows(inputs)
        found = [self._ask(asking, inputs[start : start + rows], rows) for start in range(0, len(inputs), rows)]
        parity = compare(expected, np.concatenate(found), atol=GOLDEN_TOLERANCE, rtol=GOLDEN_TOLERANCE)
        if not parity.passed:
            raise EndpointError(
                f"{part.full_name} at {self.endpoint} answers the golden samples differently than it should: "
                f"{parity.reason}."
            )
        return parity

    def sample(self, asked: Mapping[str, tuple[Part, Samples]], requests: int) -> dict[str, Counted]:
        """Send single golden samples by the traffic's shares, and return what came of them by deployed model.

        Args:
            asked: Each deployed model's part, and its golden inputs and outputs; the inputs of the first are sent.
            requests: How many, >= 1.
        """
        part, (inputs, _) = next(iter(asked.values()))
        if part.signature is None:
            raise EndpointError(f"{part.full_name} has no signature to be asked by.")
        asking = _Asking(part, "", WHOLE, part.signature.inputs[0], part.signature.outputs[0].name)
        rows = fixed_rows(asking.spec) or 1
        done, failed, spent_ms = Counter[str](), Counter[str](), Counter[str]()
        for number in range(requests):
            row = number % len(inputs)
            message, began = asking.message(inputs[row : row + 1], rows), time.perf_counter()
            try:
                answer = self.service.raw_predict(self.endpoint, message.body, f"{_BINARY}{message.json_bytes}")
                by = str(answer.headers.get(WHO_ANSWERED))
                found = asking.output(answer)[:1]
            except EndpointError:
                done.update(list(asked))
                failed.update(list(asked))
                continue
            if by not in asked:
                continue
            done[by] += 1
            spent_ms[by] += int((time.perf_counter() - began) * 1e6)
            expected = asked[by][1][1][row : row + 1]
            failed[by] += not compare(expected, found, atol=GOLDEN_TOLERANCE, rtol=GOLDEN_TOLERANCE).passed
        return {
            key: Counted(requests=done[key], errors=failed[key], latency_sum_ms=spent_ms[key] / 1e3) for key in asked
        }

    def _ask(self, asking: _Asking, inputs: NDArray[Any], rows: int) -> NDArray[Any]:
        message = asking.message(inputs, rows)
        kind = f"{_BINARY}{message.json_bytes}"
        enough, until = asking.tries, time.monotonic() + self.within_s
        others: set[str] = set()
        tried = 0
        while tried < enough or time.monotonic() < until:
            answer = self.service.raw_predict(self.endpoint, message.body, kind)
            if (by := answer.headers.get(WHO_ANSWERED)) == asking.deployed:
                return asking.output(answer)[: len(inputs)]
            others.add(str(by))
            tried += 1
            if tried >= enough:  # the new traffic may not have arrived everywhere yet
                time.sleep(self.pause_s)
        raise EndpointError(
            f"{asking.part.full_name} at {self.endpoint} answered none of {tried} requests, though it has "
            f"{asking.percent} % of the traffic; they were answered by {', '.join(sorted(others))} "
            f"(the header {WHO_ANSWERED})."
        )


@dataclass(frozen=True)
class _Asking:
    """One part to be asked, and the tensors that it is asked with and for."""

    part: Part
    deployed: str
    percent: int
    spec: TensorSpec
    wanted: str

    @property
    def tries(self) -> int:
        """After how many requests one with this share has answered, but for one case in 1e9."""
        if self.percent >= WHOLE:
            return 1
        return math.ceil(math.log(_MISSED_BY_CHANCE) / math.log1p(-self.percent / WHOLE))

    def rows(self, inputs: NDArray[Any]) -> int:
        """Return how many samples go into a request: as many as it may hold, or as the model takes at once."""
        fits = max(1, _LARGEST_BYTES // max(1, inputs[:1].nbytes))
        return fixed_rows(self.spec) or min(fits, max_batch_of(self.part, OPTIONS) or OPTIONS.max_batch)

    def message(self, inputs: NDArray[Any], rows: int) -> Message:
        """Return the request for some samples, filled up where the model takes a certain number only."""
        sent = inputs.astype(self.spec.dtype, copy=False)
        if fixed_rows(self.spec) is not None:
            sent = np.take(sent, range(rows), axis=0, mode="wrap")
        return write_request({self.spec.name: sent})

    def output(self, answer: Any) -> NDArray[Any]:
        """Return the wanted output of an answer.

        Triton says in a header of its own where the JSON ends and the tensors begin; whether Vertex AI hands that on is
        not documented, and the JSON shows its end itself.
        """
        _, end = json.JSONDecoder().raw_decode(answer.content.decode("latin-1"))  # a character for each byte
        outputs = read_response(answer.content, None if end == len(answer.content) else str(end))
        if self.wanted not in outputs:
            raise EndpointError(
                f"{self.part.full_name} gives no output {self.wanted!r}; it gives: {', '.join(outputs)}."
            )
        return outputs[self.wanted]
