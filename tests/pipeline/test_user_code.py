"""Functions of the user's own are found, called with what they take, and held to what they must return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.errors import InvalidInputError, InvalidPipelineError
from tasks.entry_points import call, check_arguments, resolve
from tasks.pipeline import EntryPoint
from tasks.user_code import evaluate, load_splits, train


def part(function: str, **parameters: Any) -> EntryPoint:
    return EntryPoint(entry_point=f"own_parts:{function}", parameters=parameters)


def test_a_trainer_in_the_working_folder_gets_the_splits_its_parameters_and_the_progress() -> None:
    seen: list[tuple[int, int, str]] = []
    trained = train(
        part("train", epochs=2, rate=1, sizes=[4, 5]),
        load_splits(part("data")),
        progress=lambda *told: seen.append(told),
    )
    assert trained.name == "digits"
    assert trained.parameters == {"rate": 1, "sizes": (4, 5)}
    assert seen == [(1, 2, "going on"), (2, 2, "going on")]


def test_a_trainer_that_does_not_ask_for_progress_is_not_given_any() -> None:
    splits = load_splits(part("data"))
    assert train(part("train_in_silence", epochs=4), splits, progress=print).data == b"weights"
    assert train(part("train_anything", depth=4), splits, progress=print).parameters == {"depth": 4}


def test_parameters_come_as_the_function_annotates_them() -> None:
    assert call("own_parts:read", {"path": "weights/first"}) == Path("weights/first")
    assert load_splits(part("data", rows=9)).train.inputs.shape == (9, 3)


def test_an_evaluation_gives_plain_numbers() -> None:
    assert evaluate(part("measure"), np.zeros((2, 2)), np.zeros(2)) == {"accuracy": 0.5, "f1_score": 0.25}


def test_what_is_returned_must_be_what_is_asked_for() -> None:
    splits = load_splits(part("data"))
    with pytest.raises(InvalidPipelineError, match=r"own_parts:wrong gave a list; it must return tasks\.data\.Splits"):
        load_splits(part("wrong"))
    with pytest.raises(InvalidPipelineError, match=r"gave a Splits; it must return tasks\.Model"):
        train(EntryPoint(entry_point="own_more:train"), splits)
    with pytest.raises(InvalidPipelineError, match=r"gave a float; it must return a dict of numbers"):
        evaluate(part("wrong_measure"), np.zeros((2, 2)), np.zeros(2))


@pytest.fixture(autouse=True)
def own_more(tmp_path: Path) -> None:
    (tmp_path / "own_more.py").write_text("def train(splits):\n    return splits\n", encoding="utf-8")


@pytest.mark.parametrize("entry_point", ["", "own_parts", ":train", "own_parts:", "own_parts.train"])
def test_what_is_no_entry_point_is_refused_with_an_example(entry_point: str) -> None:
    with pytest.raises(InvalidPipelineError, match=r"write module:function, for example tasks\.trainers\.digits:train"):
        resolve(entry_point)


def test_a_missing_module_of_a_package_is_told_with_its_siblings() -> None:
    with pytest.raises(
        InvalidPipelineError, match=r"no module tasks\.trainers\.digit\. Did you mean tasks\.trainers\.digits"
    ):
        resolve("tasks.trainers.digit:train")
    with pytest.raises(InvalidPipelineError, match=r"no module own_parts\.inner\."):
        resolve("own_parts.inner:train")


def test_a_function_that_hides_its_parameters_is_refused() -> None:
    with pytest.raises(InvalidPipelineError, match="does not tell its parameters"):
        resolve("builtins:dict")


def test_every_wrong_argument_is_named_at_once() -> None:
    function = resolve("own_parts:train")
    with pytest.raises(InvalidPipelineError) as refusal:
        check_arguments(function, {"rat": 1, "sizes": [1, "x"], "splits": 3}, "trainer.parameters", given=1)
    told = str(refusal.value).splitlines()
    assert [line.partition(": ")[0] for line in told] == [
        "trainer.parameters.rat",
        "trainer.parameters.sizes.1",
        "trainer.parameters.splits",
        "trainer.parameters.epochs",
    ]


def test_a_number_for_a_float_and_nothing_for_an_optional_are_taken() -> None:
    function = resolve("own_parts:train")
    given = {"epochs": 1, "rate": 2, "limit": None}
    assert check_arguments(function, given, "trainer", given=1) == given


@pytest.mark.parametrize("wrong", [{"epochs": True}, {"epochs": 1.5}, {"epochs": 1, "rate": "0.1"}, {"epochs": None}])
def test_other_types_are_not_made_to_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidPipelineError, match="must be a valid"):
        check_arguments(resolve("own_parts:train"), wrong, "trainer", given=1)


def test_a_metric_that_is_no_number_is_refused(own_parts: Path) -> None:
    own_parts.with_name("own_words.py").write_text(
        "def measure(a, b):\n    return {'accuracy': 'good'}\n", encoding="utf-8"
    )
    with pytest.raises(InvalidInputError, match="the metric 'accuracy' is 'good'"):
        evaluate(EntryPoint(entry_point="own_words:measure"), np.zeros((2, 2)), np.zeros(2))
