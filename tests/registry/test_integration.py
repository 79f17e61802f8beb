"""Training and registering in one call: what is recorded, and that nothing is trained or promoted in vain."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from registry import (
    Guard,
    InMemoryRegistry,
    MetricRequirement,
    ModelMetrics,
    ModelRegistry,
    ModelStage,
    PromotionPolicy,
    TrainedModel,
    default_registry,
    register_trained_model,
    train_and_register_model,
)
from registry.errors import (
    ApprovalRequired,
    IllegalTransitionError,
    InvalidInputError,
    InvalidNameError,
    InvalidVersionError,
    ModelNotFoundError,
    PolicyFailed,
    VersionExistsError,
)


class Diary(list[str]):
    """What was trained, in order."""


DIARY = Diary()


@pytest.fixture(autouse=True)
def trained() -> Diary:
    """Return the diary, empty."""
    DIARY.clear()
    return DIARY


@dataclass
class Recommender:
    """A config as people write them: hyperparameters, and a method that trains."""

    epochs: int = 3
    layers: tuple[int, ...] = (8, 4)
    cache: Path = Path("cache")
    token: str = field(default="secret", repr=False)
    _scratch: str = "mine"
    loss: Callable[[], None] | None = field(default=lambda: None)

    def train(self, tfrecord_paths: list[str]) -> bytes:
        DIARY.append(f"{self.epochs} epochs on {tfrecord_paths}")
        return b"weights"


@pytest.fixture
def models() -> ModelRegistry:
    return InMemoryRegistry()


def train(models: ModelRegistry, **given: Any) -> Any:
    """Train and register ``recommender``, with what is given put over the usual."""
    usual: dict[str, Any] = {"model_name": "recommender", "config": Recommender(), "tfrecord_paths": ["a.tfrecord"]}
    return train_and_register_model(registry=models, **usual | given)


def test_a_config_trains_and_the_version_says_how(models: ModelRegistry, trained: Diary) -> None:
    model, metadata = train(
        models, description="of glasses", tags=["shop"], metrics={"accuracy": 0.9}, promote_to_staging=True
    )
    assert model == b"weights"
    assert trained == ["3 epochs on ['a.tfrecord']"]
    assert models.get_version("recommender", 1) == metadata
    assert (metadata.full_name, metadata.stage) == ("recommender:v1", ModelStage.STAGING)
    assert metadata.parameters == {"epochs": 3, "layers": [8, 4], "cache": "cache"}  # neither secrets nor functions
    assert metadata.described.lineage == {
        "trainer": f"{__name__}:Recommender.train",
        "inputs": {"tfrecord_paths": ["a.tfrecord"]},
    }
    assert (metadata.description, dict(metadata.tags), dict(metadata.metrics)) == (
        "of glasses", {"shop": ""}, {"accuracy": 0.9},
    )  # fmt: skip
    assert models.load_artifact("recommender", 1) == b"weights"


def test_without_being_asked_nothing_is_promoted(models: ModelRegistry) -> None:
    assert train(models)[1].stage is ModelStage.DEVELOPMENT


def test_a_function_trains_with_a_config_of_any_kind(models: ModelRegistry) -> None:
    def fit(config: Mapping[str, int], *, rows: int = 2) -> tuple[bytes, ModelMetrics]:
        return b"w" * config["width"] * rows, ModelMetrics(accuracy=0.5, custom={"loss": 0.7})

    model, metadata = train_and_register_model(
        model_name="wide", config={"width": 3}, trainer=fit, metrics={"accuracy": 0.6}, rows=4, registry=models
    )
    assert model == b"w" * 12
    assert dict(metadata.metrics) == {"accuracy": 0.6, "loss": 0.7}
    assert metadata.parameters == {"width": 3}
    assert metadata.described.lineage["inputs"] == {"rows": 4}


def test_a_function_is_found_by_its_name(models: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = ModuleType("shop")
    exec("def fit(epochs): return b'x' * epochs", shop.__dict__)  # noqa: S102 - a module as a user would have it on disk
    monkeypatch.setitem(sys.modules, "shop", shop)
    model, metadata = train_and_register_model(model_name="found", trainer="shop:fit", epochs=2, registry=models)
    assert (model, metadata.described.lineage["trainer"]) == (b"xx", "shop:fit")


def test_a_trainer_may_say_more_of_what_it_made(models: ModelRegistry) -> None:
    module, samples = torch.nn.Flatten(), np.ones((3, 2, 2), dtype=np.float32)

    class Config:
        def __init__(self) -> None:
            self.rate = 0.1

        def __call__(self) -> TrainedModel:
            return TrainedModel(
                model=module, samples=samples, parameters={"stopped_at": 7}, lineage={"revision": "abc", "inputs": 1}
            )

    model, metadata = train_and_register_model(model_name="flat", config=Config(), registry=models)
    assert model is module
    assert metadata.parameters == {"rate": 0.1, "stopped_at": 7}
    assert metadata.described.lineage["revision"] == "abc"
    assert metadata.described.lineage["inputs"] == 1
    kept = models.load_samples("flat", 1)
    assert kept is not None
    assert kept[1].shape == (3, 4)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"model_name": "Not A Name"}, InvalidNameError, "'not-a-name' would do"),
        ({"model_name": "old_model"}, InvalidNameError, "would be mistaken for 'old-model'"),
        ({"model_name": "old-model", "version": "v2"}, VersionExistsError, "old-model:v2 is registered already"),
        ({"model_name": "old-model", "version": "1.0.0"}, InvalidVersionError, "old-model has automatic versions"),
        ({"model_name": "old-model", "bump": "minor"}, InvalidInputError, "bump is for semantic versions"),
        ({"bump": "tiny"}, InvalidInputError, "bump is one of"),
        ({"tags": "shop"}, InvalidInputError, "tags are a dict or a list"),
        ({"framework": "caffe"}, InvalidInputError, "'caffe' is no ModelFramework"),
        ({"metrics": {"accuracy": "high"}}, InvalidInputError, "a metric is a number"),
        ({"parameters": {"loss": print}}, InvalidInputError, "parameters cannot be stored as JSON"),
        ({"lineage": {"loss": print}}, InvalidInputError, "lineage cannot be stored as JSON"),
        ({"descripton": "glasses"}, InvalidInputError, "It takes: tfrecord_paths.* Did you mean description?"),
        ({"config": Recommender}, InvalidInputError, r"give an object, Recommender\(\.\.\.\)"),
        ({"config": 7}, InvalidInputError, "config is a int without a method train"),
        ({"trainer": "no_such.module:fit"}, InvalidInputError, "cannot be imported: No module named 'no_such'"),
        ({"trainer": "json:__name__"}, InvalidInputError, "which cannot be called"),
    ],
)
def test_what_would_be_refused_afterwards_is_refused_before_anything_is_trained(
    models: ModelRegistry, trained: Diary, given: dict[str, Any], error: type[Exception], words: str
) -> None:
    for _ in range(3):
        models.register("old-model")
    with pytest.raises(error, match=words):
        train(models, **given)
    assert trained == []
    assert models.list_models() == ["old-model"]
    assert len(models.list_versions("old-model")) == 3


@pytest.mark.parametrize(
    ("guard", "error", "words"),
    [
        (Guard(require_approval=(ModelStage.STAGING,)), ApprovalRequired, "leave promote_to_staging out"),
        (Guard(strict_path=True), IllegalTransitionError, "From there it can move to: validation"),
    ],
)
def test_where_staging_is_closed_nothing_is_trained_for_it(
    models: ModelRegistry, trained: Diary, guard: Guard, error: type[Exception], words: str
) -> None:
    models.set_guard(guard)
    with pytest.raises(error, match=words):
        train(models, promote_to_staging=True)
    assert (trained, models.list_models()) == ([], [])
    assert train(models)[1].stage is ModelStage.DEVELOPMENT


def test_a_model_that_misses_the_policy_is_registered_and_stays_in_development(models: ModelRegistry) -> None:
    policy = PromotionPolicy().require_metric(MetricRequirement("accuracy", threshold=0.9))
    models.set_guard(Guard(policies={ModelStage.STAGING: policy}))
    with pytest.raises(PolicyFailed, match=r"accuracy >= 0.9 is required, found 0.5"):
        train(models, metrics={"accuracy": 0.5}, promote_to_staging=True)
    assert models.get_version("recommender", 1).stage is ModelStage.DEVELOPMENT
    assert train(models, metrics={"accuracy": 0.95}, promote_to_staging=True)[1].stage is ModelStage.STAGING


@pytest.mark.parametrize(("made", "words"), [(None, "returned nothing"), ((b"a", b"b", b"c"), "returned 3 things")])
def test_what_is_no_model_is_neither_registered_nor_promoted(models: ModelRegistry, made: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        train_and_register_model(model_name="none", trainer=lambda: made, promote_to_staging=True, registry=models)
    assert models.list_models() == []


def test_a_model_that_cannot_be_saved_is_neither_registered_nor_promoted(models: ModelRegistry) -> None:
    with pytest.raises(InvalidInputError):
        train_and_register_model(model_name="none", trainer=object, promote_to_staging=True, registry=models)
    assert models.list_models() == []


def test_an_error_of_the_trainer_is_the_callers_own(models: ModelRegistry) -> None:
    def fit() -> None:
        raise ZeroDivisionError("the loss went away")

    with pytest.raises(ZeroDivisionError, match="the loss went away"):
        train_and_register_model(model_name="none", trainer=fit, registry=models)
    assert models.list_models() == []


def test_the_same_key_registers_and_moves_once(models: ModelRegistry) -> None:
    first, second = (
        train(models, version=4, promote_to_staging=True, idempotency_key="run-7") for _ in range(2)
    )  # fmt: skip
    assert first[1].full_name == second[1].full_name == "recommender:v4"
    assert len(models.list_versions("recommender")) == 1
    assert len(models.get_transitions("recommender")) == 1
    # A run that is told again after its version went on finds what it did, and does not ask to go back.
    models.promote("recommender", 4, "production")
    assert train(models, version=4, promote_to_staging=True, idempotency_key="run-7")[1].stage is ModelStage.PRODUCTION


def test_a_trained_model_is_registered_from_an_object_from_bytes_and_from_a_file(
    models: ModelRegistry, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"of a file")
    _, of_bytes = register_trained_model(b"bytes", "flat", registry=models)
    given, of_file = register_trained_model(file, "flat", registry=models, framework="custom", promote_to_staging=True)
    module = torch.nn.Flatten()
    same, of_object = register_trained_model(module, "flat", metrics={"accuracy": 1}, registry=models)
    assert [of_bytes.version, of_file.version, of_object.version] == ["v1", "v2", "v3"]
    assert given is file
    assert same is module
    assert of_file.stage is ModelStage.STAGING
    assert models.load_artifact("flat", 2) == b"of a file"
    assert isinstance(models.load("flat", 3), torch.nn.Flatten)


def test_a_registration_that_fails_promotes_nothing(models: ModelRegistry) -> None:
    register_trained_model(b"one", "flat", version=1, registry=models)
    with pytest.raises(VersionExistsError):
        register_trained_model(b"two", "flat", version=1, promote_to_staging=True, registry=models)
    assert models.get_version("flat", 1).stage is ModelStage.DEVELOPMENT
    with pytest.raises(InvalidNameError):
        register_trained_model(b"two", "Flat", promote_to_staging=True, registry=models)
    with pytest.raises(ModelNotFoundError):
        models.get_version("other", 1)


def test_a_registry_is_given_by_its_place_or_is_the_default_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_trained_model(b"one", "flat", registry=tmp_path / "there")
    assert ModelRegistry(tmp_path / "there").list_models() == ["flat"]
    monkeypatch.setenv("MODELWAY_URL", str(tmp_path / "usual"))
    train_and_register_model(model_name="usual", trainer=lambda: b"two")
    usual = default_registry()
    assert default_registry() is usual
    monkeypatch.setenv("MODELWAY_STORAGE_OPTIONS", '{"endpoint_url": "http://127.0.0.1:9"}')
    assert default_registry() is not usual  # the same words, and perhaps another bucket
    assert ModelRegistry(tmp_path / "usual").list_models() == ["usual"]
