"""Requests and answers of the Open Inference Protocol over HTTP, read and written, for both ends; pure.

A body is JSON, or JSON followed by the tensors' bytes; the header ``Inference-Header-Content-Length`` then says where
the JSON ends.

Source: KServe, "Open Inference Protocol (V2)" and "Binary Tensor Data Extension".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry.endpoints.tensors import (
    Array,
    ProtocolError,
    check_against,
    datatype_of,
    dtype_of,
    from_bytes,
    from_json,
    to_bytes,
    to_json,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from registry.endpoints.serving import Limits
    from registry.signature import Signature

_LENGTH = re.compile(r"[0-9]{1,18}")

JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
"""The header with the length of the JSON part, in bytes, of a body that goes on after it."""


@dataclass(frozen=True, slots=True)
class Message:
    """A body to send, with the length of its JSON part in bytes if tensors follow it."""

    body: bytes
    json_bytes: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that belong to the body."""
        if self.json_bytes is None:
            return {"Content-Type": "application/json"}
        return {"Content-Type": "application/octet-stream", JSON_LENGTH_HEADER: str(self.json_bytes)}


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that was asked for, and whether as bytes or as JSON numbers."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A request that fits its model: every input once, of the right type and shape."""

    id: str | None
    inputs: dict[str, Array]
    outputs: tuple[WantedOutput, ...]

    @property
    def samples(self) -> int:
        """The size of the first input's first axis; 1 where there is none."""
        for array in self.inputs.values():
            return len(array) if array.ndim else 1
        return 1


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


_Head = TypeVar("_Head", bound=_Part)


class _Parameters(_Part):
    binary_data_size: int | None = Field(default=None, ge=0)
    binary_data: bool | None = None
    binary_data_output: bool = False
    # Extensions that change what the answer means: to ignore them would give a wrong answer, so they are refused.
    classification: Any = None
    shared_memory_region: Any = None

    def refuse_what_is_not_served(self, where: str) -> None:
        for extension in ("classification", "shared_memory_region"):
            if getattr(self, extension) is not None:
                raise ProtocolError(f"{where}: the parameter {extension} is not supported here")


_NO_PARAMETERS = _Parameters()


class _Tensor(_Part):
    name: str
    datatype: str
    shape: list[int]
    parameters: _Parameters = _NO_PARAMETERS
    data: list[Any] | None = None


class _Wanted(_Part):
    name: str
    parameters: _Parameters = _NO_PARAMETERS


class _RequestHead(_Part):
    id: str | None = None
    parameters: _Parameters = _NO_PARAMETERS
    inputs: list[_Tensor]
    outputs: list[_Wanted] | None = None


class _ResponseHead(_Part):
    outputs: list[_Tensor]


def read_request(body: bytes, json_length: str | None, *, contract: Signature, limits: Limits) -> InferenceRequest:
    """Return the request in ``body``, checked against what the model takes.

    Args:
        body: The whole HTTP body.
        json_length: The value of ``Inference-Header-Content-Length``, None where the body is JSON alone.
        contract: The model's inputs and outputs.
        limits: What a request may ask for.

    Raises:
        ProtocolError: Anything that is not as the protocol, the model or the limits have it; the words say what.
    """
    head_bytes, rest = _split(body, json_length)
    if len(head_bytes) > limits.max_json_bytes:
        raise ProtocolError(
            f"the JSON part has {len(head_bytes)} bytes, more than {limits.max_json_bytes}: send binary data instead",
            status=413,
        )
    head = _parse(_RequestHead, head_bytes)
    _check_inputs(head.inputs, contract, limits)
    outputs = _wanted_outputs(head, contract)
    return InferenceRequest(head.id, _read_tensors(head.inputs, rest, kind="input"), outputs)


def check_inputs(inputs: Mapping[str, Array], contract: Signature, limits: Limits) -> None:
    """Refuse inputs, by name, that a model does not take.

    Raises:
        ProtocolError: Another name, datatype, rank or size (400), or more elements than the limit (413).
    """
    _check_each([(name, datatype_of(array.dtype), array.shape) for name, array in inputs.items()], contract, limits)


def write_response(model: str, version: str, request: InferenceRequest, outputs: Mapping[str, Array]) -> Message:
    """Return the answer to ``request``: the outputs it wants, each in the form it wants.

    Raises:
        ProtocolError: An output that was wanted as JSON holds NaN or an infinity.
    """
    head: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id is not None:
        head["id"] = request.id
    return _write(head, "outputs", [(wanted.name, outputs[wanted.name], wanted.binary) for wanted in request.outputs])


def write_request(inputs: Mapping[str, Array], *, request_id: str | None = None) -> Message:
    """Return a request that sends every input as binary data and wants every output so.

    Raises:
        InvalidInputError: An input's type has no word in the protocol.
    """
    head: dict[str, Any] = {"parameters": {"binary_data_output": True}}
    if request_id is not None:
        head["id"] = request_id
    return _write(head, "inputs", [(name, np.asarray(array), True) for name, array in inputs.items()])


