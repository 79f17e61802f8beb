"""A step registers the Models that it gives: outside any flow by a plain call, without a server."""

from __future__ import annotations

import asyncio
import importlib
import pickle
from collections import namedtuple
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prefect
import pytest
from prefect import settings
from prefect.settings import temporary_settings
from prefect.utilities.visualization import TaskVizTracker
from pydantic import BaseModel

import tasks
from registry import InMemoryRegistry, ModelRegistry
from registry.errors import InvalidInputError, VersionExistsError
from tasks import Model, step
from tasks.registering_models import Registry


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


def detector(**more: Any) -> Model:
    return Model(data=b"weights", name="detector", register=True, **more)


def labels(models: ModelRegistry, name: str = "detector") -> list[str]:
    return [version.version for version in models.list_versions(name)]


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


def some() -> Generator[Model, str, tuple[str, Model]]:
    answer = yield detector()
    yield detector()
    return answer, Model(data=b"x", name="last", register=True)


async def some_later() -> AsyncGenerator[Model, str]:
    answer = yield detector()
    yield detector(description=answer)


@pytest.mark.usefixtures("no_server")
def test_an_async_function_is_called_as_one(models: ModelRegistry) -> None:
    assert asyncio.run(step(later)()).registered == models.get_version("detector", 1)


@pytest.mark.usefixtures("no_server")
def test_a_generator_registers_each_model_before_the_caller_gets_it(models: ModelRegistry) -> None:
    given = step(some)()
    assert models.list_models() == []
    assert (next(given).version, labels(models)) == ("v1", ["v1"])
    assert (given.send("yes").version, labels(models)) == ("v2", ["v1", "v2"])
    with pytest.raises(StopIteration) as end:
        next(given)
    answer, last = end.value.value
    assert (answer, last.registered) == ("yes", models.get_version("last", 1))


@pytest.mark.usefixtures("no_server")
def test_an_async_generator_registers_each_model_before_the_caller_gets_it(models: ModelRegistry) -> None:
    async def take() -> list[Model]:
        given = step(some_later)()
        first = await anext(given)
        assert labels(models) == ["v1"]
        return [first, await given.asend("sent"), *[model async for model in given]]

    assert [model.version for model in asyncio.run(take())] == ["v1", "v2"]
    assert models.get_version("detector", 2).description == "sent"


@pytest.mark.usefixtures("no_server")
def test_a_generator_that_is_left_ends_its_function() -> None:
    ended: list[str] = []

    @step
    def endless() -> Iterator[Model]:
        try:
            while True:
                yield Model(data=b"x", name="kept")
        finally:
            ended.append("sync")

    @step
    async def endless_later() -> AsyncIterator[Model]:
        try:
            while True:
                yield Model(data=b"x", name="kept")
        finally:
            ended.append("async")

    async def leave() -> None:
        given: Any = endless_later()
        await anext(given)
        await given.aclose()

    given: Any = endless()
    next(given)
    given.close()
    asyncio.run(leave())
    assert ended == ["sync", "async"]


@pytest.mark.parametrize("made", [prefect.task(detector), step(detector)])
def test_what_is_a_task_already_is_refused_at_decoration(made: Callable[..., Any]) -> None:
    with pytest.raises(InvalidInputError, match="detector is a Prefect task already: write @step instead of @task"):
        step(made)
    with pytest.raises(InvalidInputError, match="detector is a Prefect task already"):
        step(retries=1)(made)


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


@pytest.mark.parametrize("place", ["models", Path("models"), None], ids=["text", "path", "default"])
def test_a_step_registers_in_the_same_place_from_a_worker_in_another_folder(
    place: str | Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWAY_URL", "models")
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(Registry(place))
    monkeypatch.setenv("MODELWAY_URL", "elsewhere")
    (tmp_path / "worker").mkdir()
    monkeypatch.chdir(tmp_path / "worker")
    assert pickle.loads(sent).opened().url == (tmp_path / "models").as_uri()  # noqa: S301 - our own


def test_a_registry_in_memory_is_not_sent_to_a_worker() -> None:
    with pytest.raises(InvalidInputError, match=r"cannot register in memory:.* from another process"):
        pickle.dumps(Registry(InMemoryRegistry()))


def test_the_function_keeps_its_place_in_the_package() -> None:
    module = importlib.import_module("tasks.stepping")
    assert tasks.step is module.step
