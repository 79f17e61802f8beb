"""Runs in the log: begun, taken over from the dead, ended once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

import pytest

from registry import ModelRegistry
from registry.errors import InvalidNameError, NotFoundError, StaleExpectationError

NothingChanges: TypeAlias = Callable[[], AbstractContextManager[None]]


def begin(models: ModelRegistry, run: str = "run-1", **more: str) -> None:
    models.begin_run("digits", run, kind="lifecycle", parameters={"config": "digits.yaml"}, **more)


def test_a_run_can_begin_before_there_is_a_model(models: ModelRegistry) -> None:
    begin(models, process="here:1:2")

    (run,) = models.get_runs("digits", only_open=True)
    assert (run.id, run.holder, run.kind, run.process, run.carriers) == ("run-1", "run-1", "lifecycle", "here:1:2", 1)
    assert run.parameters == {"config": "digits.yaml"}
    assert models.list_models() == []
    assert models.register("digits", b"weights").version == "v1"


def test_beginning_again_changes_nothing_and_another_process_is_noted(
    models: ModelRegistry, nothing_changes: NothingChanges
) -> None:
    begin(models, process="here:1:2")
    with nothing_changes():
        begin(models, process="here:1:2")
    begin(models, process="here:3:4")

    (run,) = models.get_runs("digits")
    assert (run.process, run.carriers) == ("here:3:4", 1)
    assert run.carried_since > run.started_at


def test_of_two_that_take_over_a_dead_run_one_has_it(models: ModelRegistry, nothing_changes: NothingChanges) -> None:
    begin(models)
    begin(models, holder="run-2", taken_from="run-1")

    with (
        nothing_changes(),
        pytest.raises(StaleExpectationError, match="taken over from run-1, and is held by run-2 now"),
    ):
        begin(models, holder="run-3", taken_from="run-1")

    (run,) = models.get_runs("digits")
    assert (run.id, run.holder, run.carriers) == ("run-1", "run-2", 2)


def test_a_run_ends_once_and_by_who_holds_it(models: ModelRegistry, nothing_changes: NothingChanges) -> None:
    begin(models)
    begin(models, holder="run-2", taken_from="run-1")
    models.register("digits", b"weights")
    with nothing_changes(), pytest.raises(StaleExpectationError, match="held by run-2 now, and not by run-1"):
        models.end_run("digits", "run-1", "failed", holder="run-1")

    models.end_run("digits", "run-1", "rejected", holder="run-2", version="v1", words="ann said no")
    with nothing_changes():
        models.end_run("digits", "run-1", "failed", holder="run-2")
        begin(models, holder="run-2", process="elsewhere:1:2")
        with pytest.raises(StaleExpectationError, match="is rejected now"):
            begin(models, holder="run-3", taken_from="run-2")

    (run,) = models.get_runs("digits")
    assert (run.ending, run.version, run.words) == ("rejected", "1", "ann said no")
    assert run.ended_at is not None
    assert models.get_runs("digits", only_open=True) == []


def test_what_cannot_be_is_refused(models: ModelRegistry, nothing_changes: NothingChanges) -> None:
    begin(models)
    with nothing_changes():
        with pytest.raises(NotFoundError, match=r"no run 'run-9'. Runs that are open: run-1"):
            models.end_run("digits", "run-9", "failed")
        with pytest.raises(InvalidNameError):
            models.begin_run("No Name", "run-1", kind="lifecycle")


def test_the_last_hundred_that_ended_are_remembered_and_all_that_are_open(models: ModelRegistry) -> None:
    begin(models, "first")
    for number in range(103):
        begin(models, f"run-{number}")
        models.end_run("digits", f"run-{number}", "not_better")

    runs = [run.id for run in models.get_runs("digits")]
    assert (len(runs), runs[0], runs[1], runs[-1]) == (101, "first", "run-3", "run-102")
    assert [run.id for run in ModelRegistry(store=models.store).get_runs("digits")] == runs


def test_what_a_run_has_done_is_found_by_its_key(models: ModelRegistry) -> None:
    assert models.find_done("digits", "reserved", "run-1:register") is None
    registered = models.register("digits", b"weights", idempotency_key="run-1:register")
    models.promote("digits", 1, "staging", idempotency_key="run-1:staging")

    assert models.find_done("digits", "reserved", "run-1:register") == models.get_version("digits", 1)
    assert models.find_done("digits", "moved", "run-1:staging") == models.get_version("digits", 1)
    assert models.find_done("digits", "moved", "run-1:register") is None
    assert registered.version == "v1"
