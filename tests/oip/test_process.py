"""The server process with both protocols at once: under load, while versions are swapped, as it ends; its log."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from oip_clients import Form, each_datatype, refused
from oip_servers import SEEDS, Served, our_server
from small_network import answers, samples
from tritonclient.utils import InferenceServerException

from registry.endpoints.request_log import read_requests
from registry.endpoints.serving import ServedModels

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each

X = samples(64)
RIGHT = {version: answers(X, seed) for version, seed in SEEDS.items()}


def _ask(served: Served, form: Form, count: int, failures: list[str]) -> dict[str, int]:
    """Ask for one sample after the other; hold each answer against the version that it says it is of."""
    versions = dict.fromkeys(RIGHT, 0)
    with served.client(form) as client:
        for number in range(count):
            sample = number % len(X)
            try:
                answer = client.infer("network", {"x": X[sample : sample + 1]}, request_id=str(number))
            except InferenceServerException as error:
                failures.append(f"{form}: {error}")
                continue
            right = RIGHT[answer.version][sample : sample + 1]
            if answer.id != str(number) or not np.allclose(answer.outputs["y"], right, rtol=1e-4, atol=1e-4):
                failures.append(f"{form}: request {number} was answered for another one, or by another version")
            versions[answer.version] += 1
    return versions


def _swap(served: Served, done: threading.Event) -> int:
    """Give all requests to the other version, again and again, over gRPC; return how often."""
    assert served.models_file is not None
    swaps = 0
    with served.client("grpc") as control:
        while not done.is_set():
            models = ServedModels.model_validate_json(served.models_file.read_bytes())
            roles = {"stable": ("canary", 0.0), "canary": ("stable", 1.0)}
            turned = [
                one if one.model == "echo" else one.model_copy(
                    update=dict(zip(("role", "share"), roles[one.role], strict=True))
                )
                for one in models.versions
            ]  # fmt: skip
            following = ServedModels(generation=models.generation + 1, versions=tuple(turned))
            staged = served.models_file.with_suffix(".tmp")
            staged.write_text(following.model_dump_json())
            staged.replace(served.models_file)
            control.load("network")
            swaps += 1
            done.wait(0.05)
    return swaps


@pytest.mark.heavy
def test_both_protocols_answer_every_request_of_a_crowd_while_versions_are_swapped(tmp_path: Path) -> None:
    forms: list[Form] = ["grpc", "grpc", "grpc", "grpc", "binary", "binary", "json", "json"]
    failures: list[str] = []
    done = threading.Event()
    with our_server(tmp_path) as served, ThreadPoolExecutor(len(forms) + 1) as pool:
        swapping = pool.submit(_swap, served, done)
        try:
            asking = [pool.submit(_ask, served, form, 1000, failures) for form in forms]
            counts = [one.result() for one in asking]
        finally:
            done.set()
        assert swapping.result() > 10
    assert failures == []
    for version in RIGHT:
        assert sum(count[version] for count in counts) > 100


def test_a_request_that_is_under_way_is_answered_when_the_process_ends(tmp_path: Path) -> None:
    # It waits a second for company that does not come.
    with our_server(tmp_path, max_delay_ms=1000.0) as served, ThreadPoolExecutor(1) as pool:
        with served.client("grpc") as client:
            asking = pool.submit(client.infer, "network", {"x": X[:2]})
            time.sleep(0.3)
            process = psutil.Process(served.pid)
            process.terminate()
            np.testing.assert_allclose(asking.result().outputs["y"], RIGHT["2"][:2], rtol=1e-4, atol=1e-4)
        assert not psutil.wait_procs([process], timeout=20.0)[1]


def test_clients_of_a_process_that_ends_see_answers_and_then_nobody(tmp_path: Path) -> None:
    def ask_on(served: Served) -> tuple[int, str]:
        answered = 0
        with served.client("grpc") as client:
            while True:
                try:
                    client.infer("network", {"x": X[:1]})
                except InferenceServerException as error:
                    return answered, str(error)
                answered += 1

    with our_server(tmp_path) as served, ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_on, served) for _ in range(4)]
        time.sleep(1.0)
        psutil.Process(served.pid).terminate()
        ends = [one.result(30.0) for one in asking]
    assert min(answered for answered, _ in ends) > 10
    # In words: a call that gRPC cancels by itself would leave the client to wonder what was done.
    assert {words for _, words in ends} == {"[StatusCode.UNAVAILABLE] this server is ending and takes no more requests"}


def test_the_log_has_the_requests_of_both_protocols_as_they_were_sent_and_answered(tmp_path: Path) -> None:
    log, sent = tmp_path / "log", each_datatype()
    with our_server(tmp_path / "server", log_folder=log, log_share=1.0) as served:
        found: dict[str, Any] = {}
        for form in ("binary", "grpc"):
            with served.client(form) as client:
                found[form] = client.infer("network", {"x": X[:3]}, "1", request_id=form)
                client.infer("echo", sent, outputs=["echo_FP16", "echo_UINT64"], request_id=f"{form} echo")
                assert refused(lambda: client.infer("network", {"z": X}, request_id="no")).kind == "invalid"
    rows = {row["id"]: row for row in read_requests(log).to_pylist()}
    assert set(rows) == {"binary", "grpc", "binary echo", "grpc echo"}
    for form, protocol in (("binary", "http"), ("grpc", "grpc")):
        row = rows[form]
        assert (row["model"], row["version"], row["role"]) == ("network", "1", "canary")
        assert (row["protocol"], row["error"]) == (protocol, None)
        assert row["latency_ms"] > 0
        assert row["inputs"]["x"] == {"shape": [3, 16], "data": X[:3].ravel().tolist()}
        assert row["outputs"]["y"] == {"shape": [3, 4], "data": found[form].outputs["y"].ravel().tolist()}
        row = rows[f"{form} echo"]
        assert {name: tensor["data"] for name, tensor in row["inputs"].items() if tensor} == {
            name: array.ravel().tolist() for name, array in sent.items()
        }
        kept = {name: tensor["data"] for name, tensor in row["outputs"].items() if tensor}
        assert kept == {f"echo_{name}": sent[name].ravel().tolist() for name in ("FP16", "UINT64")}


def test_a_log_that_cannot_be_written_costs_no_answer(tmp_path: Path) -> None:
    in_the_way = tmp_path / "log"
    in_the_way.write_text("a file")
    failures: list[str] = []
    with our_server(tmp_path / "server", log_folder=in_the_way, log_share=1.0) as served:
        assert _ask(served, "grpc", 50, failures) == {"1": 0, "2": 50}
        assert _ask(served, "binary", 50, failures) == {"1": 0, "2": 50}
    assert failures == []
    assert in_the_way.read_text() == "a file"
