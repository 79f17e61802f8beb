"""A step registers the Models that it returns: outside any flow without a server, in a flow once however it runs."""

from __future__ import annotations

import importlib
from collections import namedtuple
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prefect
import pytest
from prefect import flow, settings
from prefect.settings import temporary_settings
from prefect.testing.utilities import prefect_test_harness
from prefect.utilities.visualization import TaskVizTracker
from pydantic import BaseModel

import tasks
from registry import InMemoryRegistry, ModelRegistry
from registry.errors import InvalidInputError, VersionExistsError
from tasks import Model, step


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    """The default registry of the test."""
    monkeypatch.setenv("MODELWAY_URL", str(tmp_path / "registry"))
    monkeypatch.setenv("MODELWAY_ACTOR", "ann")
    return ModelRegistry(tmp_path / "registry")


@pytest.fixture
def no_server() -> Iterator[None]:
    """Have no Prefect server, and none that may be started: what needs one fails."""
    with temporary_settings(
        {settings.PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}, restore_defaults={settings.PREFECT_API_URL}
    ):
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server for the module's flows, with everything that it would keep elsewhere in a folder of its own."""
    home = tmp_path_factory.mktemp("prefect")
    quick = {settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, settings.PREFECT_SERVER_ANALYTICS_ENABLED: False}
    with temporary_settings({settings.PREFECT_HOME: home, **quick}), prefect_test_harness(server_startup_timeout=90):
        yield


def detector(**more: Any) -> Model:
    return Model(data=b"weights", name="detector", register=True, **more)


def labels(models: ModelRegistry, name: str = "detector") -> list[str]:
    return [version.version for version in models.list_versions(name)]


# -------------------------------------------------------------------------------------------------- outside any flow
@pytest.mark.usefixtures("no_server")
def test_a_prefect_task_outside_a_flow_would_need_a_server() -> None:
    with pytest.raises(ValueError, match="No Prefect API URL"):
        prefect.task(detector)()


@pytest.mark.parametrize(
    "train",
    [step(detector), step()(detector), step(retries=2, tags=["gpu"])(detector), step(detector).with_options(name="t")],
    ids=["bare", "called", "with-options", "changed"],
)
@pytest.mark.usefixtures("no_server")
def test_a_plain_call_registers_without_a_server_and_says_nothing(
    train: Callable[..., Model], models: ModelRegistry, capfd: pytest.CaptureFixture[str]
) -> None:
    model = train(metrics={"accuracy": 0.5}, bump="minor", description="small")
    version = models.get_version("detector", "1.0.0")
    assert (model.registered, model.version, model.bump) == (version, "1.0.0", None)
    assert (version.metrics.get("accuracy"), version.description) == (0.5, "small")
    assert models.load_artifact("detector", version.version) == b"weights"
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_server")
def test_a_registered_model_is_shown_by_its_version() -> None:
    assert "registered='detector:v1'" in repr(step(detector)())


Pair = namedtuple("Pair", "model score")  # noqa: PYI024 - one without types is to be found too


@dataclass(frozen=True)
class Trained:
    """What a user's own step may return."""

    model: Model
    seconds: float


class Report(BaseModel):
    """The same in pydantic."""

    model: Model


@pytest.mark.parametrize(
    ("wrapped", "unwrap"),
    [
        (lambda model: (model, 0.5), lambda value: value[0]),
        (lambda model: [0.5, model], lambda value: value[1]),
        (lambda model: {"best": model}, lambda value: value["best"]),
        (lambda model: {"all": [(1, {"model": model})]}, lambda value: value["all"][0][1]["model"]),
        (lambda model: Pair(model, 0.5), lambda value: value.model),
        (lambda model: Trained(model, 3.0), lambda value: value.model),
        (lambda model: Report(model=model), lambda value: value.model),
        (lambda model: {model}, lambda value: next(iter(value))),
    ],
    ids=["tuple", "list", "dict", "nested", "namedtuple", "dataclass", "pydantic", "set"],
)
@pytest.mark.usefixtures("no_server")
def test_a_model_is_found_in_what_is_returned(
    wrapped: Callable[[Model], Any], unwrap: Callable[[Any], Model], models: ModelRegistry
) -> None:
    given = wrapped(detector())
    returned = step(lambda: given)()
    assert type(returned) is type(given)
    assert unwrap(returned).registered == models.get_version("detector", 1)
    assert unwrap(given).registered is None


@pytest.mark.usefixtures("no_server")
def test_only_what_asks_for_it_is_registered_and_that_once(models: ModelRegistry) -> None:
    new, before = detector(), step(lambda: Model(data=b"x", name="old", register=True))()
    kept = Model(data=b"x", name="kept")
    first, again, passed_on, unasked = step(lambda: [new, new, before, kept])()
    assert first is again
    assert passed_on is before
    assert unasked is kept
    assert (models.list_models(), labels(models), labels(models, "old")) == (["detector", "old"], ["v1"], ["v1"])


@pytest.mark.usefixtures("no_server")
def test_a_value_without_models_comes_back_untouched(models: ModelRegistry) -> None:
    value = {"a": [1, 2], "b": None}
    assert step(lambda: value)() is value
    assert models.list_models() == []


@pytest.mark.usefixtures("no_server")
def test_a_step_registers_where_it_is_told_to(models: ModelRegistry, tmp_path: Path) -> None:
    memory = InMemoryRegistry()
    step(registry=memory)(detector)()
    step(registry=str(tmp_path / "other"))(detector)()
    assert labels(memory) == labels(ModelRegistry(tmp_path / "other")) == ["v1"]
    assert models.list_models() == []


