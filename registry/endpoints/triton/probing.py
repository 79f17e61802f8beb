"""Hold a loaded model's answers to the golden samples, in requests of the sizes that it takes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from registry.endpoints.target import GOLDEN_TOLERANCE, Part
from registry.endpoints.triton.config import ServingOptions, fixed_rows, max_batch_of
from registry.endpoints.triton.staging import golden_file
from registry.engines.parity import compare
from registry.errors import EndpointError

if TYPE_CHECKING:
    from registry.endpoints.tensors import Array
    from registry.endpoints.triton.control import TritonControl
    from registry.engines.records import Parity

_AT_ONCE = 32


def probe_part(
    control: TritonControl,
    name: str,
    part: Part,
    *,
    options: ServingOptions,
    read: Callable[[str, str], bytes | None],
) -> Parity:
    """Send a part's golden samples to a model and hold the answers to the model's own outputs, or the engine's.

    Args:
        control: Of the server.
        name: The model's.
        part: With golden samples.
        options: With which it was configured.
        read: Returns a file of a model, None if there is none.

    Raises:
        EndpointError: An answer differs, or none came.
    """
    if part.samples is None or part.signature is None or len(part.signature.inputs) != 1:
        raise EndpointError(f"{part.full_name} has no golden samples of its one input to be probed with.")
    inputs, expected = part.samples
    if (own := read(name, golden_file(part.number))) is not None:
        # An engine that rounds more than the model is held to what it gave when it was approved.
        expected = np.load(io.BytesIO(own), allow_pickle=False)
    [spec], output = part.signature.inputs, part.signature.outputs[0].name
    rows = fixed_rows(spec) or max_batch_of(part, options) or _AT_ONCE
    found = []
    for start in range(0, len(inputs), rows):
        asked = inputs[start : start + rows].astype(spec.dtype, copy=False)
        sent = asked if fixed_rows(spec) is None else np.take(asked, range(rows), axis=0, mode="wrap")
        found.append(_answer(control, name, {spec.name: sent}, part, output)[: len(asked)])
    parity = compare(expected, np.concatenate(found), atol=GOLDEN_TOLERANCE, rtol=GOLDEN_TOLERANCE)
    if not parity.passed:
        raise EndpointError(
            f"{part.full_name} ({part.engine}) answers the golden samples differently than the model did: "
            f"{parity.reason}. No request of users went to it; what served before still does."
        )
    return parity


def _answer(control: TritonControl, name: str, inputs: dict[str, Array], part: Part, output: str) -> Array:
    version, outputs = control.infer(name, inputs, version=str(part.number))
    if version != str(part.number) or output not in outputs:
        raise EndpointError(
            f"{part.full_name} was asked for {output} under {name} and version {version} answered with "
            f"{', '.join(outputs) or 'nothing'}. Another rollout may be at work; begin this one again."
        )
    return outputs[output]
