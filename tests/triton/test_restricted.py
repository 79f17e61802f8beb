"""A real Triton whose model control is behind a key, and the page that says how to run one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from triton_parts import REGISTRY, bring_up, digest_of_network, part_of, rollout_of, tree, users_of
from triton_server import help_text, running_triton

from registry.endpoints.settings import TritonSettings
from registry.endpoints.target import Look
from registry.endpoints.triton.control import KEY_VARIABLE, key_headers
from registry.endpoints.triton.target import TritonTarget
from registry.errors import EndpointError, InvalidInputError

PAGE = Path(__file__).parents[2] / "docs/triton.md"


@pytest.mark.heavy
def test_model_control_with_a_key_is_the_deployers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_triton(tmp_path, arguments=["--grpc-restricted-protocol=model-repository:deployer=secret"]) as triton:
        target = TritonTarget(
            TritonSettings(repository=str(tmp_path), grpc=triton.grpc), endpoint="shop", registry=REGISTRY
        )
        with pytest.raises(EndpointError, match=r"refused: .*restricted.* the server's key into MODELWAY_TRITON_KEY"):
            target.check(rollout_of(1, part_of(1)))
        assert tree(tmp_path) == {}
        monkeypatch.setenv(KEY_VARIABLE, "deployer=secret")
        bring_up(target, rollout_of(1, part_of(1)))
        assert target.look() == Look(running=True, shares={1: 1.0}, digests={1: digest_of_network(1)})
        with users_of(triton.grpc, "digits", seeds=(1,), threads=1) as users:
            users.wait_for(5)
        assert users.errors == []


@pytest.mark.parametrize("given", ["secret", "=secret", "deployer="])
def test_a_key_without_name_or_value_is_refused_and_not_shown(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, given)
    with pytest.raises(InvalidInputError, match=r"MODELWAY_TRITON_KEY is no key: write NAME=VALUE") as refused:
        key_headers()
    assert "secret" not in str(refused.value)


@pytest.mark.heavy
def test_the_page_names_only_flags_that_the_server_has() -> None:
    named = set(re.findall(r"`?(--[a-z-]+)=", PAGE.read_text())) - {"--set"}
    known = set(re.findall(r"^  (--[a-z-]+)", help_text(), flags=re.MULTILINE))
    assert len(named) >= 5
    assert named <= known