@pytest.mark.usefixtures("no_server")
def test_a_registration_that_is_refused_fails_the_call(models: ModelRegistry) -> None:
    train = step(lambda: detector(version="1.0.0"))
    train()
    with pytest.raises(VersionExistsError):
        train()
    assert labels(models) == ["1.0.0"]


@pytest.mark.usefixtures("no_server")
def test_a_method_can_be_a_step(models: ModelRegistry) -> None:
    class Trainer:
        words = "by a method"

        @step
        def train(self, *, more: str = "!") -> Model:
            return detector(description=self.words + more)

    trainer: Any = Trainer()  # Prefect's types know no methods
    trainer.train()
    assert models.get_version("detector", 1).description == "by a method!"


async def later() -> Model:
    return detector()


def some() -> Iterator[Model]:
    yield detector()


async def some_later() -> AsyncIterator[Model]:
    yield detector()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (later, "later is an async function, and @step would not see the Models"),
        (some, "some is a generator, and @step would not see the Models"),
        (some_later, "some_later is an async function"),
        (prefect.task(detector), "detector is a Prefect task already: write @step instead of @task"),
        (step(detector), "detector is a Prefect task already"),
    ],
)
def test_what_it_could_not_register_is_refused_at_decoration(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        step(function)
    with pytest.raises(InvalidInputError, match=message):
        step(retries=1)(function)


@pytest.mark.usefixtures("no_server")
def test_a_generator_that_a_function_returns_is_refused_and_not_run(models: ModelRegistry) -> None:
    ran: list[int] = []

    def one_after_another() -> Iterator[Model]:
        ran.append(1)
        yield detector()

    with pytest.raises(InvalidInputError, match="returned a generator, and @step would not see the Models"):
        _ = step(lambda make: make())(one_after_another)
    assert ran == []
    assert models.list_models() == []


def test_a_step_is_a_task_with_the_name_source_and_key_of_its_function() -> None:
    def train() -> Model:
        """Train a detector."""
        return detector()

    made, plain = step(retries=3, persist_result=True)(train), prefect.task(train)
    assert (made.name, made.description, made.retries, made.persist_result) == ("train", "Train a detector.", 3, True)
    assert (made.task_key, made.source_code) == (plain.task_key, plain.source_code)
    changed = made.with_options(retries=1)
    assert (changed.task_key, changed.source_code, changed.retries) == (plain.task_key, plain.source_code, 1)
    assert made.log_prints is plain.log_prints is None


@pytest.mark.usefixtures("no_server")
def test_drawing_a_flow_trains_nothing(models: ModelRegistry) -> None:
    tracker: Any = TaskVizTracker
    with tracker() as drawn:
        step(detector)()
    assert [node.name for node in drawn.tasks] == ["detector-0"]
    assert models.list_models() == []


def test_the_function_keeps_its_place_in_the_package() -> None:
    module = importlib.import_module("tasks.stepping")
    assert tasks.step is module.step


# --------------------------------------------------------------------------------------------------------- in a flow
@pytest.mark.heavy
@pytest.mark.usefixtures("server")
class TestInAFlow:
    def test_it_is_a_task_that_ends_after_its_model_is_registered(self, models: ModelRegistry) -> None:
        seen: list[list[str]] = []

        @step(on_completion=[lambda *_: seen.append(labels(models))])
        def train() -> tuple[Model, float]:
            return detector(), 0.5

        @flow
        def training() -> tuple[Model, float]:
            return train()

        assert training()[0].registered == models.get_version("detector", 1)
        assert seen == [["v1"]]

    def test_a_refused_registration_fails_the_task(self, models: ModelRegistry) -> None:
        models.register("detector", b"older", version="1.0.0")
        train = step(lambda: detector(version="1.0.0"))

        @flow
        def training() -> bool:
            return bool(train(return_state=True).is_failed())

        assert training()
        assert labels(models) == ["1.0.0"]

    def test_a_retry_registers_nothing_again(self, models: ModelRegistry) -> None:
        models.register("other", b"older", version="1.0.0")
        tries: list[str] = []

        @step(retries=3)
        def train() -> list[Model]:
            tries.append("try")
            if len(tries) == 1:
                raise OSError("the first try fails in the training")
            # The second fails in the registration of its last Model, when the first two stand.
            label = "1.0.0" if len(tries) == 2 else "2.0.0"
            return [detector(), detector(), Model(data=b"x", name="other", register=True, version=label)]

        @flow
        def training() -> list[Model]:
            return train()

        assert [model.version for model in training()] == ["v1", "v2", "2.0.0"]
        assert len(tries) == 3
        assert (labels(models), labels(models, "other")) == (["v1", "v2"], ["1.0.0", "2.0.0"])

    def test_each_run_registers_its_own(self, models: ModelRegistry) -> None:
        train = step(lambda seed: detector(parameters={"seed": seed}))

        @flow
        def sweep() -> list[Model]:
            return [train(0), train.submit(1).result(), *train.map([2, 3]).result()]

        trained = sweep()
        assert sorted(labels(models)) == ["v1", "v2", "v3", "v4"]
        for seed, model in enumerate(trained):
            assert models.get_version("detector", model.version or "").parameters == {"seed": seed}

    def test_a_kept_result_comes_back_with_its_version(self, models: ModelRegistry) -> None:
        train = step(persist_result=True)(detector)

        @flow
        def training() -> list[Model]:
            return [train(), train()]

        first, second = training()
        assert first.registered == second.registered == models.get_version("detector", 1)
        assert labels(models) == ["v1"]

    def test_a_step_in_another_ones_run_is_not_taken_for_its_retry(self, models: ModelRegistry) -> None:
        train = step(detector)
        both = step(lambda: [train.fn(), train.fn(), train()])

        @flow
        def training() -> list[Model]:
            return both()

        assert [model.version for model in training()] == labels(models) == ["v1", "v2", "v3"]