def read_response(body: bytes, json_length: str | None) -> dict[str, Array]:
    """Return the outputs in an answer, by name.

    Raises:
        ProtocolError: The body is no answer of the protocol.
    """
    head_bytes, rest = _split(body, json_length)
    return _read_tensors(_parse(_ResponseHead, head_bytes).outputs, rest, kind="output")


def error_body(message: str) -> bytes:
    """Return the protocol's JSON for an error."""
    return orjson.dumps({"error": message})


def read_error(body: bytes) -> str:
    """Return the words of an error; the beginning of the body itself where it is not the protocol's JSON."""
    try:
        return str(orjson.loads(body)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return body[:200].decode(errors="replace").strip() or "it gave no reason"


def _split(body: bytes, json_length: str | None) -> tuple[memoryview, memoryview]:
    whole = memoryview(body)
    if json_length is None:
        return whole, whole[:0]
    length = int(json_length) if _LENGTH.fullmatch(json_length) else 0
    if not 0 < length <= len(body):
        raise ProtocolError(f"{JSON_LENGTH_HEADER} is {json_length[:20]!r}, and the body has {len(body)} bytes")
    return whole[:length], whole[length:]


def _parse(kind: type[_Head], data: memoryview) -> _Head:
    try:
        return kind.model_validate(orjson.loads(data))
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"the body is not JSON: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        raise ProtocolError(f"{place}: {first['msg']}") from None


def _check_inputs(sent: Sequence[_Tensor], contract: Signature, limits: Limits) -> None:
    _check_each([(tensor.name, tensor.datatype, tensor.shape) for tensor in sent], contract, limits)


def _check_each(sent: Sequence[tuple[str, str, Sequence[int]]], contract: Signature, limits: Limits) -> None:
    specs = {spec.name: spec for spec in contract.inputs}
    for name, datatype, shape in sent:
        if name not in specs:
            raise ProtocolError(f"no input {name[:80]!r}; the inputs are: {', '.join(specs)}")
        check_against(specs[name], datatype, shape, limits)
    names = [name for name, _, _ in sent]
    if len(names) != len(specs) or len(set(names)) != len(names):
        raise ProtocolError(
            f"each input is needed exactly once: {', '.join(specs)}; found: {', '.join(names) or 'none'}"
        )


def _wanted_outputs(head: _RequestHead, contract: Signature) -> tuple[WantedOutput, ...]:
    head.parameters.refuse_what_is_not_served("the request")
    known = [spec.name for spec in contract.outputs]
    by_default = head.parameters.binary_data_output
    if not head.outputs:
        return tuple(WantedOutput(name, by_default) for name in known)
    for wanted in head.outputs:
        if wanted.name not in known:
            raise ProtocolError(f"no output {wanted.name[:80]!r}; the outputs are: {', '.join(known)}")
        wanted.parameters.refuse_what_is_not_served(f"output {wanted.name!r}")
    asked = {wanted.name: wanted.parameters.binary_data for wanted in head.outputs}
    return tuple(WantedOutput(name, by_default if binary is None else binary) for name, binary in asked.items())


def _read_tensors(tensors: Sequence[_Tensor], rest: memoryview, *, kind: str) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for tensor in tensors:
        tensor.parameters.refuse_what_is_not_served(f"{kind} {tensor.name!r}")
        size = tensor.parameters.binary_data_size
        found[tensor.name] = _read_tensor(tensor, None if size is None else rest[:size], f"{kind} {tensor.name!r}")
        rest = rest[size or 0 :]
    if len(rest):
        raise ProtocolError(f"{len(rest)} bytes are left over after the last tensor")
    return found


def _read_tensor(tensor: _Tensor, raw: memoryview | None, where: str) -> Array:
    dtype = dtype_of(where, tensor.datatype)
    if (raw is None) == (tensor.data is None):
        raise ProtocolError(f"{where} needs either data or the parameter binary_data_size")
    if raw is None:
        return from_json(where, tensor.data or [], dtype, tensor.shape)
    if len(raw) != tensor.parameters.binary_data_size:
        raise ProtocolError(
            f"{where} says {tensor.parameters.binary_data_size} bytes of binary data, and the body has {len(raw)} left"
        )
    return from_bytes(where, raw, dtype, tensor.shape)


def _write(head: dict[str, Any], place: str, tensors: Sequence[tuple[str, Array, bool]]) -> Message:
    parts: list[bytes] = []
    entries: list[dict[str, Any]] = []
    for name, array, binary in tensors:
        entry: dict[str, Any] = {"name": name, "datatype": datatype_of(array.dtype), "shape": array.shape}
        if binary:
            parts.append(to_bytes(array))
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = to_json(f"output {name!r}", array)
        entries.append(entry)
    text = orjson.dumps({**head, place: entries}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not any(binary for _, _, binary in tensors):
        return Message(text)
    return Message(b"".join([text, *parts]), len(text))
