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

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each

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
    details = as_json("endpoints", "show", "flowers")
    assert (details["endpoint"], details["url"]) == (page["endpoint"], page["url"])
    assert (details["version"]["version"], details["drift"]) == ("v1", [])
    shown = modelway("endpoints", "show", "flowers").stdout
    for fact in ("running", "iris:v1", "rolled back", "golden samples", page["url"]):
        assert fact in shown
    assert "running" in modelway("endpoints", "list").stdout
    assert modelway("endpoints", "drift").stdout == "no drift: what serves is what is wanted\n"
    assert [one["event"] for one in as_json("endpoints", "log", "flowers")] == ["wanted", "served"] * 2
    assert "rolled back" in modelway("endpoints", "log", "flowers").stdout

    stopped = modelway("endpoints", "stop", "flowers", "--reason", "night")
    assert stopped.stdout.splitlines() == [
        "flowers is stopped",
        "to serve again:  modelway models deploy iris --version v1 --endpoint-name flowers",
    ]
    assert as_json("endpoints", "show", "flowers")["url"] is None
    assert modelway("endpoints", "stop", "flowers").stdout == "flowers was stopped already\n"
    assert json.loads(modelway("models", "show", "iris", "1", "--json").stdout)["version"]["deployments"]


def test_a_canary_and_a_promotion_that_was_not_deployed_are_seen_and_mended(
    modelway: Modelway, as_json: Callable[..., Any], iris: ModelRegistry
) -> None:
    modelway("deploy", "iris", "--endpoint-name", "flowers")
    beside = modelway("models", "deploy", "iris", "--version", "1", "--endpoint-name", "flowers", "--traffic", "0.25")
    assert beside.stdout.splitlines()[0].startswith("iris:v1 answers 25% of the requests at flowers: http://127.0.0.1:")
    assert "canary v1 25%" in modelway("endpoints", "list").stdout
    assert modelway("models", "deploy", "iris", "--version", "2", "--endpoint-name", "flowers").exit_code == 0
    back = "modelway models rollback iris --endpoint-name flowers  (to v1)"
    assert as_json("endpoints", "show", "flowers")["way_back"] == back

    iris.rollback("iris")
    (drift,) = as_json("endpoints", "drift", "flowers")
    assert drift["words"] == "flowers follows production of iris, which is v1, and serves v2"
    shown = modelway("endpoints", "show", "flowers").stdout
    assert "which is v1, and serves v2 (`modelway endpoints reconcile flowers`)" in shown

    mended = modelway("endpoints", "reconcile")
    assert (mended.exit_code, mended.stdout) == (0, f"mended: {drift['words']}\n")
    assert modelway("endpoints", "reconcile", "flowers").stdout == "flowers is as wanted\n"
    assert as_json("endpoints", "show", "flowers")["way_back"] is None


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (("--target", "triton"), "target 'triton' needs settings the first time"),
        (("--target", "triton", "--set", "repositori=x"), "has no setting 'repositori'. Did you mean repository?"),
        (("--target", "triton", "--set", "grpc=x"), "the setting repository of a triton target: field required"),
        (("--set", "max_batch=0"), "the setting max_batch of a local target: input should be greater than or equal"),
        (("--traffic", "0.5"), "nothing serves there"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(
    modelway: Modelway, iris: ModelRegistry, words: tuple[str, ...], refusal: str
) -> None:
    refused = modelway("deploy", "iris", "--version", "1", "--endpoint-name", "flowers", *words)
    assert refused.exit_code == 2
    assert refusal in " ".join(refused.stderr.split())
    assert iris.list_endpoints() == []
