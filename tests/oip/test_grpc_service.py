"""The gRPC service: messages that NVIDIA's client never sends, limits, deadlines, and what it says of a refusal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_thread import GrpcThread, grpc_service
from oip_clients import each_datatype
from oip_servers import echo
from onnx import ModelProto, TensorProto, helper, numpy_helper
from small_network import network
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceServicer

from registry.endpoints.grpc_service import start_grpc
from registry.endpoints.serving import Limits
from registry.errors import EndpointError, MissingExtraError

LIMITS = Limits(max_body_bytes=100_000, max_rank=4, max_elements=5_000)
FIELDS = {"BOOL": "bool", "INT64": "int64", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64"}
FIELDS |= {f"{sign}INT{bits}": f"{sign.lower()}int" for sign in ("", "U") for bits in (8, 16, 32)}


def slow() -> ModelProto:
    """Return a model that multiplies a matrix with itself as often as its input says."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "turned"], ["after"]),
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [400, 400]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [400, 400]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["steps", "always", "turned"], ["whole"], body=body),
        helper.make_node("ReduceSum", ["whole"], ["sum"], keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(np.eye(400, dtype=np.float32), "turned"),
        numpy_helper.from_array(np.ones((), np.bool_), "always"),
    ]
    inputs = [helper.make_tensor_value_info("steps", TensorProto.INT64, [])]
    outputs = [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [])]
    graph = helper.make_graph(nodes, "slow", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def pairs() -> ModelProto:
    """Return a model that fails on an odd number of values."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", 2])]
    shape = numpy_helper.from_array(np.array([-1, 2], np.int64), "shape")
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "pairs", inputs, outputs, [shape])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcThread]:
    """The service with small limits."""
    models = {"network": network(), "echo": echo(), "without_fp16": echo(without={"FP16"}), "slow": slow()}
    models["pairs"] = pairs()
    with grpc_service(tmp_path_factory.mktemp("grpc"), models, limits=LIMITS) as served:
        yield served


def _tensor(name: str = "x", datatype: str = "FP32", shape: tuple[int, ...] = (1, 16), **contents: Any) -> Any:
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, f"{field}_contents").extend(values)
    return tensor


def _request(*tensors: Any, raw: tuple[bytes, ...] = (), model: str = "network", **more: Any) -> Any:
    return service_pb2.ModelInferRequest(model_name=model, inputs=tensors, raw_input_contents=raw, **more)


GOOD = _request(_tensor(), raw=(bytes(64),))


def _slow_request(steps: int) -> Any:
    return _request(_tensor("steps", "INT64", (), int64=[steps]), model="slow")


def _refused(ask: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refusal:
        ask()
    return refusal.value.code(), refusal.value.details()


def _eventually(holds: Callable[[], bool], *, within_s: float = 20.0) -> None:
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_values_of_every_datatype_are_taken_in_the_field_of_their_type(served: GrpcThread) -> None:
    sent = {name: array for name, array in each_datatype().items() if name != "FP16"}
    tensors = [_tensor(n, n, (1, 2), **{FIELDS[n]: array.ravel().tolist()}) for n, array in sent.items()]
    answer = served.stub.ModelInfer(_request(*tensors, model="without_fp16"))
    assert [output.name for output in answer.outputs] == [f"echo_{name}" for name in sent]
    assert list(answer.raw_output_contents) == [array.tobytes() for array in sent.values()]


def test_bytes_of_every_datatype_are_taken_and_an_empty_tensor_needs_none(served: GrpcThread) -> None:
    raw = tuple(array.tobytes() for array in each_datatype().values())
    whole = _request(*(_tensor(name, name, (1, 2)) for name in each_datatype()), raw=raw, model="echo")
    assert tuple(served.stub.ModelInfer(whole).raw_output_contents) == raw
    empty = _request(*(_tensor(name, name, (0, 2)) for name in each_datatype()), model="echo")
    assert {tuple(output.shape) for output in served.stub.ModelInfer(empty).outputs} == {(0, 2)}


SHARED = service_pb2.InferParameter(string_param="region")
REFUSED: dict[str, tuple[Any, str]] = {
    "values in the field of another type": (
        _request(_tensor(int=[1] * 16)),
        "input 'x': FP32 belongs in contents.fp32_contents or in raw_input_contents, found int_contents",
    ),
    "values in two fields": (_request(_tensor(fp32=[1] * 16, fp64=[1] * 16)), "found fp32_contents, fp64_contents"),
    "half floats that are not bytes": (
        _request(_tensor("FP16", "FP16", (1, 2), fp32=[1, 2]), model="echo"),
        "input 'FP16': FP16 belongs in raw_input_contents, found fp32_contents",
    ),
    "a number that its type does not have": (
        _request(_tensor("INT8", "INT8", (1, 2), int=[1, 300]), model="echo"),
        "input 'INT8': its data has a number outside the range of INT8",
    ),
    "too few values": (_request(_tensor(fp32=[1] * 15)), "has 64 bytes as FP32, found 60"),
    "too many bytes": (_request(_tensor(), raw=(bytes(65),)), "has 64 bytes as FP32, found 65"),
    "no data": (_request(_tensor()), "has 64 bytes as FP32, found 0"),
    "bytes for fewer inputs": (
        _request(_tensor(), _tensor("z"), raw=(bytes(64),)),
        "raw_input_contents has 1 entries for 2 inputs",
    ),
    "bytes and values": (
        _request(_tensor(fp32=[1] * 16), raw=(bytes(64),)),
        "input 'x' has contents beside raw_input_contents; send one of them",
    ),
    "no input": (_request(), "each input is needed exactly once: x; found: none"),
    "an input twice": (_request(_tensor(), _tensor(), raw=(bytes(64),) * 2), "found: x, x"),
    "text": (_request(_tensor(datatype="BYTES", bytes=[b"a"])), "BYTES belongs in raw_input_contents"),
    "a size below zero": (_request(_tensor(shape=(-1, 16))), "input 'x' takes shape [-1, 16] and was sent as [-1, 16]"),
    "too many dimensions": (_request(_tensor(shape=(1,) * 5)), "input 'x' has 5 dimensions; the limit is 4"),
    "shared memory": (
        _request(service_pb2.ModelInferRequest.InferInputTensor(
            name="x", datatype="FP32", shape=(1, 16), parameters={"shared_memory_region": SHARED}
        )),
        "the parameter shared_memory_region is not supported here",
    ),
    "classes instead of numbers": (
        _request(_tensor(fp32=[1] * 16), outputs=[service_pb2.ModelInferRequest.InferRequestedOutputTensor(
            name="y", parameters={"classification": service_pb2.InferParameter(int64_param=3)}
        )]),
        "output 'y': the parameter classification is not supported here",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_message_that_is_wrong_is_refused_in_words_and_the_next_one_answered(served: GrpcThread, what: str) -> None:
    message, reason = REFUSED[what]
    code, words = _refused(lambda: served.stub.ModelInfer(message))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert reason in words
    assert served.stub.ModelInfer(GOOD).outputs[0].name == "y"


def test_parameters_that_change_nothing_are_let_pass(served: GrpcThread) -> None:
    parameter = service_pb2.InferParameter
    more = {"priority": parameter(uint64_param=3), "mine": parameter(string_param="x"), "unset": parameter()}
    # Over gRPC no parameter says how a tensor is sent.
    more["binary_data_output"] = parameter(bool_param=False)
    request = _request(_tensor(), raw=(bytes(64),), parameters=more)
    assert list(served.stub.ModelInfer(request).raw_output_contents) == [bytes(16)]


def test_a_request_that_is_too_large_is_refused_before_it_is_opened(served: GrpcThread) -> None:
    code, words = _refused(lambda: served.stub.ModelInfer(_request(_tensor(shape=(400, 16)), raw=(bytes(25_600),))))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert words == "input 'x' of shape [400, 16] has more than 5000 elements; send fewer"
    code, words = _refused(lambda: served.stub.ModelInfer(_request(_tensor(), raw=(bytes(200_000),))))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in words
    assert served.stub.ModelInfer(GOOD)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_compressed_message_is_refused(served: GrpcThread, compression: grpc.Compression) -> None:
    zeros = _request(_tensor(shape=(100, 16)), raw=(bytes(6_400),))  # little data is sent as it is
    code, words = _refused(lambda: served.stub.ModelInfer(zeros, compression=compression))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert "is disabled" in words
    assert served.stub.ModelInfer(zeros)


def test_a_call_ends_at_the_clients_deadline_is_counted_as_late_and_gives_its_place_back(served: GrpcThread) -> None:
    failed = _failed(served, "slow")
    began = time.monotonic()
    code, _ = _refused(lambda: served.stub.ModelInfer(_slow_request(600), timeout=0.2))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 2.0
    _eventually(lambda: served.service.slots.in_flight == 0 and _failed(served, "slow") == failed + 1)
    assert served.stub.ModelInfer(_slow_request(1))


def test_a_call_that_the_client_gives_up_is_no_failure(served: GrpcThread) -> None:
    failed = _failed(served, "slow")
    call = served.stub.ModelInfer.future(_slow_request(600), timeout=60.0)
    _eventually(lambda: served.service.slots.in_flight == 1)
    call.cancel()
    _eventually(lambda: served.service.slots.in_flight == 0)
    assert served.stub.ModelInfer(_slow_request(1))
    assert _failed(served, "slow") == failed


def _failed(served: GrpcThread, model: str) -> int:
    (stats,) = served.stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=model)).model_stats
    return int(stats.inference_stats.fail.count)


def test_a_server_that_is_late_or_full_says_so_and_that_it_lives(tmp_path: Path) -> None:
    with grpc_service(tmp_path, {"slow": slow()}, timeout_s=0.3, max_concurrency=1) as served:
        late: list[tuple[grpc.StatusCode, str]] = []
        asking = threading.Thread(
            target=lambda: late.append(_refused(lambda: served.stub.ModelInfer(_slow_request(600))))
        )
        asking.start()
        _eventually(lambda: served.service.slots.in_flight == 1)
        code, words = _refused(lambda: served.stub.ModelInfer(_slow_request(1)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert words == "1 requests are under way, and no more are taken; ask again in a moment"
        assert served.stub.ServerLive(service_pb2.ServerLiveRequest()).live
        asking.join()
        assert late == [(grpc.StatusCode.DEADLINE_EXCEEDED, "there was no answer within 0.3 s")]
        _eventually(lambda: served.service.slots.in_flight == 0)


def test_calls_whose_message_never_comes_are_bounded(tmp_path: Path) -> None:
    release = threading.Event()

    def nothing_yet() -> Iterator[Any]:
        release.wait(30.0)
        yield from ()

    with grpc_service(tmp_path, {"network": network()}, max_concurrency=1) as served:
        with grpc.insecure_channel(f"127.0.0.1:{served.port}") as channel:
            open_call = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
            calls = [open_call.future(nothing_yet()) for _ in range(1 + 64)]
            _eventually(lambda: _outcome_of_live(served) is grpc.StatusCode.RESOURCE_EXHAUSTED)
            for call in calls:
                call.cancel()
            release.set()
        _eventually(lambda: _outcome_of_live(served) is grpc.StatusCode.OK)
        assert served.stub.ModelInfer(GOOD)


def _outcome_of_live(served: GrpcThread) -> grpc.StatusCode:
    try:
        served.stub.ServerLive(service_pb2.ServerLiveRequest())
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_a_model_that_fails_says_so_and_goes_on(served: GrpcThread) -> None:
    odd, even = (_request(_tensor(shape=(n,), fp32=[1.0] * n), model="pairs") for n in (3, 4))
    code, words = _refused(lambda: served.stub.ModelInfer(odd))
    assert code is grpc.StatusCode.INTERNAL
    assert words.startswith("pairs could not run on these inputs: ")
    assert list(served.stub.ModelInfer(even).outputs[0].shape) == [2, 2]


def test_what_is_not_served_is_refused_in_words(served: GrpcThread) -> None:
    names = {name for name in vars(GRPCInferenceServiceServicer) if not name.startswith("_")}
    unserved = names - {
        "ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig", "ModelInfer",
        "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload",
    }  # fmt: skip
    assert len(unserved) == 9
    requests = {"ModelStreamInfer": iter([GOOD])}
    for name in unserved:
        request = requests.get(name) or getattr(service_pb2, f"{name}Request")()
        called = getattr(served.stub, name)
        code, words = _refused(lambda: list(called(request)) if name == "ModelStreamInfer" else called(request))  # noqa: B023
        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert words.startswith(f"{name} is not served here")
    assert served.stub.ModelInfer(GOOD)


def test_the_configuration_says_what_is_true_here(served: GrpcThread) -> None:
    config = served.stub.ModelConfig(service_pb2.ModelConfigRequest(name="network")).config
    assert (config.name, config.platform, config.backend) == ("network", "onnxruntime_onnx", "onnxruntime")
    assert config.max_batch_size == 0
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [("x", 11, [-1, 16])]
    assert [(one.name, one.data_type, list(one.dims)) for one in config.output] == [("y", 11, [-1, 4])]


def test_only_who_has_the_token_loads_and_only_what_the_models_file_says(served: GrpcThread) -> None:
    load, request = served.stub.RepositoryModelLoad, service_pb2.RepositoryModelLoadRequest(model_name="network")
    before = served.service.catalog
    for metadata in ((), (("authorization", "right"),), (("authorization", "Bearer wrong"),), (("x-bin", b"\xff"),)):
        assert _refused(lambda: load(request, metadata=metadata))[0] is grpc.StatusCode.UNAUTHENTICATED  # noqa: B023
    right = (("authorization", "Bearer right"),)
    request.parameters["config"].string_param = "{}"
    code, words = _refused(lambda: load(request, metadata=right))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words == "a model is loaded as the models file says, without config"
    assert served.service.catalog is before
    load(service_pb2.RepositoryModelLoadRequest(model_name="network"), metadata=right)
    assert served.stub.ModelInfer(GOOD)


def test_the_index_can_leave_out_what_does_not_answer(served: GrpcThread) -> None:
    right = (("authorization", "Bearer right"),)
    served.stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="slow"), metadata=right)
    everything = served.stub.RepositoryIndex(service_pb2.RepositoryIndexRequest()).models
    ready = served.stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True)).models
    served.stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="slow"), metadata=right)
    assert {one.name for one in everything} - {one.name for one in ready} == {"slow"}
    assert all(one.reason for one in everything if one.state == "UNAVAILABLE")


def test_a_server_that_is_to_end_says_that_it_is_not_ready(served: GrpcThread) -> None:
    served.service.draining = True
    try:
        assert not served.stub.ServerReady(service_pb2.ServerReadyRequest()).ready
        assert served.stub.ModelInfer(GOOD)
    finally:
        served.service.draining = False
    assert served.stub.ServerReady(service_pb2.ServerReadyRequest()).ready


def test_a_fault_of_the_server_is_logged_and_not_told(
    served: GrpcThread, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(served.service, "index", lambda: 1 / 0)
    code, words = _refused(lambda: served.stub.RepositoryIndex(service_pb2.RepositoryIndexRequest()))
    assert (code, words) == (grpc.StatusCode.INTERNAL, "the server failed; its log has the reason")
    assert "ZeroDivisionError" in caplog.text


def test_a_port_that_is_taken_is_refused(served: GrpcThread) -> None:
    with pytest.raises(EndpointError, match=f"cannot listen at 127.0.0.1:{served.port}.*Choose another port"):
        served.run(start_grpc(served.service, port=served.port))
    assert served.stub.ModelInfer(GOOD)


def test_without_the_stubs_the_extra_is_named(served: GrpcThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    words = r"the gRPC service of an endpoint needs tritonclient\[grpc\].*pip install 'modelway\[triton\]'"
    with pytest.raises(MissingExtraError, match=words):
        served.run(start_grpc(served.service))
