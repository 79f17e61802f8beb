"""Document 004: train and register in one call; a bucket of Google Cloud Storage, endpoints, and its commands."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import emulators
import httpx
import numpy as np
import pytest

from registry import ModelRegistry, ModelStage, OptimizeSpec, RegistryConfig, default_registry, train_and_register_model

Blocks = Callable[[str, str], list[str]]
Execute = Callable[..., dict[str, Any]]
PACKAGES = {"eyewear_ml.ml.registry.integration": "registry.integration", "eyewear_ml.ml.registry": "registry"}
PLATFORM = str(Path(__file__).parent)
"""Where the document's own package is; only its registry is ours."""

NAME, ENDPOINT = "eyewear_recommender", "eyewear-recommender-endpoint"
COMMAND = "python -m eyewear_ml.ml.registry.cli"
OPTIMIZE = OptimizeSpec(engines=("onnxruntime",), batch_sizes=(1,), warmup=1, repetitions=3)


@pytest.fixture
def examples(blocks: Blocks, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the document's examples in Python; its platform can be imported, here and by processes."""
    monkeypatch.syspath_prepend(PLATFORM)
    monkeypatch.setenv("PYTHONPATH", PLATFORM)
    found = blocks("004", "python")
    assert len(found) == 2
    return found


@pytest.fixture
def gcs() -> Iterator[emulators.Emulator]:
    """Return the strict fake of Google Cloud Storage, with the document's bucket."""
    with emulators.gcs_server() as server:
        httpx.post(f"{server.address}/storage/v1/b", json={"name": "my-bucket"}).raise_for_status()
        yield server


@pytest.fixture
def in_the_bucket(
    gcs: emulators.Emulator, examples: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModelRegistry]:
    """Give the document's registry, with versions 1.1.0 (in production), 1.2.0 and 1.3.0 of its model."""
    assert 'RegistryConfig(project_id="my-project", bucket_name="my-bucket")' in examples[1]
    monkeypatch.setenv("MODELWAY_STORAGE_OPTIONS", json.dumps(gcs.options))
    config = importlib.import_module("eyewear_ml.ml.model").EyewearModelConfig
    registry = ModelRegistry(RegistryConfig(project_id="my-project", bucket_name="my-bucket"))
    for number, label in enumerate(("v1.1.0", "v1.2.0", "v1.3.0")):
        train_and_register_model(
            model_name=NAME, config=config(epochs=number + 1), version=label, registry=registry,
            tfrecord_paths=["gs://bucket/data/training.tfrecord"],
        )  # fmt: skip
        registry.optimize(NAME, label, spec=OPTIMIZE)
    registry.promote(NAME, "v1.1.0", "production")
    yield registry
    for endpoint in registry.list_endpoints():
        registry.stop_endpoint(endpoint.name)


def test_it_trains_and_registers_in_one_step(
    examples: list[str], execute: Execute, capsys: pytest.CaptureFixture[str]
) -> None:
    found = execute(examples[0], packages=PACKAGES)
    assert capsys.readouterr().out == f"Model registered with ID: {NAME}:v1\nModel version: v1\n"
    version = default_registry().get_version(NAME, 1)
    assert version == found["metadata"]
    assert (version.stage, version.description) == (ModelStage.STAGING, "Eyewear recommendation model")
    assert version.tags == {"recommendation": "", "eyewear": ""}
    assert version.parameters == {"epochs": 2, "learning_rate": 0.05}
    assert version.described.lineage == {
        "trainer": "eyewear_ml.ml.model:EyewearModelConfig.train",
        "inputs": {"tfrecord_paths": ["gs://bucket/data/training.tfrecord"]},
    }
    faces = np.ones((2, 4), dtype=np.float32)
    assert default_registry().load(NAME).predict(faces).tolist() == found["model"].predict(faces).tolist()


@pytest.mark.heavy
def test_it_works_in_a_bucket_and_serves(
    in_the_bucket: ModelRegistry, examples: list[str], execute: Execute, capsys: pytest.CaptureFixture[str]
) -> None:
    # The document leaves out what it predicts on.
    code = examples[1].replace("model.predict(...)", "model.predict(faces)")
    faces = np.ones((2, 4), dtype=np.float32)
    found = execute(code, {"faces": faces}, packages=PACKAGES)
    assert capsys.readouterr().out == f"Available models: ['{NAME}']\n"
    assert found["registry"].url == in_the_bucket.url == "gs://my-bucket"
    assert found["predictions"].shape == (2,)
    assert found["model"].predict(faces).shape == (2,)  # the one that was deployed
    assert found["metadata"].full_name == f"{NAME}:v1.2.0"
    assert (found["endpoint"].name, found["endpoint"].running) == (ENDPOINT, True)
    production = in_the_bucket.get_production_model(NAME)
    assert production is not None
    assert [approval.approver for approval in production.approvals] == ["john.smith@example.com"]


@pytest.mark.heavy
@pytest.mark.parametrize("program", ["modelway", "python -m registry"])
def test_its_commands_work_under_both_names(
    in_the_bucket: ModelRegistry, blocks: Blocks, shell: Callable[[str], str], monkeypatch: Any, program: str
) -> None:
    (commands,) = blocks("004", "bash")
    lines = [line for line in commands.splitlines() if not line.startswith("#") and line]
    assert all(line.startswith(COMMAND) for line in lines)
    monkeypatch.setenv("MODELWAY_URL", in_the_bucket.url)
    models, versions, one, promoted, deployed, compared, back = (
        shell(f"export MODELWAY_URL={in_the_bucket.url}\n{line.replace(COMMAND, program)}") for line in lines
    )
    assert NAME in models
    assert [label in versions for label in ("v1.1.0", "v1.2.0", "v1.3.0")] == [True] * 3
    assert f"{NAME}:v1.2.0" in one
    assert f"{NAME}:v1.2.0 moved from development to production; {NAME}:v1.1.0 is archived" in promoted
    assert f"{NAME}:v1.2.0 serves at {ENDPOINT}: http://127.0.0.1:" in deployed
    assert "loss" in compared
    assert f"{NAME}:v1.1.0 is in production again; {NAME}:v1.2.0 is archived" in back
    served = in_the_bucket.get_endpoint(ENDPOINT)
    assert served.running
    assert served.desired is not None
    assert served.desired.version == "v1.1.0"
