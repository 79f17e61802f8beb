"""A real server process, asked by tritonclient and by plain HTTP; every refusal, and that it answers after it."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import onnxruntime
import orjson
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from registry.endpoints.client import InferenceClient
    from registry.endpoints.serving import RunningServer

SAMPLES = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)
GOOD = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}


@pytest.fixture
def nvidia(server: RunningServer) -> Iterator[Any]:
    """NVIDIA's own client of the same protocol."""
    client = triton.InferenceServerClient(urlsplit(server.url).netloc)
    yield client
    client.close()


@pytest.fixture(scope="module")
def expected(engines: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """What the versions of iris give for SAMPLES, computed without the server."""
    found = {}
    for version, name in (("1", "first"), ("2", "second")):
        session = onnxruntime.InferenceSession(engines[name], providers=["CPUExecutionProvider"])
        found[version] = session.run(None, {"x": SAMPLES})[0]
    assert not np.allclose(found["1"], found["2"])
    return found


def _input(array: NDArray[Any], *, name: str = "x", binary: bool = True) -> Any:
    tensor = triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def _post(
    server: RunningServer, body: Any, *, path: str = "/v2/models/iris/infer", **headers: str
) -> tuple[int, dict[str, Any]]:
    """Send a raw request and return the status and the JSON that came back."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, named, encode_chunked="Transfer-Encoding" in named)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_tritonclient_finds_server_and_models_ready(nvidia: Any) -> None:
    assert nvidia.is_server_live()
    assert nvidia.is_server_ready()
    assert nvidia.is_model_ready("iris")
    assert nvidia.is_model_ready("iris", "1")
    assert nvidia.is_model_ready("iris", "v2")
    assert nvidia.is_model_ready("echo", "1.0.0")
    assert not nvidia.is_model_ready("iris", "3")
    assert not nvidia.is_model_ready("other")


def test_tritonclient_reads_the_metadata(nvidia: Any, server: RunningServer) -> None:
    about = nvidia.get_server_metadata()
    assert (about["name"], about["extensions"]) == (
        "modelway",
        ["binary_tensor_data", "model_repository", "statistics"],
    )
    assert about["modelway"] == {"endpoint": "trial", "instance": server.instance, "generation": 7}
    model = nvidia.get_model_metadata("iris", "1")
    assert (model["name"], model["versions"], model["platform"]) == ("iris", ["1", "2"], "onnxruntime_onnx")
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert model["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}]
    assert model["modelway"]["version"] == "v1"
    assert model["modelway"]["digest"].startswith("sha256:")


def test_tritonclient_lists_every_version_that_is_served(nvidia: Any) -> None:
    index = [(entry["name"], entry["version"], entry["state"]) for entry in nvidia.get_model_repository_index()]
    assert index == [
        ("iris", "1", "READY"), ("iris", "2", "READY"), ("echo", "1.0.0", "READY"), ("logarithm", "1", "READY"),
    ]  # fmt: skip


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
@pytest.mark.parametrize("version", ["1", "2", "v1"])
def test_tritonclient_gets_the_version_it_asks_for_in_both_forms(
    nvidia: Any,
    expected: dict[str, NDArray[Any]],
    binary_input: bool,  # noqa: FBT001
    binary_output: bool,  # noqa: FBT001
    version: str,
) -> None:
    wanted = triton.InferRequestedOutput("probabilities", binary_data=binary_output)
    result = nvidia.infer("iris", [_input(SAMPLES, binary=binary_input)], version, [wanted], request_id="17")
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected[version[-1]], rtol=1e-6)
    about = result.get_response()
    assert (about["id"], about["model_name"], about["model_version"]) == ("17", "iris", version[-1])


def test_a_url_without_a_version_asks_the_default(nvidia: Any, expected: dict[str, NDArray[Any]]) -> None:
    result = nvidia.infer("iris", [_input(SAMPLES)])
    assert result.get_response()["model_version"] == "2"
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected["2"], rtol=1e-6)


@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype_comes_back_as_it_was_sent(nvidia: Any, binary: bool) -> None:  # noqa: FBT001
    sent: dict[str, NDArray[Any]] = {"BOOL": np.array([[True, False]])}
    for bits in (8, 16, 32, 64):
        signed, unsigned = np.iinfo(f"int{bits}"), np.iinfo(f"uint{bits}")
        sent[f"INT{bits}"] = np.array([[signed.min, signed.max]], f"int{bits}")
        sent[f"UINT{bits}"] = np.array([[0, unsigned.max]], f"uint{bits}")
    for bits in (16, 32, 64):
        sent[f"FP{bits}"] = np.array([[0.1, -np.finfo(f"float{bits}").max]], f"float{bits}")
    # tritonclient itself sends FP16 only as bytes.
    inputs = [_input(array, name=name, binary=binary or name == "FP16") for name, array in sent.items()]
    wanted = [triton.InferRequestedOutput(f"echo_{name}", binary_data=binary or name == "FP16") for name in sent]
    result = nvidia.infer("echo", inputs, outputs=wanted)
    for name, array in sent.items():
        found = result.as_numpy(f"echo_{name}")
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_body_is_refused(nvidia: Any, algorithm: str) -> None:
    with pytest.raises(InferenceServerException, match="is not accepted: send the body uncompressed") as refusal:
        nvidia.infer("iris", [_input(SAMPLES)], request_compression_algorithm=algorithm)
    assert refusal.value.status() == "415"
    assert nvidia.infer("iris", [_input(SAMPLES)])


def test_an_unknown_model_or_version_is_not_found(nvidia: Any) -> None:
    for model, version, reason in (
        ("other", "", "no model 'other' at this endpoint; it serves: echo, iris, logarithm"),
        ("../iris", "", "POST '/v2/models/../iris/infer' is no request of this server"),
        ("iris", "3", "iris has no version '3' at this endpoint; it serves: 1, 2"),
        ("iris", "latest", "iris has no version 'latest'"),
        ("echo", "1", "echo has no version '1' at this endpoint; it serves: 1.0.0"),
    ):
        with pytest.raises(InferenceServerException) as refusal:
            nvidia.infer(model, [_input(SAMPLES)], version)
        assert refusal.value.status() == "404"
        assert reason in refusal.value.message()
    assert nvidia.infer("iris", [_input(SAMPLES)])


def _changed(**changes: Any) -> bytes:
    return orjson.dumps({"inputs": [GOOD["inputs"][0] | changes]})


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (_changed(shape=[2, 2]), 400, "input 'x' takes shape [-1, 4] and was sent as [2, 2]"),
        (_changed(shape=[1] * 5), 400, "input 'x' has 5 dimensions; the limit is 4"),
        (_changed(shape=[2000, 4]), 413, "input 'x' of shape [2000, 4] has more than 5000 elements; send fewer"),
        (_changed(shape=[2, 4]), 400, "input 'x' of shape [2, 4] has 8 elements, found 4"),
        (_changed(datatype="FP64"), 400, "input 'x' is FP32 and was sent as FP64"),
        (_changed(datatype="BYTES", data=["a"] * 4), 400, "input 'x' is FP32 and was sent as BYTES"),
        (_changed(name="y"), 400, "no input 'y'; the inputs are: x"),
        (_changed(data=["1", "2", "3", "4"]), 400, "input 'x': its data must be FP32 values, found str"),
        (b"", 400, "the body is not JSON"),
        (b"{" + b" " * 30_000 + b"}", 413, "the JSON part has 30002 bytes, more than 20000: send binary data instead"),
        (b"x" * 100_001, 413, "the body has more than 100000 bytes; send fewer samples at once"),
    ],
)
def test_a_bad_request_is_refused_in_words_and_the_next_one_answered(
    server: RunningServer, body: bytes, status: int, reason: str
) -> None:
    found, answer = _post(server, body)
    assert (found, list(answer)) == (status, ["error"])
    assert reason in answer["error"]
    assert _post(server, orjson.dumps(GOOD))[0] == 200


def test_a_chunked_body_is_cut_off_at_the_limit(server: RunningServer) -> None:
    chunks = (b"x" * 1000 for _ in range(300))
    status, answer = _post(server, chunks, Transfer_Encoding="chunked")
    assert (status, answer) == (413, {"error": "the body has more than 100000 bytes; send fewer samples at once"})
    assert _post(server, iter([orjson.dumps(GOOD)]), Transfer_Encoding="chunked")[0] == 200


def test_a_body_that_only_announces_too_much_is_refused_before_it_comes(server: RunningServer) -> None:
    status, answer = _post(server, b"", Content_Length=str(10**15))
    assert (status, list(answer)) == (413, ["error"])


@pytest.mark.parametrize(
    ("size", "sent", "reason"),
    [
        (16, 15, "input 'x' says 16 bytes of binary data, and the body has 15 left"),
        (16, 17, "1 bytes are left over after the last tensor"),
        (12, 12, "input 'x' of shape [1, 4] has 16 bytes as FP32, found 12"),
        (2**62, 16, "input 'x' says 4611686018427387904 bytes of binary data, and the body has 16 left"),
    ],
)
def test_binary_data_of_another_length_is_refused(server: RunningServer, size: int, sent: int, reason: str) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": size}}
    head = orjson.dumps({"inputs": [tensor]})
    status, answer = _post(server, head + bytes(sent), Inference_Header_Content_Length=str(len(head)))
    assert (status, answer) == (400, {"error": reason})
    assert _post(server, orjson.dumps(GOOD))[0] == 200


def test_a_json_length_beyond_the_body_is_refused(server: RunningServer) -> None:
    status, answer = _post(server, orjson.dumps(GOOD), Inference_Header_Content_Length="9999")
    assert status == 400
    assert answer["error"].startswith("Inference-Header-Content-Length is '9999', and the body has ")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "evil.example@127.0.0.1x", "0.0.0.0:1", ""]
)
def test_a_request_for_another_host_is_refused(server: RunningServer, host: str) -> None:
    status, answer = _post(server, orjson.dumps(GOOD), Host=host)
    assert (status, answer["error"]) == (
        403,
        f"this server answers to 127.0.0.1 and localhost, not to the host {host!r}",
    )


def test_a_page_of_another_origin_is_refused(server: RunningServer) -> None:
    status, answer = _post(server, orjson.dumps(GOOD), Origin="https://evil.example")
    assert (status, answer["error"]) == (403, "this server does not answer pages of 'https://evil.example'")
    assert _post(server, orjson.dumps(GOOD), Origin="null")[0] == 403
    assert _post(server, orjson.dumps(GOOD), Origin=server.url)[0] == 200


def test_localhost_is_answered_too(server: RunningServer) -> None:
    assert _post(server, orjson.dumps(GOOD), Host=f"localhost:{urlsplit(server.url).port}")[0] == 200


def test_a_route_that_is_none_gets_the_protocols_error(server: RunningServer) -> None:
    for path, status in (
        ("/", 404), ("/docs", 404), ("/openapi.json", 404), ("/v2/", 404), ("/v2/models/iris", 405), ("/v2", 405),
        ("/v2/models/iris/infer/", 404), ("/v2/models/iris/versions//infer", 404),
    ):  # fmt: skip
        found, answer = _post(server, b"", path=path)
        assert (found, answer) == (status, {"error": f"POST {path!r} is no request of this server"})


def test_nan_comes_back_as_bytes_and_is_refused_as_json(nvidia: Any) -> None:
    below_zero = _input(np.array([-1.0, 1.0], np.float32))
    assert np.isnan(nvidia.infer("logarithm", [below_zero]).as_numpy("z")[0, 0])
    with pytest.raises(InferenceServerException, match="output 'z' holds NaN or infinity, which JSON cannot carry"):
        nvidia.infer("logarithm", [below_zero], outputs=[triton.InferRequestedOutput("z", binary_data=False)])


def test_a_model_that_fails_on_an_input_says_so_and_goes_on(nvidia: Any) -> None:
    with pytest.raises(InferenceServerException, match="logarithm could not run on these inputs") as failure:
        nvidia.infer("logarithm", [_input(np.ones(3, np.float32))])
    assert failure.value.status() == "500"
    assert nvidia.infer("logarithm", [_input(np.ones(4, np.float32))]).as_numpy("z").tolist() == [[0, 0], [0, 0]]


def test_an_empty_batch_gives_an_empty_answer(client: InferenceClient) -> None:
    assert client.infer("iris", {"x": np.empty((0, 4), np.float32)})["probabilities"].shape == (0, 3)
