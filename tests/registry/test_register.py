"""Registering in every form: what is stored, how it is labelled, and that the log and the sidecars agree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from registry import (
    FileModelStore,
    ModelFramework,
    ModelMetrics,
    ModelRegistry,
    ModelStage,
    ModelStore,
    RegistryConfig,
)
from registry.encoding import canonical_json, digest_of
from registry.signature import Signature, TensorSpec
from registry.versions import Strategy


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Return a folder of files, one of them in a folder of its own, as a framework writes them."""
    folder = tmp_path / "weights"
    (folder / "assets").mkdir(parents=True)
    (folder / "model.bin").write_bytes(bytes(range(256)) * 10_000)
    (folder / "assets" / "labels.txt").write_text("zero\none\n", encoding="utf-8")
    (folder / ".hidden").write_bytes(b"")
    return folder


def _linear_onnx() -> ModelProto:
    weights = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "weights")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["y"])], "linear", inputs, outputs, [weights]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_bytes_are_stored_as_they_are(models: ModelRegistry, store: ModelStore) -> None:
    version = models.register("digits", b"weights", metrics={"accuracy": 0.9})

    assert (version.full_name, version.ordinal, version.stage) == ("digits:v1", 1, ModelStage.DEVELOPMENT)
    assert version.created_by == "ada@example.com"
    assert store.read("models/digits/versions/v1/artifact.bin") == b"weights"
    assert models.load_artifact("digits", 1) == models.load("digits") == b"weights"
    assert version.framework is None


def test_a_file_keeps_its_name_and_tells_its_framework(models: ModelRegistry, tmp_path: Path) -> None:
    file = tmp_path / "tensors.safetensors"
    file.write_bytes(b"weights")

    version = models.register("digits", file)

    assert version.framework is ModelFramework.SAFETENSORS
    assert [entry.path for entry in _manifest(models).files] == ["tensors.safetensors"]
    assert models.load_artifact("digits", 1) == b"weights"
    assert models.register("digits", str(file), framework="custom").framework is ModelFramework.CUSTOM
    assert models.load("digits", 2) == b"weights"


def test_a_link_that_is_named_is_the_file_that_it_leads_to(models: ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "epoch-7.bin").write_bytes(b"weights")
    (tmp_path / "best.bin").symlink_to(tmp_path / "epoch-7.bin")

    models.register("digits", tmp_path / "best.bin")

    assert [entry.path for entry in _manifest(models).files] == ["best.bin"]
    assert models.load_artifact("digits", 1) == b"weights"


def test_a_folder_is_stored_file_by_file(models: ModelRegistry, store: ModelStore, weights: Path) -> None:
    version = models.register_model("digits", artifact_path=weights)

    manifest = _manifest(models)
    assert [entry.path for entry in manifest.files] == [".hidden", "assets/labels.txt", "model.bin"]
    for entry in manifest.files:
        data = (weights / entry.path).read_bytes()
        assert store.read(f"models/digits/versions/v1/{entry.path}") == data
        assert (entry.sha256, entry.size_bytes) == (_sha256(data), len(data))
    listed = [entry.model_dump(mode="json") for entry in manifest.files]
    assert manifest.digest == _sha256(canonical_json(listed))
    assert version.artifact is not None
    assert (version.artifact.digest, version.artifact.files) == (manifest.digest, 3)
    assert version.artifact.size_bytes == manifest.size_bytes == 2_560_009


def test_a_torch_module_comes_back_as_one(models: ModelRegistry) -> None:
    torch.manual_seed(3)
    module = torch.nn.Linear(4, 2)
    module.hyperparameters = {"in_features": 4, "out_features": 2}  # type: ignore[assignment]
    samples: NDArray[Any] = np.random.default_rng(3).random((5, 4), dtype=np.float32)

    version = models.register("digits", model=module, samples=samples)
    loaded, metadata = models.load_model("digits")

    assert version.framework is ModelFramework.PYTORCH
    assert isinstance(loaded, torch.nn.Linear)
    assert not loaded.training
    assert torch.equal(loaded.weight, module.weight)
    assert metadata == version
    kept = models.load_samples("digits", 1)
    assert kept is not None
    assert np.array_equal(kept[0], samples)
    assert np.allclose(kept[1], samples @ module.weight.detach().numpy().T + module.bias.detach().numpy(), atol=1e-6)
    assert version.signature is not None
    assert version.signature.inputs[0].shape == (-1, 4)


def test_an_onnx_model_comes_back_as_one(models: ModelRegistry, store: ModelStore) -> None:
    model = _linear_onnx()

    version = models.register("digits", model=model)

    assert version.framework is ModelFramework.ONNX
    assert models.load("digits") == model
    assert store.read("models/digits/versions/v1/model.onnx") == model.SerializeToString(deterministic=True)
    assert version.signature is not None
    assert [tensor.name for tensor in (*version.signature.inputs, *version.signature.outputs)] == ["x", "y"]


