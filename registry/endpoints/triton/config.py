"""A model's ``config.pbtxt``: backend, tensors, batching, versions and warm-up, by Triton's own protobuf; pure.

What is loaded says itself whose it is: the configuration carries labels, which the server hands out again.

Source: NVIDIA, "Model Configuration" of the Triton Inference Server, release 2.51.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from registry.endpoints.tensors import datatype_of
from registry.engines.backends import family_of
from registry.errors import EndpointError, MissingExtraError

if TYPE_CHECKING:
    from registry.endpoints.target import Part
    from registry.signature import TensorSpec

_LABEL = "modelway."
_HEAD = "# Written by modelway, which overwrites it: change the endpoint's settings instead.\n"


@dataclass(frozen=True)
class Backend:
    """What opens an engine in Triton, and the name that its file must have there."""

    name: str
    file: str


_BACKENDS = {
    "onnxruntime": Backend("onnxruntime", "model.onnx"),
    "tensorrt": Backend("tensorrt", "model.plan"),
    "torchscript": Backend("pytorch", "model.pt"),
}
FAMILIES = tuple(sorted(_BACKENDS))
"""The engines that Triton has a backend for, by what stands before their precision."""


@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """How a model runs in the server; ``registry.endpoints.settings.TritonSettings`` tells what each does."""

    instances: int = 1
    device: Literal["auto", "cpu", "gpu"] = "auto"
    max_batch: int = 32
    max_delay_ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What a model says of itself in its configuration: whose it is, and what it serves.

    ``digest`` is the sha256 of the opened file, 64 hexadecimal digits; ``variant`` is empty for the version's own file.
    """

    registry: str
    endpoint: str
    number: int
    version: str
    digest: str
    metadata_digest: str
    variant: str


def backend_of(engine: str) -> Backend:
    """Return what opens an engine.

    Raises:
        EndpointError: Triton has no backend for it.
    """
    family = family_of(engine)
    if family not in _BACKENDS:
        raise EndpointError(
            f"Triton has no backend for the engine {engine}: it opens {', '.join(FAMILIES)}. Choose one of those."
        )
    return _BACKENDS[family]


def max_batch_of(part: Part, options: ServingOptions) -> int:
    """Return how many samples Triton may put together, 0 where it is to pass on what comes as it is.

    That is so when an axis to batch along is not free on all tensors, or when it is the only one of a tensor: Triton
    wants another one beside it, and the answers would have another shape than the model gives.
    """
    inputs, outputs = _tensors(part)
    if any(len(spec.shape) < 2 or spec.shape[0] != -1 for spec in (*inputs, *outputs)):  # noqa: PLR2004 - told above
        return 0
    built_for = [int(profile["max"][0]) for profile in part.key_fields.get("profiles") or ()]
    return min([options.max_batch, *built_for])


def warmup_samples(part: Part) -> NDArray[Any] | None:
    """Return what to warm a model up with: as many golden samples as its input's first axis has, one if it is free.

    None where there are none, or where the model has more inputs than the golden samples are of.
    """
    inputs, _ = _tensors(part)
    if part.samples is None or len(inputs) != 1 or len(part.samples[0]) == 0:
        return None
    rows = fixed_rows(inputs[0]) or 1
    return np.take(part.samples[0], range(rows), axis=0, mode="wrap").astype(inputs[0].dtype)


def fixed_rows(spec: TensorSpec) -> int | None:
    """Return how many samples each request must have, None if that is free."""
    return None if spec.shape[0] == -1 else spec.shape[0]


def write_config(name: str, part: Part, *, labels: Labels, options: ServingOptions) -> bytes:
    """Return the ``config.pbtxt`` with which a model of this name serves a part, and nothing else.

    Raises:
        EndpointError: Triton has no backend for the engine, or its tensors are not known or none that Triton serves.
        InvalidInputError: A tensor of a type that the protocol has no word for.
        MissingExtraError: tritonclient is not installed.
    """
    pb = _protobuf()
    backend, batch = backend_of(part.engine), max_batch_of(part, options)
    config = pb.ModelConfig(name=name, backend=backend.name, max_batch_size=batch, default_model_filename=backend.file)
    inputs, outputs = _tensors(part)
    for field, specs in ((config.input, inputs), (config.output, outputs)):
        for spec in specs:
            dims = spec.shape[1:] if batch else spec.shape
            field.add(name=spec.name, data_type=_type_of(spec), dims=dims)
    if batch > 1:
        # Set even with no delay: what waits while an instance is busy is then answered together.
        config.dynamic_batching.max_queue_delay_microseconds = math.ceil(options.max_delay_ms * 1000)
    config.instance_group.add(count=options.instances, kind=f"KIND_{options.device.upper()}")
    config.version_policy.specific.versions.append(part.number)
    samples = warmup_samples(part)
    if samples is not None:
        warmup = config.model_warmup.add(name="golden", batch_size=1)
        tensor = warmup.inputs[inputs[0].name]
        tensor.data_type = _type_of(inputs[0])
        tensor.dims.extend(samples.shape[1:] if batch else samples.shape)
        tensor.input_data_file = warmup_file(part.number)
    for key, value in vars(labels).items():
        config.parameters[_LABEL + key].string_value = str(value)
    return _as_text(config)


def warmup_file(number: int) -> str:
    """Return the name, in the model's folder ``warmup``, of the file with a version's warm-up input."""
    return f"{number}.input"


def read_labels(parameters: Mapping[str, Any]) -> Labels | None:
    """Return the labels among the parameters of a configuration that a server handed out; None if it is not ours."""
    found = {
        key.removeprefix(_LABEL): value.string_value for key, value in parameters.items() if key.startswith(_LABEL)
    }
    if set(found) != set(Labels.__dataclass_fields__) or not found["number"].isdecimal():
        return None
    return Labels(**{**found, "number": int(found["number"])})


def _tensors(part: Part) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    if part.signature is None or not part.signature.inputs or not part.signature.outputs:
        raise EndpointError(
            f"{part.full_name} cannot be served by Triton: the inputs and outputs of its engine {part.engine} are not "
            f"known. Run optimise on it, which finds them, or register it as ONNX."
        )
    inputs, outputs = part.signature.inputs, part.signature.outputs
    if scalars := [spec.name for spec in (*inputs, *outputs) if not spec.shape]:
        raise EndpointError(
            f"{part.full_name} cannot be served by Triton: {', '.join(scalars)} is a single number, and Triton wants "
            f"tensors with at least one axis. Give it the shape (1,)."
        )
    if family_of(part.engine) == "torchscript":
        for index, spec in enumerate(outputs):
            if not spec.name.endswith(f"__{index}"):
                raise EndpointError(
                    f"{part.full_name} cannot be served by Triton: its PyTorch backend wants the outputs named with "
                    f"their place, and output {index} is called {spec.name!r}. Call it {spec.name}__{index}."
                )
    return inputs, outputs


def _type_of(spec: TensorSpec) -> str:
    return f"TYPE_{datatype_of(spec.dtype)}"


def _protobuf() -> Any:
    try:
        from tritonclient.grpc import model_config_pb2
    except ModuleNotFoundError:
        raise MissingExtraError("tritonclient", "triton", "Triton as a target") from None
    return model_config_pb2


def _as_text(config: Any) -> bytes:
    from google.protobuf import text_format

    # Maps are written in the order of their keys, so that the same configuration has the same bytes.
    return (_HEAD + str(text_format.MessageToString(config))).encode()
