"""Getting bytes back: verified before anything uses them, and nothing half-written where they go."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import skops.io
import torch
from onnx import TensorProto, helper
from sklearn.preprocessing import FunctionTransformer

from registry import ModelRegistry, ModelStore
from registry.encoding import digest_of
from registry.errors import (
    ArtifactNotFoundError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    RefusedError,
    VersionNotFoundError,
)
from registry.signature import Signature, TensorSpec

Register: TypeAlias = Callable[[ModelRegistry, Path], None]
Way: TypeAlias = Callable[[ModelRegistry, Path], Any]


def _bytes(models: ModelRegistry, _folder: Path) -> None:
    models.register("digits", b"weights")


def _module(models: ModelRegistry, _folder: Path) -> None:
    models.register("digits", model=_linear())


def _file(models: ModelRegistry, folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 10)
    models.register("digits", folder / "weights.bin")


def _big_file(models: ModelRegistry, folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 4096 * 3)
    models.register("digits", folder / "weights.bin")


def _folder(models: ModelRegistry, folder: Path) -> None:
    (folder / "below").mkdir()
    for name in ("a.bin", "below/b.bin", "below/c.bin"):
        (folder / name).write_bytes(name.encode() * 100)
    models.register("digits", folder)


def _tensors(models: ModelRegistry, folder: Path) -> None:
    torch.save({"weight": torch.ones(3)}, folder / "model.pt")
    models.register("digits", folder / "model.pt")


def _onnx(models: ModelRegistry, _folder: Path) -> None:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negative", tensors[:1], tensors[1:])
    models.register(
        "digits", model=helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    )


FORMS: dict[str, Register] = {
    "bytes": _bytes,
    "file": _file,
    "big file": _big_file,
    "folder": _folder,
    "torch file": _tensors,
    "torch module": _module,
    "onnx model": _onnx,
}
WAYS: dict[str, Way] = {
    "load": lambda models, _to: models.load("digits"),
    "load_model": lambda models, _to: models.load_model("digits", 1),
    "load_artifact": lambda models, _to: models.load_artifact("digits", 1),
    "download": lambda models, to: models.download("digits", 1, to),
    "load_samples": lambda models, _to: models.load_samples("digits", 1),
}


def _linear() -> torch.nn.Module:
    module = torch.nn.Linear(3, 2)
    module.hyperparameters = {"in_features": 3, "out_features": 2}  # type: ignore[assignment]
    return module


@pytest.fixture(params=FORMS)
def registered(request: pytest.FixtureRequest, models: ModelRegistry, tmp_path: Path) -> ModelRegistry:
    """Return a registry with one version, of each form of artifact."""
    source = tmp_path / "source"
    source.mkdir()
    FORMS[request.param](models, source)
    return models


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Return a way of reading bytes, each in turn."""
    return WAYS[request.param]


def test_what_was_registered_comes_back_in_every_way(registered: ModelRegistry, way: Way, tmp_path: Path) -> None:
    manifest = registered.get_sidecar("digits", 1).manifest
    assert manifest is not None
    if way is WAYS["load_artifact"] and len(manifest.files) > 1:
        with pytest.raises(InvalidInputError, match=r"this artifact has 3 files .* not one: use download"):
            way(registered, tmp_path)
    else:
        way(registered, tmp_path / "to")


def test_a_changed_byte_in_any_file_is_refused_in_every_way(
    registered: ModelRegistry, store: ModelStore, way: Way, tmp_path: Path
) -> None:
    manifest = registered.get_sidecar("digits", 1).manifest
    assert manifest is not None
    if way is WAYS["load_artifact"] and len(manifest.files) > 1:
        way = WAYS["download"]
    for number, entry in enumerate(manifest.files):
        key = f"models/digits/versions/v1/{entry.path}"
        right = store.read(key)
        for wrong in (
            bytes([right[0] ^ 1]) + right[1:],
            right[:-1] + bytes([right[-1] ^ 1]),
            right + b"\0",
            right[:-1],
        ):
            store.replace(key, wrong)
            with pytest.raises(IntegrityError) as caught:
                way(registered, tmp_path / f"to-{number}")
            error = caught.value
            assert (error.file, error.expected, error.found) == (store.address(key), entry.sha256, digest_of(wrong))
            assert all(fact in str(error) for fact in (store.address(key), entry.sha256, digest_of(wrong)))
            assert error.exit_code == 6
            assert not (tmp_path / f"to-{number}" / entry.path).exists()
        store.replace(key, right)


def test_a_missing_file_is_refused_in_every_way(
    registered: ModelRegistry, store: ModelStore, way: Way, tmp_path: Path
) -> None:
    manifest = registered.get_sidecar("digits", 1).manifest
    assert manifest is not None
    if way is WAYS["load_artifact"] and len(manifest.files) > 1:
        way = WAYS["download"]
    entry = manifest.files[-1]
    store.delete(f"models/digits/versions/v1/{entry.path}")

    with pytest.raises(IntegrityError, match="found no such file") as caught:
        way(registered, tmp_path / "to")
    assert caught.value.expected == entry.sha256


@pytest.mark.parametrize("change", [lambda data: data.replace(b"digits", b"digit5"), lambda _data: b"{}", None])
def test_a_changed_sidecar_is_refused_in_every_way(
    models: ModelRegistry, store: ModelStore, way: Way, tmp_path: Path, change: Callable[[bytes], bytes] | None
) -> None:
    version = models.register("digits", b"weights")
    key = "models/digits/versions/v1/metadata.json"
    found = "no such file"
    if change is None:
        store.delete(key)
    else:
        store.replace(key, change(store.read(key)))
        found = digest_of(store.read(key))

    for refused in (way, lambda models, _to: models.get_sidecar("digits", 1)):
        with pytest.raises(IntegrityError) as caught:
            refused(models, tmp_path / "to")
        assert (caught.value.file, caught.value.expected, caught.value.found) == (
            store.address(key), version.metadata_digest, found,
        )  # fmt: skip


