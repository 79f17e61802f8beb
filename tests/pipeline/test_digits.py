"""The built-in trainer on the real digits, and how classifiers are measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from registry.errors import InvalidInputError
from registry.frameworks import ModelFramework, load, read_samples, save
from tasks.data import Split, Splits
from tasks.evaluation import classification
from tasks.model import Model
from tasks.trainers.digits import load_splits, train


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_splits()


@pytest.fixture(scope="module")
def trained(splits: Splits) -> Model:
    return train(splits)


def test_the_digits_are_1797_real_images_in_three_splits_of_equal_shares(splits: Splits) -> None:
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part) for part in parts] == [1078, 359, 360]
    for part in parts:
        assert part.inputs.dtype == np.float32
        assert part.inputs.shape[1:] == (1, 8, 8)
        assert (part.inputs.min(), part.inputs.max()) == (0.0, 1.0)
        shares = np.bincount(part.labels, minlength=10) / len(part)
        assert np.abs(shares - 0.1).max() < 0.005


def test_no_image_is_in_two_splits(splits: Splits) -> None:
    from sklearn.datasets import load_digits

    rows = np.concatenate([part.inputs for part in (splits.train, splits.validation, splits.test)]).reshape(-1, 64)
    wanted = load_digits().data.astype(np.float32) / 16
    assert np.array_equal(rows[np.lexsort(rows.T)], wanted[np.lexsort(wanted.T)])


def test_the_same_seed_gives_the_same_splits_and_another_others(splits: Splits) -> None:
    assert load_splits(seed=7).digest == splits.digest
    assert load_splits(seed=8).digest != splits.digest


def test_a_digest_tells_values_shapes_dtypes_and_labels_apart() -> None:
    inputs, labels = np.arange(4.0, dtype=np.float32).reshape(2, 2), np.array([0, 1])
    one = Split(inputs, labels)
    others = [
        Split(inputs + 1, labels), Split(inputs.reshape(2, 1, 2), labels), Split(inputs.view(np.int32), labels),
        Split(inputs, labels[::-1]),
    ]  # fmt: skip
    assert len({one.digest, *(other.digest for other in others)}) == 5
    assert Split(np.asfortranarray(inputs), labels.copy()).digest == one.digest


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (np.zeros((3, 2)), np.zeros(2)), (np.zeros((0, 2)), np.zeros(0)), (np.zeros((2, 2)), np.zeros((2, 1))),
        ([[1.0]], np.zeros(1)),
    ],
)  # fmt: skip
def test_a_split_of_other_shapes_is_refused(inputs: Any, labels: Any) -> None:
    with pytest.raises(InvalidInputError, match="a split"):
        Split(inputs, labels)


def test_the_network_reaches_97_percent_on_the_test_images(trained: Model, splits: Splits) -> None:
    assert trained.metrics is not None
    assert trained.metrics["accuracy"] >= 0.97
    with torch.inference_mode():
        predicted = trained.data(torch.from_numpy(splits.test.inputs)).argmax(1).numpy()
    assert (predicted == splits.test.labels).mean() == pytest.approx(trained.metrics["accuracy"])
    assert {"f1_score", "precision", "recall", "validation_accuracy"} <= set(trained.metrics)


def test_what_is_trained_says_what_it_was_trained_on_and_how(trained: Model, splits: Splits) -> None:
    assert trained.register
    assert trained.name == "digits"
    assert trained.lineage == {"data": splits.digest, "test_data": splits.test.digest}
    assert trained.parameters is not None
    assert trained.parameters["seed"] == 7
    assert trained.samples is not None
    assert np.array_equal(trained.samples, splits.validation.inputs[:64])
    assert not trained.data.training


def test_the_trained_network_is_saved_and_gives_its_golden_outputs_again(trained: Model, tmp_path: Path) -> None:
    saved = save(trained.data, tmp_path, samples=trained.samples)
    assert saved.info == {"class": "tasks.trainers.digits:DigitsCnn", "arguments": {"width": 32}}
    loaded = load(tmp_path, framework=ModelFramework.PYTORCH, info=saved.info)
    kept = read_samples(tmp_path)
    assert kept is not None
    with torch.inference_mode():
        assert np.array_equal(loaded(torch.from_numpy(kept[0])).numpy(), kept[1])


def test_the_same_seed_gives_the_same_bytes_whatever_was_drawn_before(splits: Splits, tmp_path: Path) -> None:
    written = []
    for index, seed in enumerate((3, 3, 4)):
        torch.manual_seed(index)
        folder = tmp_path / str(index)
        folder.mkdir()
        save(train(splits, epochs=2, width=4, seed=seed).data, folder)
        written.append((folder / "model.pt").read_bytes())
    assert written[0] == written[1]
    assert written[0] != written[2]


def test_training_leaves_torch_as_it_was(splits: Splits) -> None:
    before = torch.random.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    train(splits, epochs=1, width=2)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[1:]


def test_progress_is_told_after_every_epoch(splits: Splits) -> None:
    told: list[tuple[int, int, str]] = []
    train(splits, epochs=2, width=2, progress=lambda *words: told.append(words))
    assert [(done, total) for done, total, _ in told] == [(1, 2), (2, 2)]
    assert told[1][2].startswith("epoch 2: validation accuracy 0.")


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": 0.0}, {"batch_size": -1}, {"width": 0}])
def test_a_setting_that_trains_nothing_is_refused(splits: Splits, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=f"{next(iter(wrong))}=.*must be above 0"):
        train(splits, **wrong)


def test_splits_are_frozen(splits: Splits) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        splits.train = splits.test  # type: ignore[misc]


def test_classification_gives_macro_averages() -> None:
    outputs = np.array([[3.0, 1, 0], [2, 1, 0], [0, 5, 0], [9, 1, 1]])
    found = classification(outputs, np.array([0, 0, 1, 2]))
    assert found == {
        "accuracy": 0.75,
        "precision": pytest.approx((2 / 3 + 1 + 0) / 3),
        "recall": pytest.approx(2 / 3),
        "f1_score": pytest.approx((0.8 + 1 + 0) / 3),
    }
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        (np.zeros(3), np.zeros(3, np.int64), r"shape \(n, classes\)"),
        (np.zeros((3, 2)), np.zeros(2, np.int64), r"found \(3, 2\) and \(2,\)"),
        (np.zeros((3, 2)), np.zeros(3), "integer labels"),
        (np.zeros((0, 2)), np.zeros(0, np.int64), r"shape \(n, classes\)"),
        (np.full((1, 2), np.nan), np.zeros(1, np.int64), "NaN or infinities"),
        (np.zeros((1, 2)), np.array([2]), "from 2 to 2, and the model tells 2 classes apart"),
        (np.zeros((1, 2)), np.array([-1]), "from -1 to -1"),
    ],
)
def test_outputs_and_labels_that_do_not_fit_are_refused(outputs: Any, labels: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        classification(outputs, labels)
