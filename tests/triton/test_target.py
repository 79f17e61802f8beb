"""Rollouts on a real Triton: what serves, what went wrong, what is seen and counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
from small_network import answers, network, samples
from triton_parts import (
    ENGINE_OF_A_GPU,
    bring_up,
    canary_of,
    digest_of_network,
    part_of,
    rollout_of,
    signature_of,
    tree,
)
from triton_server import Addresses
from tritonclient.grpc import InferenceServerClient

from registry.endpoints.target import Look, Target
from registry.endpoints.triton.target import TritonTarget
from registry.endpoints.triton.weighted import WeightedClient
from registry.errors import EndpointError, IntegrityError

pytestmark = pytest.mark.heavy
TargetOf = Callable[..., TritonTarget]
ASKED = {"x": samples(3)}


def _conforms(target: TritonTarget) -> Target:
    return target


def test_a_first_version_serves_over_both_protocols(target: TritonTarget, model: str, triton: Addresses) -> None:
    reached = bring_up(_conforms(target), rollout_of(1, part_of(1)))
    assert reached is not None
    assert (reached.url, reached.grpc, reached.model_name) == (f"http://{triton.http}", triton.grpc, model)
    with tritonclient.http.InferenceServerClient(triton.http) as client:
        tensor = tritonclient.http.InferInput("x", [3, 16], "FP32").set_data_from_numpy(ASKED["x"])
        found = client.infer(model, [tensor]).as_numpy("y")
    np.testing.assert_allclose(found, answers(ASKED["x"], 1), atol=1e-3)
    assert target.look() == Look(running=True, shares={1: 1.0}, digests={1: digest_of_network(1)})


def test_a_rollout_leaves_only_what_serves_and_what_is_to_be_kept(
    target: TritonTarget, model: str, repository: Path
) -> None:
    for number, keep in ((1, ()), (2, (1,)), (3, (2,))):
        bring_up(target, rollout_of(number, part_of(number), keep=keep))
    assert sorted(path.name for path in repository.iterdir()) == [model]
    assert sorted(path.name for path in (repository / model).iterdir()) == [
        "2", "3", "config.pbtxt", "modelway.json", "warmup",
    ]  # fmt: skip


def test_a_rollout_that_is_done_is_found_done(target: TritonTarget, repository: Path) -> None:
    first = bring_up(target, rollout_of(1, part_of(1)))
    before = {path: path.stat().st_mtime_ns for path in repository.rglob("*")}
    assert bring_up(target, rollout_of(1, part_of(1))) == first
    assert {path: path.stat().st_mtime_ns for path in repository.rglob("*")} == before


def test_until_it_is_routed_a_new_version_gets_no_request(target: TritonTarget, model: str, triton: Addresses) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    bring_up(target, rollout_of(2, part_of(2)), until="probe")
    assert target.look().shares == {1: 1.0, 2: 0.0}
    with WeightedClient(triton.grpc, {model: 1.0}, seed=1) as client:
        assert {client.infer(ASKED).version for _ in range(20)} == {1}


def test_a_version_that_does_not_open_is_told_and_the_old_one_serves_on(target: TritonTarget) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    with pytest.raises(EndpointError) as refused:
        bring_up(target, rollout_of(2, part_of(2, data=b"no model")))
    words = str(refused.value)
    assert "digits:v2 (onnxruntime) could not be loaded" in words
    assert "protobuf parsing failed" in words
    assert "What served before still does." in words
    assert target.look() == Look(running=True, shares={1: 1.0}, digests={1: digest_of_network(1)})
    bring_up(target, rollout_of(3, part_of(1)))
    assert target.look() == Look(running=True, shares={1: 1.0}, digests={1: digest_of_network(1)})


def test_a_version_that_answers_otherwise_than_it_should_is_never_routed(
    target: TritonTarget, model: str, triton: Addresses
) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    with pytest.raises(EndpointError, match=r"digits:v2 .* answers the golden samples differently .* 160 of 160"):
        bring_up(target, rollout_of(2, part_of(2, samples_of=1)))
    with WeightedClient(triton.grpc, {model: 1.0}, seed=1) as client:
        assert client.infer(ASKED).version == 1
    bring_up(target, rollout_of(3, part_of(1)))
    assert target.look().shares == {1: 1.0}


def test_an_engine_that_rounds_is_held_to_its_own_golden_outputs(target: TritonTarget, tmp_path: Path) -> None:
    own = tmp_path / "golden.npy"
    np.save(own, answers(samples(40), 2))
    part = part_of(2, samples_of=1, variant="k2", files={"golden.npy": own.read_bytes()})
    bring_up(target, rollout_of(1, part), until="load")
    assert target.probe(rollout_of(1, part))["v2"].passed


def test_what_triton_refuses_at_the_last_moment_is_not_there_at_its_next_start(
    target: TritonTarget, repository: Path, model: str
) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    before = (repository / model / "config.pbtxt").read_bytes()
    bring_up(target, rollout_of(2, part_of(2)), until="probe")
    (repository / model / "refusal.txt").write_text("no memory is left")
    with pytest.raises(EndpointError, match=r"digits:v2 \(onnxruntime\) could not be loaded: .*no memory is left"):
        target.route(rollout_of(2, part_of(2)))
    assert (repository / model / "config.pbtxt").read_bytes() == before
    assert target.look().shares == {1: 1.0, 2: 0.0}
    bring_up(target, rollout_of(3, part_of(1)))
    assert target.look() == Look(running=True, shares={1: 1.0}, digests={1: digest_of_network(1)})
    assert not (repository / model / "2").exists()


def test_a_file_that_changed_after_it_was_probed_is_not_routed(
    target: TritonTarget, repository: Path, model: str
) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    bring_up(target, rollout_of(2, part_of(2)), until="probe")
    (repository / f"{model}--candidate/2/model.onnx").write_bytes(network(7).SerializeToString())
    with pytest.raises(IntegrityError, match=rf"{model}/2/model\.onnx"):
        target.route(rollout_of(2, part_of(2)))
    assert target.look().shares == {1: 1.0, 2: 0.0}
    assert not (repository / model / "2/model.onnx").exists()
    bring_up(target, rollout_of(2, part_of(2)))
    assert target.look() == Look(running=True, shares={2: 1.0}, digests={2: digest_of_network(2)})


@pytest.mark.parametrize(
    ("engine", "key", "backend"),
    [
        ("onnxruntime-int8", {}, "onnxruntime"),
        ("tensorrt-fp16", ENGINE_OF_A_GPU, "tensorrt"),
        ("torchscript", {}, "pytorch"),
    ],
)
def test_the_configuration_of_each_backend_is_taken_by_the_server(
    target_of: TargetOf, triton: Addresses, engine: str, key: dict[str, Any], backend: str
) -> None:
    target = target_of(tensorrt_version="10.13.3", compute_capability="8.0", instances=2, max_delay_ms=1.0)
    onnx, output = network(1), "y__0"
    onnx.graph.output[0].name = onnx.graph.node[-1].output[0] = output
    data = onnx.SerializeToString()
    part = part_of(1, data=data, engine=engine, key_fields=key, signature=signature_of(output))
    reached = bring_up(target, rollout_of(1, part))
    assert reached is not None
    with InferenceServerClient(triton.grpc) as client:
        config = client.get_model_config(reached.model_name).config
    assert (config.backend, config.instance_group[0].count) == (backend, 2)
    assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    target.stop()


def test_a_server_that_is_told_to_put_nothing_together_gets_whole_shapes(target_of: TargetOf) -> None:
    target = target_of(max_batch=0)
    bring_up(target, rollout_of(1, part_of(1)))
    assert target.look().shares == {1: 1.0}
    target.stop()


def test_requests_are_counted_by_version(target: TritonTarget, model: str, triton: Addresses) -> None:
    reached = bring_up(target, rollout_of(1, part_of(1, share=0.5), canary_of(2, 0.5)))
    assert reached is not None
    before = target.count()
    with WeightedClient(triton.grpc, {model: 1.0}, seed=1) as client:
        for _ in range(30):
            client.infer(ASKED)
    after = target.count()
    assert after[1].requests - before[1].requests == 30
    assert after[1].errors == 0
    assert after[1].latency_sum_ms > before[1].latency_sum_ms
    assert after[2] == before[2]


def test_what_somebody_loads_by_hand_is_seen(
    target: TritonTarget, repository: Path, model: str, triton: Addresses
) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    bring_up(target, rollout_of(2, part_of(2), keep=(1,)))
    config = repository / model / "config.pbtxt"
    config.write_text(config.read_text().replace("versions: 2", "versions: 1"))
    with InferenceServerClient(triton.grpc) as client:
        client.load_model(model)
    assert target.look() == Look(running=True, shares={1: 1.0})
    bring_up(target, rollout_of(2, part_of(2)))
    assert target.look() == Look(running=True, shares={2: 1.0}, digests={2: digest_of_network(2)})


def test_what_somebody_unloads_is_seen_and_comes_back(target: TritonTarget, model: str, triton: Addresses) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    with InferenceServerClient(triton.grpc) as client:
        client.unload_model(model)
    found = target.look()
    assert not found.running
    assert found.words == f"Triton at {triton.grpc} has no model of this endpoint loaded"
    assert target.count() == {}
    bring_up(target, rollout_of(1, part_of(1)))
    assert target.look().running


def test_what_is_stopped_is_gone_or_only_unloaded(target: TritonTarget, model: str, repository: Path) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    files = tree(repository / model)
    target.stop(forget=False)
    assert not target.look().running
    assert tree(repository / model) == files
    target.stop()
    target.stop()
    assert not (repository / model).exists()


def test_an_endpoint_that_got_another_name_there_is_not_stopped_with_its_old_one(
    target: TritonTarget, target_of: TargetOf, model: str, repository: Path
) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    renamed = target_of(model_name=f"{model}-b")
    bring_up(renamed, rollout_of(2, part_of(1)), until="route")
    target.stop()
    assert sorted(path.name for path in repository.iterdir()) == [f"{model}-b"]
    renamed.collect(rollout_of(2, part_of(1)))
    assert renamed.look() == Look(running=True, shares={1: 1.0}, digests={1: digest_of_network(1)})
    renamed.stop()