def test_a_sidecar_that_names_a_file_elsewhere_reaches_nothing(models: ModelRegistry, store: ModelStore) -> None:
    models.register("digits", b"weights")
    key = "models/digits/versions/v1/metadata.json"
    sidecar = json.loads(store.read(key))
    sidecar["manifest"]["files"][0]["path"] = "../../../../secret"
    store.replace(key, json.dumps(sidecar).encode())

    with pytest.raises(IntegrityError, match="is not what was recorded"):
        models.load("digits")


def test_a_version_without_artifact_has_nothing_to_load(models: ModelRegistry, tmp_path: Path) -> None:
    models.register("digits")

    for way in WAYS.values():
        with pytest.raises(ArtifactNotFoundError, match="digits:v1 was registered without an artifact"):
            way(models, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_versions_are_loaded_by_number_label_alias_stage_or_as_the_latest(models: ModelRegistry) -> None:
    for data in (b"1", b"2", b"3"):
        models.register("digits", data)
    models.promote("digits", 1, "production")
    models.set_alias("digits", "champion", 2)

    assert models.load("digits") == b"3"
    assert models.load("digits", 2) == models.load("digits", "v2") == b"2"
    assert models.load("digits@champion") == models.load("digits", "champion") == b"2"
    assert models.load("digits", stage="production") == b"1"
    assert models.load_artifact("digits", "champion") == b"2"
    with pytest.raises(VersionNotFoundError, match="digits has no version '4'"):
        models.load("digits", 4)
    with pytest.raises(NotFoundError, match="digits has no version in staging"):
        models.load("digits", stage="staging")


def test_a_torch_file_that_would_run_code_is_not_loaded(models: ModelRegistry, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "it ran",))

    torch.save({"weight": Evil()}, tmp_path / "model.pt")
    models.register("digits", tmp_path / "model.pt")

    with pytest.raises(RefusedError, match=r"model.pt"):
        models.load("digits")
    assert not (tmp_path / "it ran").exists()


def test_what_is_read_by_its_suffix_comes_back_as_its_framework_gives_it(models: ModelRegistry, tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "model.pt")
    models.register("digits", tmp_path / "model.pt")
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    (tmp_path / "array.npy").write_bytes(buffer.getvalue())
    models.register("digits", tmp_path / "array.npy")

    assert torch.equal(models.load("digits", 1)["weight"], torch.ones(3))
    assert models.load("digits", 2) == buffer.getvalue()


def test_a_pickle_is_bytes_until_the_caller_allows_it(models: ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"weights": [1, 2], "kind": Path}))
    models.register("digits", tmp_path / "model.pkl")

    assert models.load("digits") == (tmp_path / "model.pkl").read_bytes()
    with pytest.raises(RefusedError, match=r"pathlib\.Path"):
        models.load("digits", allow_pickle=set())
    assert models.load("digits", allow_pickle={"pathlib.Path"}) == {"weights": [1, 2], "kind": Path}
    assert models.load_model("digits", allow_pickle={"pathlib.Path"})["weights"] == [1, 2]


def test_bytes_that_are_a_pickle_stay_bytes(models: ModelRegistry) -> None:
    models.register("digits", pickle.dumps([1]))

    assert models.load("digits", allow_pickle=set()) == pickle.dumps([1])


def test_what_a_model_may_use_is_named_to_load(models: ModelRegistry, tmp_path: Path) -> None:
    skops.io.dump(FunctionTransformer(np.nanmax), tmp_path / "model.skops")
    models.register("digits", tmp_path / "model.skops")

    with pytest.raises(RefusedError, match=r"it uses numpy\.nanmax, which are not known to be safe"):
        models.load("digits")
    assert models.load("digits", allow_pickle={"numpy.nanmax"}).func is np.nanmax


def test_a_signature_is_checked_when_that_is_asked_for(models: ModelRegistry) -> None:
    right = Signature(
        inputs=(TensorSpec(name="input", dtype="float32", shape=(-1, 3)),),
        outputs=(TensorSpec(name="output", dtype="float32", shape=(-1, 2)),),
    )
    wrong = right.model_copy(update={"outputs": (TensorSpec(name="output", dtype="float32", shape=(-1, 5)),)})
    samples = np.ones((4, 3), np.float32)
    models.register("digits", model=_linear(), samples=samples)
    models.register("digits", model=_linear(), samples=samples, signature=wrong)
    models.register("digits", model=_linear(), signature=wrong)

    assert models.load("digits", 1, check_signature=True).in_features == 3
    for version in (2, 3):
        assert models.load("digits", version).in_features == 3
        with pytest.raises(RefusedError, match="does not fit the signature"):
            models.load("digits", version, check_signature=True)
        with pytest.raises(RefusedError, match="does not fit the signature"):
            models.load_model("digits", version, check_signature=True)


def test_what_has_no_signature_or_is_no_model_cannot_be_checked(models: ModelRegistry, tmp_path: Path) -> None:
    signature = Signature(inputs=(TensorSpec(name="input", dtype="float32", shape=(-1, 3)),))
    (tmp_path / "source").mkdir()
    _folder(models, tmp_path / "source")
    models.register("digits", tmp_path / "source", signature=signature)
    models.register("digits", b"weights", signature=signature)

    with pytest.raises(InvalidInputError, match="digits:v1 has no signature: load it without check_signature"):
        models.load("digits", 1, check_signature=True)
    for version in (2, 3):
        with pytest.raises(InvalidInputError):
            models.load("digits", version, check_signature=True)
