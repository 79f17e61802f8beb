"""Tensors and messages, without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from registry.endpoints.protocol import (
    InferenceRequest,
    WantedOutput,
    read_request,
    read_response,
    write_request,
    write_response,
)
from registry.endpoints.serving import Limits
from registry.endpoints.tensors import ProtocolError, datatype_of, dtype_of, from_json
from registry.errors import InvalidInputError
from registry.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMBERS = ["bool", "float16", "float32", "float64"] + [
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
]
PAIR = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 2)), TensorSpec(name="n", dtype="int64", shape=(-1,))),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(-1,)),),
)

any_array = st.sampled_from(NUMBERS).flatmap(
    lambda name: arrays.arrays(np.dtype(name), arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
finite_array = st.sampled_from(NUMBERS).flatmap(
    lambda name: arrays.arrays(
        np.dtype(name),
        arrays.array_shapes(max_dims=4, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False} if name.startswith("float") else None,
    )
)


def _read(head: dict[str, Any], raw: bytes = b"", limits: Limits | None = None) -> InferenceRequest:
    text = orjson.dumps(head)
    return read_request(text + raw, str(len(text)) if raw else None, contract=PAIR, limits=limits or Limits())


def _pair(**changed: Any) -> dict[str, Any]:
    """A good request for PAIR, with parts of the input ``x`` changed."""
    x = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]} | changed
    return {"inputs": [x, {"name": "n", "datatype": "INT64", "shape": [1], "data": [3]}]}


@given(any_array)
def test_an_array_comes_through_as_bytes_unchanged(array: NDArray[Any]) -> None:
    message = write_request({"x": array})
    header = message.headers["Inference-Header-Content-Length"]
    contract = Signature(inputs=(TensorSpec(name="x", dtype=array.dtype.name, shape=(-1,) * array.ndim),))
    found = read_request(message.body, header, contract=contract, limits=Limits()).inputs["x"]
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert found.flags.writeable
    assert found.flags.aligned


@given(finite_array, st.booleans())
def test_an_array_comes_through_as_json_unchanged(array: NDArray[Any], nested: bool) -> None:  # noqa: FBT001
    data = orjson.loads(orjson.dumps(array.tolist() if nested else array.ravel().tolist()))
    found = from_json("x", data, array.dtype, array.shape)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(finite_array)
def test_an_answer_in_json_and_one_in_bytes_say_the_same(array: NDArray[Any]) -> None:
    answers = []
    for binary in (True, False):
        request = InferenceRequest("7", {}, (WantedOutput("y", binary=binary),))
        message = write_response("m", "1", request, {"y": array})
        answers.append(read_response(message.body, message.headers.get("Inference-Header-Content-Length"))["y"])
    np.testing.assert_array_equal(answers[0], answers[1])
    assert answers[0].dtype == answers[1].dtype == array.dtype


def test_every_number_type_has_one_datatype() -> None:
    assert {datatype_of(name) for name in NUMBERS} == {
        "BOOL", "FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64",
    }  # fmt: skip
    assert all(dtype_of("x", datatype_of(name)) == np.dtype(name) for name in NUMBERS)


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([None]), np.array([1j]), np.array(["2026-01-01"], "M8[D]")]
)
def test_an_array_that_is_no_numbers_is_not_sent(array: NDArray[Any]) -> None:
    with pytest.raises(InvalidInputError, match="cannot be sent: the endpoint takes bool, int8"):
        write_request({"x": array})


@pytest.mark.parametrize(
    ("datatype", "data", "reason"),
    [
        ("int64", [1.5], "must be INT64 values, found float"),
        ("int64", [True], "must be INT64 values, found bool"),
        ("float32", ["1.5"], "must be FP32 values, found str"),
        ("float32", [None], "must be FP32 values, found NoneType"),
        ("float32", [{}], "must be FP32 values, found dict"),
        ("float32", [False], "must be FP32 values, found bool"),
        ("bool", [1], "must be BOOL values, found int"),
        ("int8", [200], "outside the range of INT8"),
        ("uint64", [-1], "outside the range of UINT64"),
        ("float16", [1e6], "outside the range of FP16"),
        ("float32", [1e300], "outside the range of FP32"),
        ("float32", [], "has 1 elements, found 0"),
        ("float32", [1, 2], "has 1 elements, found 2"),
        ("float32", [[1]], "must be FP32 values, found list"),
    ],
)
def test_json_data_is_never_bent_into_shape_or_type(datatype: str, data: list[Any], reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        from_json("x", data, np.dtype(datatype), [1])


def test_ragged_nesting_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"does not have the shape \[2, 2\]"):
        from_json("x", [[1, 2, 3], [4]], np.dtype("float32"), [2, 2])


def test_the_greatest_unsigned_number_is_not_rounded() -> None:
    assert from_json("x", [2**64 - 1, 0], np.dtype("uint64"), [2]).tolist() == [2**64 - 1, 0]


@pytest.mark.parametrize(
    ("changed", "status", "reason"),
    [
        ({"datatype": "FP64"}, 400, "input 'x' is FP32 and was sent as FP64"),
        ({"datatype": "BYTES"}, 400, "input 'x' is FP32 and was sent as BYTES"),
        ({"shape": [1, 3]}, 400, r"input 'x' takes shape \[-1, 2\] and was sent as \[1, 3\]"),
        ({"shape": [2]}, 400, r"takes shape \[-1, 2\] and was sent as \[2\]"),
        ({"shape": [-1, 2]}, 400, r"takes shape \[-1, 2\] and was sent as \[-1, 2\]"),
        ({"shape": [1] * 9}, 400, "has 9 dimensions; the limit is 8"),
        ({"shape": [2**40, 2]}, 413, "has more than 16777216 elements"),
        ({"shape": [1.0, 2]}, 400, "inputs.0.shape.0: Input should be a valid integer"),
        ({"shape": [True, 2]}, 400, "inputs.0.shape.0: Input should be a valid integer"),
        ({"name": "z"}, 400, "no input 'z'; the inputs are: x, n"),
        ({"name": "n", "datatype": "INT64", "shape": [1]}, 400, "each input is needed exactly once: x, n; found: n, n"),
        ({"data": None}, 400, "input 'x' needs either data or the parameter binary_data_size"),
        ({"parameters": {"binary_data_size": 8}}, 400, "input 'x' needs either data or the parameter binary_data_size"),
        (
            {"data": None, "parameters": {"binary_data_size": 8}},
            400,
            "says 8 bytes of binary data, and the body has 0 left",
        ),
        ({"data": None, "parameters": {"binary_data_size": -8}}, 400, "inputs.0.parameters.binary_data_size: "),
        ({"parameters": {"shared_memory_region": "r"}}, 400, "the parameter shared_memory_region is not supported"),
    ],
)
def test_a_request_that_does_not_fit_the_model_is_refused(changed: dict[str, Any], status: int, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason) as refusal:
        _read(_pair(**changed))
    assert refusal.value.status == status


def test_a_shape_of_astronomic_size_costs_no_memory() -> None:
    head = _pair(shape=[0, 2]) | {"outputs": [{"name": "y"}]}
    head["inputs"][0]["data"] = []
    assert _read(head).inputs["x"].shape == (0, 2)
    head["inputs"][0]["shape"] = [2**63, 2]
    with pytest.raises(ProtocolError, match="more than 16777216 elements"):
        _read(head)


@pytest.mark.parametrize("length", ["", "0", "-1", "+5", "5.0", "9" * 5000, "1000", "٣"])
def test_a_json_length_that_is_none_is_refused(length: str) -> None:
    with pytest.raises(ProtocolError, match=r"Inference-Header-Content-Length is .*, and the body has 5 bytes"):
        read_request(b"{}   ", length, contract=PAIR, limits=Limits())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[" * 5000, "the body is not JSON"),
        (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [NaN, 1]}]}', "the body is not JSON"),
        (b"[]", "the body: Input should be a valid dictionary"),
        (b"{}", "inputs: Field required"),
        (b'{"inputs": 3}', "inputs: Input should be a valid list"),
        (b'{"inputs": []}', "each input is needed exactly once: x, n; found: none"),
    ],
)
def test_a_body_that_is_no_request_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        read_request(body, None, contract=PAIR, limits=Limits())


def test_bytes_left_over_are_refused() -> None:
    with pytest.raises(ProtocolError, match="3 bytes are left over after the last tensor"):
        _read(_pair(), b"abc")


def test_a_bool_of_another_byte_is_refused() -> None:
    contract = Signature(inputs=(TensorSpec(name="b", dtype="bool", shape=(2,)),))
    message = write_request({"b": np.array([True, False])})
    assert message.json_bytes is not None
    with pytest.raises(ProtocolError, match="a BOOL is one byte, 0 or 1"):
        read_request(message.body[:-1] + b"\x02", str(message.json_bytes), contract=contract, limits=Limits())


def test_an_unknown_output_and_a_classification_are_refused() -> None:
    with pytest.raises(ProtocolError, match="no output 'z'; the outputs are: y"):
        _read(_pair() | {"outputs": [{"name": "z"}]})
    with pytest.raises(ProtocolError, match="output 'y': the parameter classification is not supported here"):
        _read(_pair() | {"outputs": [{"name": "y", "parameters": {"classification": 3}}]})


@pytest.mark.parametrize(
    ("of_all", "of_one", "binary"), [(None, None, False), (True, None, True), (True, False, False), (False, True, True)]
)
def test_an_outputs_own_wish_goes_before_the_requests(of_all: bool | None, of_one: bool | None, binary: bool) -> None:  # noqa: FBT001
    wanted = {"name": "y"} | ({} if of_one is None else {"parameters": {"binary_data": of_one}})
    head = _pair() | {"outputs": [wanted]} | ({} if of_all is None else {"parameters": {"binary_data_output": of_all}})
    assert _read(head).outputs == (WantedOutput("y", binary=binary),)


@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(-5, 250).map(str), st.text(max_size=5)))
def test_no_body_at_all_breaks_the_reader(body: bytes, length: str | None) -> None:
    with pytest.raises(ProtocolError):
        read_request(body, length, contract=PAIR, limits=Limits())
