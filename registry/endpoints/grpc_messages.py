"""Messages of the protocol over gRPC: a request read as the same one over HTTP would be, answers written; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from tritonclient.grpc import model_config_pb2, service_pb2

from registry.endpoints.protocol import InferenceRequest, read_request
from registry.endpoints.tensors import ProtocolError, datatype_of, dtype_of, from_json, to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from registry.endpoints.catalog import LoadedVersion
    from registry.endpoints.serving import Limits
    from registry.endpoints.tensors import Array
    from registry.signature import Signature, TensorSpec

_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""Where a tensor's values stand that are not sent as bytes; FP16 has no such place."""


def read_message(message: Any, *, contract: Signature, limits: Limits) -> InferenceRequest:
    """Return a ``ModelInferRequest``, checked by the very code that checks one over HTTP.

    Its head is written as JSON with the tensors' bytes behind it: 5 us more than over HTTP for one small tensor.

    Raises:
        ProtocolError: Anything that is not as the protocol, the model or the limits have it; the words say what.
    """
    raw = _raw_contents(message)
    head = {
        "id": message.id or None,
        "parameters": {**_parameters(message.parameters), "binary_data_output": True},
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": {**_parameters(tensor.parameters), "binary_data_size": len(data)},
            }
            for tensor, data in zip(message.inputs, raw, strict=True)
        ],
        "outputs": [{"name": wanted.name, "parameters": _parameters(wanted.parameters)} for wanted in message.outputs],
    }
    text = orjson.dumps(head)
    return read_request(b"".join([text, *raw]), str(len(text)), contract=contract, limits=limits)


def write_message(loaded: LoadedVersion, asked: InferenceRequest, outputs: Mapping[str, Array]) -> Any:
    """Return the ``ModelInferResponse`` to a request: the outputs that it wants, as bytes."""
    answer = service_pb2.ModelInferResponse(
        model_name=loaded.served.model, model_version=loaded.served.number, id=asked.id or ""
    )
    for wanted in asked.outputs:
        array = outputs[wanted.name]
        answer.outputs.add(name=wanted.name, datatype=datatype_of(array.dtype), shape=array.shape)
        answer.raw_output_contents.append(to_bytes(array))
    return answer


def model_metadata(loaded: LoadedVersion, versions: Sequence[str]) -> Any:
    """Return what a model takes and gives, as a ``ModelMetadataResponse``."""
    return service_pb2.ModelMetadataResponse(
        name=loaded.served.model,
        versions=versions,
        platform="onnxruntime_onnx",
        inputs=_described(loaded.contract.inputs),
        outputs=_described(loaded.contract.outputs),
    )


def model_config(loaded: LoadedVersion) -> Any:
    """Return the part of Triton's configuration that is true here, as a ``ModelConfigResponse``.

    ``max_batch_size`` is 0, which says that shapes stand there whole: no request is refused for its first axis.
    """
    config = model_config_pb2.ModelConfig(
        name=loaded.served.model, platform="onnxruntime_onnx", backend="onnxruntime", max_batch_size=0
    )
    for place, specs in ((config.input, loaded.contract.inputs), (config.output, loaded.contract.outputs)):
        for spec in specs:
            place.add(name=spec.name, data_type=f"TYPE_{datatype_of(spec.dtype)}", dims=spec.shape)
    return service_pb2.ModelConfigResponse(config=config)


def _described(specs: Iterable[TensorSpec]) -> list[Any]:
    tensor = service_pb2.ModelMetadataResponse.TensorMetadata
    return [tensor(name=spec.name, datatype=datatype_of(spec.dtype), shape=spec.shape) for spec in specs]


def _parameters(sent: Mapping[str, Any]) -> dict[str, Any]:
    # Over gRPC it is not a parameter that says how a tensor is sent.
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "", None)
        for name, value in sent.items()
        if not name.startswith("binary_data")
    }


def _raw_contents(message: Any) -> list[bytes]:
    if not message.raw_input_contents:
        return [_content_bytes(tensor) for tensor in message.inputs]
    if len(message.raw_input_contents) != len(message.inputs):
        raise ProtocolError(
            f"raw_input_contents has {len(message.raw_input_contents)} entries for {len(message.inputs)} inputs"
        )
    for tensor in message.inputs:
        if tensor.contents.ListFields():
            raise ProtocolError(f"input {tensor.name[:80]!r} has contents beside raw_input_contents; send one of them")
    return list(message.raw_input_contents)


def _content_bytes(tensor: Any) -> bytes:
    """Return what a tensor has in one of the fields for values of its type as the bytes that it means."""
    where, fields = f"input {tensor.name[:80]!r}", [field.name for field, _ in tensor.contents.ListFields()]
    own = _FIELDS.get(tensor.datatype)
    if not fields:
        return b""
    if own is None or fields != [own]:
        place = f"contents.{own} or in raw_input_contents" if own else "raw_input_contents"
        raise ProtocolError(f"{where}: {tensor.datatype[:20]} belongs in {place}, found {', '.join(fields)}")
    values = list(getattr(tensor.contents, own))
    return to_bytes(from_json(where, values, dtype_of(where, tensor.datatype), [len(values)]))
