"""A step in a flow registers once: tried again, mapped, in workers, and when its flow run is passed through again."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, resume_flow_run, settings, suspend_flow_run, task
from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.events.schemas.events import ReceivedEvent
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.settings import get_current_settings, temporary_settings
from prefect_house import PrefectHouse

from registry import ModelRegistry
from tasks import Model, step

pytestmark = [
    pytest.mark.heavy,
    # Prefect leaves a connection of its client open when the event loop of an async flow ends.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

SAID_WITHIN_S = 60.0
IN_WORKERS = str(Path(__file__).with_name("in_workers.py"))


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server for the module's flows, with everything that it would keep elsewhere in a folder of its own."""
    quick = {settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with (
        PrefectHouse(tmp_path_factory.mktemp("prefect")) as house,
        house.settings(),
        temporary_settings(quick),
    ):
        yield


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    """The default registry of the test."""
    monkeypatch.setenv("MODELWAY_URL", str(tmp_path / "registry"))
    monkeypatch.setenv("MODELWAY_ACTOR", "ann")
    return ModelRegistry(tmp_path / "registry")


def detector(**more: Any) -> Model:
    return Model(data=b"weights", name="detector", register=True, **more)


def labels(models: ModelRegistry, name: str = "detector") -> list[str]:
    return [version.version for version in models.list_versions(name)]


def trained_with(models: ModelRegistry) -> list[Any]:
    return sorted(version.parameters["seed"] for version in models.list_versions("detector"))


# -------------------------------------------------------------------------------------------------------- in one pass
def test_it_is_a_task_that_ends_after_its_model_is_registered(models: ModelRegistry) -> None:
    seen: list[list[str]] = []

    @step(on_completion=[lambda *_: seen.append(labels(models))])
    def train() -> tuple[Model, float]:
        return detector(), 0.5

    @flow
    def training() -> tuple[Model, float]:
        return train()

    assert training()[0].registered == models.get_version("detector", 1)
    assert seen == [["v1"]]


def test_a_refused_registration_fails_the_task(models: ModelRegistry) -> None:
    models.register("detector", b"older", version="1.0.0")
    train = step(lambda: detector(version="1.0.0"))

    @flow
    def training() -> bool:
        return bool(train(return_state=True).is_failed())

    assert training()
    assert labels(models) == ["1.0.0"]


def test_a_retry_registers_nothing_again_and_gives_back_what_was_registered(models: ModelRegistry) -> None:
    models.register("other", b"older", version="1.0.0")
    tries: list[str] = []

    @step(retries=3)
    def train() -> list[Model]:
        tries.append("try")
        if len(tries) == 1:
            raise OSError("the first try fails in the training")
        # The second fails in the registration of its last Model, when the first two stand.
        label = "1.0.0" if len(tries) == 2 else "2.0.0"
        made = Model(
            data=f"of try {len(tries)}".encode(), name="detector", register=True, metrics={"accuracy": len(tries) / 10}
        )
        return [made, detector(), Model(data=b"x", name="other", register=True, version=label)]

    @flow
    def training() -> list[Model]:
        return train()

    first, second, other = training()
    assert [first.version, second.version, other.version] == ["v1", "v2", "2.0.0"]
    assert len(tries) == 3
    assert (labels(models), labels(models, "other")) == (["v1", "v2"], ["1.0.0", "2.0.0"])
    assert (first.data, first.metrics) == (b"of try 2", {"accuracy": 0.2})
    assert models.load_artifact("detector", "v1") == first.data


def test_each_call_registers_its_own(models: ModelRegistry) -> None:
    train = step(lambda seed, **more: detector(parameters={"seed": seed, **more}))

    @flow
    def sweep() -> list[Model]:
        states = train.map([5], return_state=True)
        return [
            *[train(0), train(0), train.submit(1).result(), *train.map([2, 2]).result(), *train.map(3, x=[1]).result()],
            *[state.result() for state in states],
        ]

    trained = sweep()
    assert trained_with(models) == [0, 0, 1, 2, 2, 3, 5]
    for seed, model in zip([0, 0, 1, 2, 2, 3, 5], trained, strict=True):
        assert models.get_version("detector", model.version or "").parameters["seed"] == seed


def test_a_kept_result_comes_back_with_its_version(models: ModelRegistry) -> None:
    train = step(persist_result=True)(detector)

    @flow
    def training() -> list[Model]:
        return [train(), train()]

    first, second = training()
    assert first.registered == second.registered == models.get_version("detector", 1)
    assert labels(models) == ["v1"]


def test_a_step_in_another_ones_run_or_its_own_is_not_taken_for_its_retry(models: ModelRegistry) -> None:
    train = step(detector)

    @step
    def both(deeper: bool = True) -> list[Model]:  # noqa: FBT001, FBT002 - how deep
        inner = both.fn(deeper=False) if deeper else []
        return [*inner, train.fn(), train(), detector()]

    @flow
    def training() -> list[Model]:
        return both()

    assert sorted(model.version or "" for model in training()) == labels(models) == [f"v{n}" for n in range(1, 7)]


def test_async_functions_and_generators_register_what_they_give(models: ModelRegistry) -> None:
    @step(retries=1)
    async def later(seed: int) -> Model:
        return detector(parameters={"seed": seed})

    @step
    async def some_later() -> AsyncIterator[Model]:
        yield detector(parameters={"seed": 3})
        yield detector(parameters={"seed": 4})

    @step
    def some(*seeds: int) -> Iterator[Model]:
        for seed in seeds:
            yield detector(parameters={"seed": seed})

    @flow
    async def training() -> list[Model]:
        gathered = await asyncio.gather(later(1), later(2))
        given = [*gathered, *[model async for model in some_later()]]
        return [*given, *some(5, 6), *some.submit(7, 8).result()]

    trained = asyncio.run(training())
    assert trained_with(models) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [model.registered and model.registered.parameters["seed"] for model in trained] == [1, 2, 3, 4, 5, 6, 7, 8]


# ---------------------------------------------------------------------------------------- passed through from the top
def test_a_flow_that_is_retried_finds_every_version(models: ModelRegistry) -> None:
    passes: list[str] = []
    train: Any = step(name="train")(lambda seed: detector(parameters={"seed": seed}))

    @step
    def series(seeds: list[int]) -> Iterator[Model]:
        for seed in seeds:
            yield detector(parameters={"seed": seed})

    @step
    def outer() -> Any:
        return train(20)

    @task(retries=1)
    def plain() -> str:
        label = train(30).version
        if passes.count("plain") == 0:
            passes.append("plain")
            raise OSError("after its step")
        return str(label)

    @flow
    def inner(seed: int) -> Any:
        return train(seed)

    @flow(retries=1)
    def training() -> list[str | None]:
        given = [train(0), train(0), *train.map([1, 1, 2]).result(), *series([3, 3]), inner(10), inner(10), outer()]
        given += [train.submit(0).result(), train.with_options(retries=1)(1)]
        if passes.count("training") == 0:
            plain()
            passes.append("training")
            raise OSError("at the end")
        return [model.version for model in given]

    given = training()
    assert trained_with(models) == [0, 0, 0, 1, 1, 1, 2, 3, 3, 10, 10, 20, 30]
    assert len(set(given)) == len(given) == 12


def test_a_suspended_run_goes_on_with_its_versions_after_its_code_was_edited(models: ModelRegistry) -> None:
    first: Any = step(name="train")(lambda seed: detector(parameters={"seed": seed, "code": "old"}))
    # Another source, another task key, one parameter more; and the same calls stand elsewhere among others.
    edited: Any = step(name="train")(
        lambda seed, extra=None: (detector(parameters={"seed": seed, "code": extra or "new"}),)
    )

    @flow(name="training")
    def training() -> list[Model]:
        given = [first(1), first.submit(2).result()]
        suspend_flow_run(timeout=None)
        return given

    @flow(name="training")
    def training_edited() -> list[Model]:
        given = [edited(0)[0], edited.submit(2).result()[0], edited(1)[0]]
        suspend_flow_run(timeout=None)
        return given

    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(flow_id=client.create_flow(training), name="suspended")
        run = client.create_flow_run_from_deployment(deployment)
        with pytest.raises(Pause):
            run_flow(training, flow_run=run, parameters={})
        assert trained_with(models) == [1, 2]
        resume_flow_run(run.id)
        given: Any = run_flow(training_edited, flow_run=client.read_flow_run(run.id), parameters={})
    assert [(model.parameters or {})["code"] for model in given] == ["new", "old", "old"]
    assert trained_with(models) == [0, 1, 2]


@pytest.mark.parametrize("kind", ["processes", "dask", "ray"])
def test_workers_register_once_and_another_pass_finds_it_from_anywhere(
    kind: str, models: ModelRegistry, tmp_path: Path
) -> None:
    models.register("other", b"older", version="1.0.0")
    ended = subprocess.run(
        [sys.executable, IN_WORKERS, kind, str(tmp_path / "failed")],
        env={**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    assert trained_with(models) == [0, 0, 1, 3]
    assert [given["seed"] for _, given in said["given"]] == [0, 1, 0, 3]
    assert {given["process"] for _, given in said["given"]}.isdisjoint({said["process"]})
    assert said["again"] == said["given"]
    assert labels(models, "other") == ["1.0.0", "2.0.0"]


# -------------------------------------------------------------------------------------------------------------- assets
def asset_events() -> list[ReceivedEvent]:
    chosen = EventFilter(event=EventNameFilter(prefix=["prefect.asset.materialization"]))
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/events/filter", json={"filter": chosen.model_dump(mode="json")})
    return [ReceivedEvent.model_validate(event) for event in found.json()["events"]]


def wait_for(said: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + SAID_WITHIN_S
    while not said():
        assert time.monotonic() < give_up_at, [event.resource.id for event in asset_events()]
        time.sleep(0.5)


def test_each_version_is_an_asset_named_by_where_it_is_stored(models: ModelRegistry, tmp_path: Path) -> None:
    train = step(lambda: detector(metrics={"accuracy": 0.5}, description="small"))
    strange = step(registry=tmp_path / "a folder")(lambda: Model(data=b"x", name="strange", register=True))

    @flow
    def training() -> list[Model]:
        return [train(), strange()]

    model, elsewhere = training()
    assert elsewhere.version == "v1"
    key = f"file://{tmp_path}/registry/models/detector/versions/{model.version}"
    wait_for(lambda: key in {event.resource.id for event in asset_events()})
    event = next(event for event in asset_events() if event.resource.id == key)
    version = models.get_version("detector", 1)
    assert event.event == "prefect.asset.materialization.succeeded"
    assert (event.resource["prefect.resource.name"], event.resource["prefect.asset.description"]) == (
        version.full_name,
        "small",
    )
    assert event.payload["digest"] == (version.artifact and version.artifact.digest)
    assert event.payload["metrics"] == {"accuracy": 0.5}
    assert not [event for event in asset_events() if "strange" in event.resource.id]  # a blank is no part of a key