def test_a_version_can_be_metadata_only(models: ModelRegistry, store: ModelStore) -> None:
    version = models.register(
        "digits",
        metrics=ModelMetrics(accuracy=0.9),
        parameters={"layers": (8, 16), "names": {3: None}, "rate": 1e-3},
        tags=["baseline", "cnn"],
        description="nothing but words",
        signature=Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 64)),)),
        lineage={"commit": "abc", "data": {"digest": "sha256:1"}},
    )

    assert version.artifact is None
    assert version.parameters == {"layers": [8, 16], "names": {"3": None}, "rate": 1e-3}
    assert version.tags == {"baseline": "", "cnn": ""}
    assert version == models.get_version("digits", 1) == ModelRegistry(store=store).get_version("digits", 1)
    assert models.register("digits", tags={"team": "vision"}).tags == {"team": "vision"}


def test_the_sidecar_and_the_log_say_the_same(models: ModelRegistry, store: ModelStore) -> None:
    version = models.register("digits", b"weights", metrics={"accuracy": 0.9}, tags=["a"], description="d")

    data = store.read("models/digits/versions/v1/metadata.json")
    written = json.loads(data)
    event = next(record.event for record in models._log("digits").history() if record.number == 2)  # noqa: SLF001 - the raw log
    assert event["metadata_digest"] == version.metadata_digest == digest_of(data)
    assert event["described"] == written["described"]
    assert event["artifact"]["digest"] == written["manifest"]["digest"]
    assert (written["format"], written["model"], written["version"], written["form"]) == (1, "digits", "v1", "bytes")
    assert data.endswith(b"}\n")
    assert b'\n  "model": "digits"' in data, "people read it too"


def test_status_says_where_the_version_stands_now(models: ModelRegistry, store: ModelStore) -> None:
    def status(label: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(store.read(f"models/digits/versions/{label}/status.json"))
        return read

    models.register("digits")
    assert (status("v1")["stage"], status("v1")["as_of"], status("v1")["format"]) == ("development", 2, 1)
    models.promote("digits", 1, "production", approved_by="grace@example.com")
    assert status("v1")["approvals"][0]["approver"] == "grace@example.com"
    models.register("digits")
    promoted = models.promote("digits", 2, "production")

    assert (status("v1")["stage"], status("v1")["as_of"]) == ("archived", promoted.as_of)
    assert (status("v2")["stage"], status("v2")["as_of"]) == ("production", promoted.as_of)


@pytest.mark.parametrize(
    ("wishes", "labels"),
    [
        ([{}, {}, {}], ["v1", "v2", "v3"]),
        ([{"version": "7"}, {}, {"version": 9}], ["7", "v8", "v9"]),
        ([{"version": 3}, {"version": "v1"}, {}], ["v3", "v1", "v4"]),
        ([{"version": "1.2.0"}, {}, {"bump": "minor"}, {"bump": "MAJOR"}], ["1.2.0", "1.2.1", "1.3.0", "2.0.0"]),
        ([{"bump": "minor"}, {"bump": "patch"}], ["1.0.0", "1.0.1"]),
        ([{"version": "v2.0.0-rc.1"}, {}], ["v2.0.0-rc.1", "2.0.0"]),
    ],
)
def test_labels_are_given_or_counted(models: ModelRegistry, wishes: list[dict[str, Any]], labels: list[str]) -> None:
    assert [models.register("digits", **wish).version for wish in wishes] == labels
    assert [version.version for version in models.list_versions("digits")] == labels
    assert [version.ordinal for version in models.list_versions("digits")] == list(range(1, len(labels) + 1))


def test_a_registry_can_prefer_semantic_versions_for_new_models(store: ModelStore) -> None:
    models = ModelRegistry(store=store, config=RegistryConfig(versioning=Strategy.SEMANTIC))

    assert [models.register("digits").version for _ in range(2)] == ["1.0.0", "1.0.1"]
    assert [models.register("faces", version=version).version for version in (4, None)] == ["v4", "v5"]


def test_a_registry_has_one_identity_that_is_never_changed(
    models: ModelRegistry, store: ModelStore, content: Callable[[ModelStore], dict[str, bytes]]
) -> None:
    assert models.list_models() == []
    assert content(store) == {}, "looking makes nothing"
    models.register("digits")

    written = json.loads(store.read("registry.json"))
    assert written["format"] == 1
    models.register("faces")
    assert ModelRegistry(store=store).identity.id == models.identity.id == written["id"]


def test_a_version_says_where_its_files_lie(on_disk: ModelRegistry, folder: Path) -> None:
    version = on_disk.register("digits", b"weights")

    assert version.artifact_path == str(folder / "models" / "digits" / "versions" / "v1")
    assert Path(version.artifact_path, "artifact.bin").read_bytes() == b"weights"
    assert isinstance(on_disk.store, FileModelStore)


def _manifest(models: ModelRegistry) -> Any:
    return models.get_sidecar("digits", 1).manifest
