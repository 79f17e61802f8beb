"""Canaries on a real Triton: who gets them, what it costs to take one back, and how one is promoted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from small_network import answers, samples
from triton_parts import (
    ENGINE_OF_A_GPU,
    bring_up,
    canary_of,
    digest_of_network,
    part_of,
    rollout_of,
)
from triton_server import Addresses

from registry.endpoints.target import Look
from registry.endpoints.triton.target import TritonTarget
from registry.endpoints.triton.weighted import WeightedClient

pytestmark = pytest.mark.heavy
TargetOf = Callable[..., TritonTarget]
ASKED = {"x": samples(3)}


def test_a_canary_gets_its_share_of_those_who_know_and_nobody_elses(
    target: TritonTarget, model: str, triton: Addresses
) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    reached = bring_up(target, rollout_of(2, part_of(1, share=0.75), canary_of(2, 0.25)))
    assert reached is not None
    assert target.look() == Look(
        running=True, shares={1: 0.75, 2: 0.25}, digests={1: digest_of_network(1), 2: digest_of_network(2)}
    )
    with WeightedClient.of(reached, seed=3) as client:
        found = [client.infer(ASKED) for _ in range(400)]
    for one in found:
        np.testing.assert_allclose(one.outputs["y"], answers(ASKED["x"], one.version), atol=1e-3)
    counts = Counter(one.version for one in found)
    assert counts.total() == 400
    assert 70 <= counts[2] <= 130
    with WeightedClient(triton.grpc, {model: 1.0}, seed=1) as client:
        assert {client.infer(ASKED).version for _ in range(20)} == {1}


def test_a_canary_that_is_taken_back_costs_a_client_that_knows_of_it_nothing(target: TritonTarget) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    reached = bring_up(target, rollout_of(2, part_of(1, share=0.5), canary_of(2, 0.5)))
    assert reached is not None
    bring_up(target, rollout_of(3, part_of(1, share=0.5), canary_of(3, 0.5)))
    with WeightedClient.of(reached, seed=3) as client:
        assert {client.infer(ASKED).version for _ in range(20)} == {1}
        bring_up(target, rollout_of(4, part_of(1)))
        assert {client.infer(ASKED).version for _ in range(20)} == {1}
    assert target.look().shares == {1: 1.0}


def test_a_canary_is_promoted_without_being_fetched_or_tried_again(target: TritonTarget) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    bring_up(target, rollout_of(2, part_of(1, share=0.9), canary_of(2, 0.1)))
    before = target.count()[2].requests
    promotion = rollout_of(3, part_of(2))
    bring_up(target, promotion, until="load")
    assert target.look().shares == {1: 0.9, 2: 0.1}
    assert target.count()[2].requests == before
    bring_up(target, promotion)
    assert target.look() == Look(running=True, shares={2: 1.0}, digests={2: digest_of_network(2)})


def test_a_canary_may_need_another_backend_than_what_serves(target_of: TargetOf, target: TritonTarget) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    of_a_gpu = target_of(tensorrt_version="10.13.3", compute_capability="8.0")
    canary = canary_of(2, 0.5, engine="tensorrt-fp16", key_fields=ENGINE_OF_A_GPU)
    bring_up(of_a_gpu, rollout_of(2, part_of(1, share=0.5), canary))
    assert of_a_gpu.look().shares == {1: 0.5, 2: 0.5}
