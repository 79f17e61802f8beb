"""Our own client, the line for curl, and the trial of an endpoint."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import onnxruntime
import orjson
import pytest
from served_models import served

from registry.endpoints.client import InferenceClient, curl_line
from registry.endpoints.process import start_server, stop_server
from registry.endpoints.tensors import ProtocolError
from registry.endpoints.trial import compare_golden, send_all
from registry.errors import EndpointError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from registry.endpoints.serving import RunningServer, ServerConfig

SAMPLES = np.random.default_rng(5).normal(size=(23, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(engines: dict[str, Path]) -> NDArray[Any]:
    """What the default version of iris gives for SAMPLES, computed without the server."""
    session = onnxruntime.InferenceSession(engines["second"], providers=["CPUExecutionProvider"])
    found: NDArray[Any] = session.run(None, {"x": SAMPLES})[0]
    return found


def test_the_client_gets_outputs_metadata_and_readiness(client: InferenceClient, expected: NDArray[Any]) -> None:
    np.testing.assert_allclose(client.infer("iris", {"x": SAMPLES})["probabilities"], expected, rtol=1e-6)
    np.testing.assert_allclose(client.infer("iris", {"x": SAMPLES}, version="v2")["probabilities"], expected, rtol=1e-6)
    assert not np.allclose(client.infer("iris", {"x": SAMPLES}, version="1")["probabilities"], expected)
    assert client.metadata()["name"] == "modelway"
    assert client.metadata("iris", version="v1")["modelway"]["version"] == "v1"
    assert client.ready()
    assert client.ready("iris", version="2")
    assert not client.ready("iris", version="3")


def test_a_refusal_comes_with_the_servers_words_and_status(client: InferenceClient) -> None:
    with pytest.raises(ProtocolError, match=r"refused \(400\): input 'x' takes shape \[-1, 4\]") as refusal:
        client.infer("iris", {"x": SAMPLES[:, :3]})
    assert refusal.value.status == 400
    with pytest.raises(ProtocolError, match=r"refused \(404\): no model 'other' at this endpoint"):
        client.metadata("other")
    with pytest.raises(ProtocolError, match=r"refused \(413\): the body has more than 100000 bytes"):
        client.infer("iris", {"x": np.zeros((10_000, 4), np.float32)})
    assert client.ready()


def test_a_server_that_is_gone_is_no_refusal(
    tmp_path: Path, engines: dict[str, Path], config_for: Callable[..., ServerConfig]
) -> None:
    running = start_server(config_for(tmp_path, served("iris", "v1", engines["first"])), folder=tmp_path)
    with InferenceClient(running.url) as client:
        assert client.ready()
        assert stop_server(running)
        with pytest.raises(EndpointError, match=r"no answer from http://127\.0\.0\.1:.*: .*refused") as failure:
            client.infer("iris", {"x": SAMPLES})
        assert not isinstance(failure.value, ProtocolError)


def test_the_curl_line_works_as_it_is_pasted(server: RunningServer, expected: NDArray[Any]) -> None:
    line = curl_line(server.url, "iris", SAMPLES[:1], "x")
    words = shlex.split(line)
    assert words[:2] == ["curl", "-s"]
    posted = httpx.post(words[2], content=words[words.index("-d") + 1], headers=dict([words[4].split(": ")]))
    assert _probabilities(posted.content) == pytest.approx(expected[0], abs=1e-3)
    if shutil.which("curl"):
        done = subprocess.run(["sh", "-c", line], check=True, capture_output=True, timeout=30)  # noqa: S607 - any shell
        assert _probabilities(done.stdout) == pytest.approx(expected[0], abs=1e-3)


def _probabilities(body: bytes) -> list[float]:
    found: list[float] = orjson.loads(body)["outputs"][0]["data"]
    return found


def test_the_curl_line_is_short_and_survives_a_shell() -> None:
    line = curl_line("http://127.0.0.1:1/", "iris", np.array([[1 / 3, 16.0]]), "it's")
    assert "0.3333,16.0" in line
    body = shlex.split(line)[-1]
    assert orjson.loads(body)["inputs"][0] == {
        "name": "it's",
        "datatype": "FP64",
        "shape": [1, 2],
        "data": [0.3333, 16.0],
    }
    assert '"data":[3,4]' in curl_line("http://127.0.0.1:1", "iris", np.array([3, 4]), "n")


def test_golden_samples_pass_on_the_right_version_and_fail_on_another(
    client: InferenceClient, expected: NDArray[Any]
) -> None:
    golden = {"probabilities": expected}
    parity = compare_golden(client, "iris", {"x": SAMPLES}, golden, atol=1e-5, rtol=1e-4)
    assert (parity.passed, parity.samples, parity.top1_agreement) == (True, 23, 1.0)
    other = compare_golden(client, "iris", {"x": SAMPLES}, {"probabilities": expected[:, ::-1]}, atol=1e-5, rtol=1e-4)
    assert not other.passed
    assert other.reason.startswith("output 'probabilities': ")


def test_a_golden_output_that_the_endpoint_does_not_give_is_an_error(client: InferenceClient) -> None:
    with pytest.raises(EndpointError, match="gives no output scores; it gives: probabilities"):
        compare_golden(client, "iris", {"x": SAMPLES}, {"scores": SAMPLES}, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("batch", "requests"), [(1, 23), (5, 5), (100, 1)])
def test_every_sample_is_sent_and_timed(
    client: InferenceClient, expected: NDArray[Any], batch: int, requests: int
) -> None:
    seen: list[int] = []
    report = send_all(client, "iris", {"x": SAMPLES}, batch=batch, progress=seen.append)
    np.testing.assert_allclose(report.outputs["probabilities"], expected, rtol=1e-6)
    assert (report.requests, report.errors, sum(seen), len(seen)) == (requests, 0, 23, requests)
    assert 0 < report.p50_ms <= report.p95_ms <= report.p99_ms
    assert report.p50_ms < 30  # 40 is what Nagle's algorithm against delayed acknowledgements takes


def test_samples_without_an_answer_are_counted_and_named(client: InferenceClient) -> None:
    report = send_all(client, "logarithm", {"x": np.ones(9, np.float32)}, batch=2)
    assert (report.requests, report.errors, report.unanswered) == (5, 1, (8,))
    assert report.outputs["z"].shape == (4, 2)
    assert "logarithm could not run on these inputs" in report.first_error


def test_an_endpoint_that_only_errs_is_given_up_after_ten_requests(client: InferenceClient) -> None:
    seen: list[int] = []
    with pytest.raises(EndpointError, match="logarithm could not run"):
        send_all(client, "logarithm", {"x": np.ones(50, np.float32)}, progress=seen.append)
    assert len(seen) == 9


@pytest.mark.parametrize(
    "inputs", [{}, {"x": np.empty((0, 4), np.float32)}, {"x": np.ones((2, 4)), "y": np.ones((3, 4))}]
)
def test_nothing_to_send_is_said_so(client: InferenceClient, inputs: dict[str, NDArray[Any]]) -> None:
    with pytest.raises(InvalidInputError, match="there is nothing to send"):
        send_all(client, "iris", inputs)
