"""The harnesses' own test: four bugs that are known, each put between a registry and a good store, and each found."""

from __future__ import annotations

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from planted_bugs import CheckThenWrite, OverwritingCreate, Passing, ReferenceBeforeBlob, SuccessAssumed
from table_machine import RegistryBesideATable

from registry import ModelStore
from registry.testing.contest import Contest, play
from registry.testing.sweep import Ground, sweep
from registry.testing.verbs import VERBS

SEEDS = 60


def contests(bug: type[Passing]) -> list[Contest]:
    return [play(seed, bug) for seed in range(SEEDS)]


def cases_found(bug: type[Passing], verb: str) -> set[str]:
    """Return the cases of a sweep in which something was wrong."""
    (found,) = [one for one in VERBS if one.name == verb]
    return {violation.partition(": ")[0] for violation in sweep(found, Ground(dress=bug)).violations}


def test_a_store_without_a_bug_is_not_accused() -> None:
    assert cases_found(Passing, "promote to production") == set()
    assert [complaint for seed in range(10) for complaint in play(seed, Passing).complaints] == []


@pytest.mark.heavy
@pytest.mark.parametrize(("bug", "share"), [(OverwritingCreate, 0.4), (CheckThenWrite, 0.3), (SuccessAssumed, 0.02)])
def test_the_scheduler_sees_answers_that_no_order_explains(bug: type[Passing], share: float) -> None:
    assert sum(not contest.is_explained for contest in contests(bug)) >= share * SEEDS


@pytest.mark.heavy
def test_a_reference_before_its_blob_is_only_seen_in_the_bytes_that_clients_leave_when_they_die() -> None:
    played = contests(ReferenceBeforeBlob)
    assert all(contest.is_explained for contest in played)
    assert any("artifact.bin is missing" in problem for contest in played for problem in contest.problems)


@pytest.mark.parametrize(
    ("bug", "verb"),
    [
        (OverwritingCreate, "promote to production"),
        (CheckThenWrite, "promote to production"),
        (SuccessAssumed, "promote to production"),
        pytest.param(ReferenceBeforeBlob, "register bytes", marks=pytest.mark.heavy),
    ],
)
def test_a_fault_at_every_call_finds_it(bug: type[Passing], verb: str) -> None:
    assert len(cases_found(bug, verb)) >= 3


def test_the_table_finds_a_success_that_was_assumed() -> None:
    @seed(6)
    class Planted(RegistryBesideATable):
        def dress(self, store: ModelStore) -> ModelStore:
            return SuccessAssumed(store)

    seen = settings(max_examples=300, stateful_step_count=20, deadline=None, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Planted, settings=seen)
