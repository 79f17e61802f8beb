"""What a real Triton is not asked for: what does not fit, what is somebody else's, and who does not answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from triton_parts import (
    ENGINE_OF_A_GPU,
    REGISTRY,
    bring_up,
    canary_of,
    digest_of_network,
    part_of,
    rollout_of,
    tree,
)
from triton_server import Addresses

from registry.endpoints.settings import TritonSettings
from registry.endpoints.target import Look
from registry.endpoints.triton.target import TritonTarget
from registry.errors import EndpointError, InvalidNameError, RefusedError

pytestmark = pytest.mark.heavy
TargetOf = Callable[..., TritonTarget]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            (part_of(2), part_of(3, role="shadow", share=0.0)),
            "digits:v3 cannot be a shadow at .*: Triton copies no requests",
        ),
        ((part_of(2, share=0.5), canary_of(2, 0.5, variant="k")), "digits:v2 cannot be its own canary"),
        ((part_of(2, engine="openvino"),), "cannot be served at .* as openvino: Triton opens onnxruntime"),
        ((part_of(2, engine="tensorrt", key_fields=ENGINE_OF_A_GPU),), "set tensorrt_version to that of"),
        ((part_of(2, signature=None),), "its engine onnxruntime are not known"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_is_touched(
    target: TritonTarget, repository: Path, parts: Any, words: str
) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    before, look = tree(repository), target.look()
    with pytest.raises(EndpointError, match=words):
        target.check(rollout_of(2, *parts))
    assert tree(repository) == before
    assert target.look() == look


@pytest.mark.parametrize("suffix", ["", "--candidate", "--canary"])
def test_a_model_of_another_endpoint_is_refused_and_not_touched(
    target: TritonTarget, target_of: TargetOf, repository: Path, model: str, suffix: str
) -> None:
    theirs = target_of(endpoint="bakery", model_name=None)
    bring_up(theirs, rollout_of(1, part_of(1, model=model + suffix)))
    before, look = tree(repository), theirs.look()
    with pytest.raises(RefusedError, match=f"cannot use the model {model}{suffix} in .* endpoint bakery-{model} of"):
        target.check(rollout_of(2, part_of(2)))
    target.stop()
    assert tree(repository) == before
    assert theirs.look() == look
    assert not target.look().running
    theirs.stop()


def test_two_endpoints_on_one_server_do_not_meet(target: TritonTarget, target_of: TargetOf, model: str) -> None:
    other = target_of(endpoint="bakery", model_name=f"{model}-b")
    bring_up(target, rollout_of(1, part_of(1)))
    bring_up(other, rollout_of(1, part_of(2)))
    target.stop()
    assert other.look() == Look(running=True, shares={2: 1.0}, digests={2: digest_of_network(2)})
    other.stop()


def test_a_server_that_reads_another_repository_is_told(triton: Addresses, tmp_path: Path, model: str) -> None:
    settings = TritonSettings(repository=str(tmp_path), grpc=triton.grpc, model_name=model)
    target = TritonTarget(settings, endpoint="shop", registry=REGISTRY)
    with pytest.raises(EndpointError, match=rf"The repository that the server reads must be file://{tmp_path}\."):
        bring_up(target, rollout_of(1, part_of(1)))


def test_a_server_that_does_not_answer_is_never_taken_for_one_that_serves_nothing(tmp_path: Path) -> None:
    settings = TritonSettings(repository=str(tmp_path), grpc="127.0.0.1:1")
    target = TritonTarget(settings, endpoint="shop", registry=REGISTRY)
    with pytest.raises(EndpointError, match=r"Triton at 127\.0\.0\.1:1 was to list its models and gave no answer"):
        target.check(rollout_of(1, part_of(1)))
    assert list(tmp_path.iterdir()) == []
    found = target.look()
    assert not found.running
    assert "gave no answer" in found.words
    with pytest.raises(EndpointError, match="gave no answer"):
        target.count()


def test_a_name_that_triton_could_read_as_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidNameError):
        TritonTarget(
            TritonSettings(repository=str(tmp_path), model_name="../digits"), endpoint="shop", registry=REGISTRY
        )
