"""``modelway endpoints manifest``: YAML for kubectl on stdout, and refusals with what can be done instead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from deployments.cli import make_program
from registry import ModelRegistry
from registry.endpoints.manifest import manifest_for

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each


@pytest.fixture
def modelway(in_s3: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return the command line over a registry in S3 where version 1 serves at ``flowers``."""
    in_s3.deploy_model("iris", 1, endpoint_name="flowers")
    monkeypatch.setenv("MODELWAY_URL", in_s3.url)
    monkeypatch.setenv("MODELWAY_STORAGE_OPTIONS", json.dumps(in_s3.config.storage_options))
    monkeypatch.setenv("COLUMNS", "200")
    program, runner = make_program(), CliRunner()
    return lambda *words: runner.invoke(program, list(words), prog_name="modelway")


def test_it_prints_the_manifest_as_yaml_and_as_json(modelway: Callable[..., Result], in_s3: ModelRegistry) -> None:
    manifest = manifest_for("kserve", in_s3, "flowers", namespace="models")
    asked = ("endpoints", "manifest", "flowers", "--for", "kserve", "--namespace", "models")
    printed = modelway(*asked)
    assert printed.exit_code == 0, printed.stderr
    assert YAML(typ="safe").load(printed.stdout) == manifest
    assert json.loads(modelway("--json", *asked).stdout) == manifest
    default = modelway(*asked[:5])
    assert YAML(typ="safe").load(default.stdout)["metadata"]["namespace"] == "default"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("flowers", "--for", "sagemaker"), "a manifest for sagemaker is not built"),
        (("flowers", "--for", "kserve", "--namespace", "My Models"), "the namespace cannot be named 'My Models'"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_printed(
    modelway: Callable[..., Result], words: tuple[str, ...], told: str
) -> None:
    refused = modelway("endpoints", "manifest", *words)
    assert refused.exit_code == 2
    assert told in refused.stderr
    assert refused.stdout == ""


def test_a_registry_in_a_folder_is_refused(
    modelway: Callable[..., Result], in_s3: ModelRegistry, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(in_s3.store.read("models/iris/versions/v1/model.onnx"))
    here = ModelRegistry(tmp_path / "registry", actor="ann")
    here.register("iris", tmp_path / "model.onnx")
    here.deploy_model("iris", 1, endpoint_name="local-flowers")
    try:
        refused = modelway(
            "--url", str(tmp_path / "registry"), "endpoints", "manifest", "local-flowers", "--for", "kserve"
        )
    finally:
        here.stop_endpoint("local-flowers")
    assert refused.exit_code == 2
    assert "KServe cannot reach a registry at" in refused.stderr
    assert refused.stdout == ""
