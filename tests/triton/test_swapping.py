"""Swapping and going back on a real Triton while people use it: no request is lost, whenever the deployer dies."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from triton_parts import STEPS, bring_up, canary_of, digest_of_network, part_of, rollout_of, users_of
from triton_server import Addresses, running_triton

from registry.endpoints.target import Look, Part
from registry.endpoints.triton import repository as repository_module
from registry.endpoints.triton.target import TritonTarget
from registry.store.contract import ModelStore
from registry.store.open import open_store
from registry.testing.faults import Crashed, FaultStore
from registry.testing.plans import WRITES, Call, Fault, Kind

pytestmark = pytest.mark.heavy
TargetOf = Callable[..., TritonTarget]


def test_nobody_notices_a_swap_nor_the_way_back(target: TritonTarget, model: str, triton: Addresses) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    with users_of(triton.grpc, model, seeds=(1, 2, 8)) as users:
        users.wait_for(1000)
        bring_up(target, rollout_of(2, part_of(2), keep=(1,)))
        users.wait_for(1000)
        bring_up(target, rollout_of(3, part_of(1), keep=(2,)))
        users.wait_for(1000)
        # Another engine of the same version, under the same number.
        bring_up(target, rollout_of(4, part_of(1, seed=8, variant="k8")))
        users.wait_for(1000)
        bring_up(target, rollout_of(5, part_of(1, seed=8, variant="k8", share=0.5), canary_of(2, 0.5)))
        bring_up(target, rollout_of(6, part_of(2)))
        users.wait_for(1000)
    assert (users.errors, users.wrong) == ([], 0)
    assert users.requests > 5000
    assert min(users.answered[seed] for seed in (1, 2, 8)) > 500
    assert target.look() == Look(running=True, shares={2: 1.0}, digests={2: digest_of_network(2)})


@pytest.mark.parametrize("step", STEPS)
def test_a_deployer_that_died_after_any_call_is_followed_by_one_that_gets_there(
    target_of: TargetOf, target: TritonTarget, model: str, triton: Addresses, step: str
) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    with users_of(triton.grpc, model, seeds=(1, 2), threads=2) as users:
        bring_up(target_of(), rollout_of(2, part_of(2)), until=step)
        bring_up(target_of(), rollout_of(2, part_of(2)))
        users.wait_for(50)
    assert (users.errors, users.wrong) == ([], 0)
    assert target.look() == Look(running=True, shares={2: 1.0}, digests={2: digest_of_network(2)})


def test_a_deployer_that_dies_after_any_write_is_followed_by_one_that_gets_there(
    target_of: TargetOf, target: TritonTarget, model: str, triton: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    generation, died = 1, True
    with users_of(triton.grpc, model, seeds=(1, 2), threads=2) as users:
        for writes in itertools.count(1):
            number, generation = 2 - writes % 2, generation + 1
            with monkeypatch.context() as patched:
                patched.setattr(repository_module, "open_store", _dying_after(writes))
                died = _dies(target_of(), rollout_of(generation, part_of(number)))
            bring_up(target_of(), rollout_of(generation, part_of(number)))
            assert target.look() == Look(
                running=True, shares={number: 1.0}, digests={number: digest_of_network(number)}
            )
            if not died:
                break
        users.wait_for(50)
    assert (users.errors, users.wrong) == ([], 0)
    assert writes > 10


def _dying_after(writes: int) -> Callable[..., ModelStore]:
    def open_dying(location: str, **more: Any) -> ModelStore:
        counted = itertools.count(1)

        def plan(call: Call) -> Fault | None:
            return Fault(Kind.CRASH_AFTER) if call.operation in WRITES and next(counted) == writes else None

        return FaultStore(open_store(location, **more), plan)

    return open_dying


def _dies(target: TritonTarget, rollout: Any) -> bool:
    try:
        bring_up(target, rollout)
    except Crashed:
        return True
    return False


@pytest.mark.parametrize("canary", [(), (canary_of(3, 0.25),)])
def test_several_deployers_of_one_generation_all_get_there(
    target_of: TargetOf, target: TritonTarget, model: str, triton: Addresses, canary: tuple[Part, ...]
) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    failures: list[BaseException] = []
    wanted = rollout_of(2, part_of(2, share=0.75 if canary else 1.0), *canary)

    def deploy(late_s: float) -> None:
        time.sleep(late_s)
        try:
            bring_up(target_of(), wanted)
        except BaseException as error:  # noqa: BLE001 - told below, out of the thread
            failures.append(error)

    with users_of(triton.grpc, model, seeds=(1, 2), threads=2) as users:
        deployers = [threading.Thread(target=deploy, args=[late_s]) for late_s in (0.0, 0.1, 1.0, 2.0)]
        for one in deployers:
            one.start()
        for one in deployers:
            one.join()
        users.wait_for(50)
    assert failures == []
    assert (users.errors, users.wrong) == ([], 0)
    shares = {2: 0.75, 3: 0.25} if canary else {2: 1.0}
    assert target.look().shares == shares


def test_folders_that_come_and_go_do_not_disturb_a_look(target: TritonTarget, repository: Path) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    end = threading.Event()

    def come_and_go() -> None:
        folders = [repository / f"passing-{number}" for number in range(50)]
        while not end.is_set():
            for folder in folders:
                folder.mkdir()
            for folder in folders:
                folder.rmdir()
            time.sleep(0.005)

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        found = {target.look().words for _ in range(300)}
    finally:
        end.set()
        other.join()
    assert found == {""}


def test_a_server_that_starts_again_serves_what_was_routed(target: TritonTarget, model: str, repository: Path) -> None:
    bring_up(target, rollout_of(1, part_of(1)))
    bring_up(target, rollout_of(2, part_of(2), keep=(1,)))
    with running_triton(repository, arguments=[f"--load-model={model}"]) as second:
        with users_of(second.grpc, model, seeds=(1, 2), threads=1) as users:
            users.wait_for(20)
        assert users.errors == []
        assert set(users.answered) == {2}
