"""From a registered ONNX model to an endpoint that answers, by the command line alone."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from registry import ModelRegistry

Modelway = Callable[..., Result]

SPEC = "optimize: {engines: [onnxruntime], batch_sizes: [1], warmup: 1, repetitions: 5}\n"


def ready(url: str) -> bool:
    """Return whether an endpoint says that it is ready."""
    with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=10) as answer:  # noqa: S310 - an address of our own
        return bool(answer.status == 200)


@pytest.mark.usefixtures("iris")
def test_engines_are_built_and_one_is_chosen(
    modelway: Modelway, as_json: Callable[..., Any], iris: ModelRegistry, tmp_path: Path
) -> None:
    spec = tmp_path / "pipeline.yaml"
    spec.write_text(SPEC, encoding="utf-8")
    told = as_json("models", "optimize", "iris", "1", "--spec", str(spec))
    assert [variant["report"]["engine"] for variant in told["variants"]] == ["onnxruntime"]
    assert told["engine"] == iris.get_choice("iris", 1).model_dump(mode="json")
    again = modelway("models", "optimize", "iris", "1", "--spec", spec)
    assert again.exit_code == 0, again.stderr
    assert "onnxruntime" in again.stdout
    assert "to serve it:  modelway models deploy iris --version 1" in again.stdout
    assert "building, checking and measuring" in again.stderr
    shown = modelway("models", "show", "iris", "1").stdout
    assert "as registered" in shown
    assert "ms @1" in shown


def test_a_version_is_served_replaced_rolled_back_and_stopped(
    modelway: Modelway, as_json: Callable[..., Any], iris: ModelRegistry
) -> None:
    assert "no endpoints yet" in modelway("endpoints", "list").stdout
    deployed = modelway("deploy", "iris", "--version", "v2", "--endpoint-name", "flowers")
    assert deployed.exit_code == 0, deployed.stderr
    url = iris.get_endpoint("flowers").url
    assert url is not None
    assert deployed.stdout.splitlines() == [
        f"iris:v2 serves at flowers: {url}",
        "to look at it:  modelway endpoints show flowers",
        "to stop it:     modelway endpoints stop flowers",
    ]
    assert ready(url)

    back = modelway("rollback", "iris", "v1", "--endpoint-name", "flowers")
    assert back.exit_code == 0, back.stderr
    (page,) = as_json("endpoints", "list")
    assert set(page) == {"endpoint", "url"}
    assert page["endpoint"]["desired"]["version"] == "v1"
    assert ready(page["url"])
    assert as_json("endpoints", "show", "flowers") == page
    shown = modelway("endpoints", "show", "flowers").stdout
    for fact in ("running", "iris:v1", "rolled back", "golden samples", page["url"]):
        assert fact in shown
    assert "running" in modelway("endpoints", "list").stdout

    stopped = modelway("endpoints", "stop", "flowers", "--reason", "night")
    assert stopped.stdout.splitlines() == [
        "flowers is stopped",
        "to serve again:  modelway models deploy iris --version v1 --endpoint-name flowers",
    ]
    assert as_json("endpoints", "show", "flowers")["url"] is None
    assert modelway("endpoints", "stop", "flowers").stdout == "flowers was stopped already\n"
    assert json.loads(modelway("models", "show", "iris", "1", "--json").stdout)["version"]["deployments"]
