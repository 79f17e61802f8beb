"""A Prefect server that asks for a password, a worker, a browser, and a registry with a version in production."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium, log_in, open_page
from playwright.sync_api import Browser, Page
from prefect_house import AUTH, PrefectHouse
from working_folder import CONFIG

from registry import ModelRegistry
from tasks.pipeline import load_pipeline
from tasks.training import run_trainer


@pytest.fixture(scope="module")
def house() -> Iterator[PrefectHouse]:
    """The server and its worker, in a folder whose path is short enough to be shown."""
    with (
        tempfile.TemporaryDirectory(prefix="approval-", ignore_cleanup_errors=True) as folder,
        PrefectHouse(Path(folder), auth=AUTH) as started,
    ):
        started.start_worker()
        yield started


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium."""
    with chromium(tmp_path_factory.getbasetemp().parent / "chromium.lock") as started:
        yield started


@pytest.fixture
def page(browser: Browser, house: PrefectHouse) -> Iterator[Page]:
    """A page whose person has logged in."""
    opened = open_page(browser)
    opened.goto(house.url)
    log_in(opened, AUTH)
    opened.get_by_role("link", name="Runs").wait_for()
    yield opened
    opened.context.close()


@pytest.fixture(scope="module")
def pipeline_file(house: PrefectHouse) -> Path:
    """The digits, trained for a moment, and held to little."""
    file = house.work / "digits.yaml"
    quick = {"epochs: 30": "epochs: 4", "threshold: 0.97": "threshold: 0.5", "[onnxruntime, tensorrt]": "[onnxruntime]"}
    text = CONFIG.read_text()
    for old, new in quick.items():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def registry(house: PrefectHouse, pipeline_file: Path) -> ModelRegistry:
    """A registry with digits in production that were trained for less, and two models with a version beside it."""
    made = ModelRegistry(house.work / "registry", actor="ann@example.com")
    less = pipeline_file.with_name("less.yaml")
    less.write_text(pipeline_file.read_text().replace("epochs: 4", "epochs: 1"))
    model, _ = run_trainer(load_pipeline(less))
    made.promote("digits", model.register_in(made).version, "production")
    for name in ("rejected", "contested"):
        made.promote(name, made.register(name, metrics={"accuracy": 0.9, "loss": 0.5}).version, "production")
        made.register(name, metrics={"accuracy": 0.875, "loss": 0.25})
    return made
