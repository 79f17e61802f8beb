"""KServe's manifests: valid by its own schema, pointing at the registry's bytes, refused where there is no way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from registry import ModelRegistry
from registry.config import RegistryConfig
from registry.encoding import digest_of
from registry.endpoints.manifest import MODEL_STORE, manifest_for, manifest_yaml
from registry.errors import (
    EndpointError,
    EndpointNotFoundError,
    IntegrityError,
    InvalidInputError,
    InvalidNameError,
    ModelwayError,
)

if TYPE_CHECKING:
    from emulators import Emulator

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each

Filled = Callable[..., ModelRegistry]

SCHEMA = Draft202012Validator(json.loads(Path(__file__).with_name("inferenceservice.json").read_text(encoding="utf-8")))


def kserve(registry: ModelRegistry, endpoint: str = "flowers", namespace: str = "models") -> Any:
    """Return a manifest, which KServe's schema takes."""
    manifest = manifest_for("kserve", registry, endpoint, namespace=namespace)
    SCHEMA.validate(manifest)
    return manifest


def written(registry: ModelRegistry) -> dict[str, bytes]:
    """Return all bytes of a registry's logs."""
    return {key: registry.store.read(key) for key in registry.store.list("") if "/log/" in f"/{key}"}


def refused(
    registry: ModelRegistry, error: type[ModelwayError], *, endpoint: str = "flowers", namespace: str = "models"
) -> str:
    """Return why a manifest is refused; nothing was written for it."""
    before = written(registry)
    with pytest.raises(error) as caught:
        manifest_for("kserve", registry, endpoint, namespace=namespace)
    assert written(registry) == before
    return str(caught.value)


@pytest.mark.parametrize("cloud", ["s3", "gcs"])
def test_a_manifest_points_at_the_versions_own_folder_and_names_its_bytes(
    cloud: str, request: pytest.FixtureRequest, filled: Filled
) -> None:
    emulator: Emulator = request.getfixturevalue(cloud)
    registry = filled(RegistryConfig(url=f"{emulator.url}/team", storage_options=emulator.options))
    registry.deploy_model("iris", 2, endpoint_name="flowers")
    manifest = kserve(registry)
    predictor = manifest["spec"]["predictor"]
    assert predictor["storageUris"] == [
        {"uri": f"{emulator.url}/team/models/iris/versions/v2/", "mountPath": f"{MODEL_STORE}/iris/2"}
    ]
    version, sidecar = registry.get_version("iris", 2), registry.get_sidecar("iris", 2)
    assert sidecar.manifest is not None
    assert predictor["annotations"] == {
        "modelway/model": "iris",
        "modelway/version": "v2",
        "modelway/metadata-digest": version.metadata_digest,
        "modelway/artifact-digest": sidecar.manifest.digest,
        "modelway/file-digest": digest_of(registry.store.read("models/iris/versions/v2/model.onnx")),
        "modelway/engine": "onnxruntime",
    }
    assert predictor["model"]["protocolVersion"] == "v2"
    assert predictor["minReplicas"] == 1
    assert "canary" not in manifest["spec"]
    assert manifest["metadata"] == {
        "name": "flowers",
        "namespace": "models",
        "annotations": {
            "serving.kserve.io/deploymentMode": "Standard",
            "modelway/registry": registry.identity.id,
            "modelway/endpoint": "flowers",
            "modelway/generation": str(registry.get_endpoint("flowers").generation),
        },
    }


@pytest.mark.heavy
def test_an_address_in_azure_is_written_with_its_account(
    azure: Emulator, filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = filled(RegistryConfig(url=f"{azure.url}/team", storage_options=azure.options))
    registry.deploy_model("iris", 1, endpoint_name="flowers")
    (storage,) = kserve(registry)["spec"]["predictor"]["storageUris"]
    below = f"blob.core.windows.net/{azure.url.removeprefix('az://')}/team/models/iris/versions/v1/"
    assert storage["uri"] == f"https://devstoreaccount1.{below}"

    unnamed = ModelRegistry(store=registry.store, actor="ann")  # opened by one who does not say whose account it is
    assert "AZURE_STORAGE_ACCOUNT_NAME" in refused(unnamed, InvalidInputError)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "museum")
    (storage,) = kserve(unnamed)["spec"]["predictor"]["storageUris"]
    assert storage["uri"] == f"https://museum.{below}"


def test_an_engine_is_served_from_its_own_folder(in_s3: ModelRegistry, with_engine: Callable[..., str]) -> None:
    key = with_engine(in_s3, "onnxruntime")
    predictor = kserve(in_s3)["spec"]["predictor"]
    (variant,) = in_s3.get_variants("iris", 1)
    assert variant.manifest is not None
    (storage,) = predictor["storageUris"]
    assert storage["uri"] == f"{in_s3.url}/models/iris/versions/v1/variants/{key}/"
    notes = predictor["annotations"]
    assert notes["modelway/engine-key"] == key == variant.key
    assert notes["modelway/artifact-digest"] == variant.manifest.digest
    file = in_s3.store.read(f"models/iris/versions/v1/variants/{key}/model.onnx")
    assert notes["modelway/file-digest"] == digest_of(file)


def test_an_engine_that_no_runtime_of_kserve_opens_is_refused(
    in_s3: ModelRegistry, with_engine: Callable[..., str]
) -> None:
    with_engine(in_s3, "openvino")
    words = refused(in_s3, EndpointError)
    assert words.startswith("iris:v1 serves with openvino, which no runtime of KServe opens from its folder")
    assert "modelway models download" in words


def test_a_canary_gets_its_share_beside_the_stable_version(in_s3: ModelRegistry) -> None:
    in_s3.deploy_model("iris", 1, endpoint_name="flowers")
    in_s3.deploy_model("iris", 2, endpoint_name="flowers", traffic=0.25)
    manifest = kserve(in_s3)
    (canary,) = manifest["spec"]["canary"]
    assert canary["trafficPercent"] == 25
    assert canary["predictor"]["name"] == "v2"
    assert "minReplicas" not in canary["predictor"]  # KServe makes it of the share
    assert canary["predictor"]["storageUris"][0]["mountPath"] == f"{MODEL_STORE}/iris/2"
    assert manifest["spec"]["predictor"]["annotations"]["modelway/version"] == "v1"
    assert "modelway/left-out" not in manifest["metadata"]["annotations"]


def test_what_kserve_has_no_field_for_is_told_in_the_manifest(in_s3: ModelRegistry) -> None:
    in_s3.deploy_model("iris", 1, endpoint_name="flowers")
    in_s3.deploy_model("iris", 2, endpoint_name="flowers", shadow=0.5)
    manifest = kserve(in_s3)
    assert "canary" not in manifest["spec"]
    copies = "KServe copies no requests, and 50% go to v2 as a shadow"
    assert manifest["metadata"]["annotations"]["modelway/left-out"] == copies

    in_s3.deploy_model("iris", 2, endpoint_name="flowers", traffic=0.125)
    manifest = kserve(in_s3)
    assert manifest["spec"]["canary"][0]["trafficPercent"] == 12
    counted = "KServe counts whole per cents, and 12.5 are wanted"
    assert manifest["metadata"]["annotations"]["modelway/left-out"] == counted


def test_the_yaml_holds_what_the_manifest_holds(in_s3: ModelRegistry) -> None:
    in_s3.deploy_model("iris", 1, endpoint_name="flowers")
    manifest = kserve(in_s3)
    text = manifest_yaml(manifest)
    assert text.startswith("# Written by `modelway endpoints manifest`")
    assert YAML(typ="safe").load(text) == manifest


def test_the_schema_refuses_what_kserve_does_not_know(in_s3: ModelRegistry) -> None:
    in_s3.deploy_model("iris", 1, endpoint_name="flowers")
    good = json.dumps(kserve(in_s3))
    for was, is_now in {
        '"storageUris"': '"storageURIs"',
        '"mountPath": "/': '"mountPath": "',
        '"minReplicas": 1': '"minReplicas": "1"',
        "serving.kserve.io/v1beta1": "serving.kserve.io/v1",
        '"name": "flowers"': '"name": "Flowers"',
        '"name": "onnx"': '"nam": "onnx"',
    }.items():
        assert was in good
        assert not SCHEMA.is_valid(json.loads(good.replace(was, is_now))), was


def test_a_registry_that_no_cluster_reaches_is_refused(filled: Filled, tmp_path: Path) -> None:
    registry = filled(tmp_path / "registry")
    registry.deploy_model("iris", 1, endpoint_name="flowers")
    words = refused(registry, InvalidInputError)
    assert words.startswith(f"KServe cannot reach a registry at {registry.url}")
    assert "modelway models copy" in words
    assert "pvc://CLAIM/PATH" in words


def test_names_that_kubernetes_does_not_take_are_refused_or_made_fit(filled: Filled, s3: Emulator) -> None:
    where = RegistryConfig(url=f"{s3.url}/names", storage_options=s3.options)
    registry = filled(where, "iris_of_the_museum")
    registry.deploy_model("iris_of_the_museum", 1, endpoint_name="all_flowers")
    manifest = kserve(registry, "all_flowers")
    assert manifest["metadata"]["name"] == "all-flowers"
    assert manifest["metadata"]["annotations"]["modelway/endpoint"] == "all_flowers"
    (storage,) = manifest["spec"]["predictor"]["storageUris"]
    assert storage["mountPath"] == f"{MODEL_STORE}/iris-of-the-museum/1"
    for namespace in ("Models", "a.b", "", "-", "n" * 64):
        words = refused(registry, InvalidNameError, endpoint="all_flowers", namespace=namespace)
        assert words.startswith(f"the namespace cannot be named {namespace!r} in Kubernetes: use at most 63")
    long = "a" * 54
    registry.deploy_model("iris_of_the_museum", 1, endpoint_name=long)
    assert "use at most 53" in refused(registry, InvalidNameError, endpoint=long)


def test_a_model_whose_name_would_be_too_long_for_a_volume_is_refused(filled: Filled, s3: Emulator) -> None:
    name = "i" * 51
    registry = filled(RegistryConfig(url=f"{s3.url}/long", storage_options=s3.options), name)
    registry.deploy_model(name, 1, endpoint_name="flowers")
    assert "use at most 50" in refused(registry, InvalidNameError)


def test_an_endpoint_that_is_to_serve_nothing_has_no_manifest(in_s3: ModelRegistry) -> None:
    in_s3.deploy_model("iris", 1, endpoint_name="flowers")
    in_s3.stop_endpoint("flowers")
    assert "nothing is to serve there" in refused(in_s3, EndpointError)
    assert "did you mean flowers" in refused(in_s3, EndpointNotFoundError, endpoint="flower").lower()


def test_a_version_that_was_changed_behind_the_registrys_back_has_no_manifest(in_s3: ModelRegistry) -> None:
    in_s3.deploy_model("iris", 1, endpoint_name="flowers")
    sidecar = in_s3.store.read("models/iris/versions/v1/metadata.json")
    in_s3.store.replace("models/iris/versions/v1/metadata.json", sidecar.replace(b'"ann"', b'"bob"'))
    assert "metadata.json" in refused(in_s3, IntegrityError)


def test_a_file_under_another_name_than_tritons_is_refused(in_s3: ModelRegistry, tmp_path: Path) -> None:
    given = tmp_path / "flowers.onnx"
    given.write_bytes(in_s3.store.read("models/iris/versions/v1/model.onnx"))
    version = in_s3.register("iris", given)
    in_s3.deploy_model("iris", version.version, endpoint_name="flowers")
    words = refused(in_s3, EndpointError)
    assert "Triton opens a file model.onnx, and the folder has flowers.onnx" in words


@pytest.mark.parametrize(
    ("tool", "words"),
    [("sagemaker", "`modelway models download MODEL VERSION`"), ("bentoml", "there are manifests for: kserve")],
)
def test_another_tool_is_refused_with_what_can_be_done_instead(in_s3: ModelRegistry, tool: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=tool) as caught:
        manifest_for(tool, in_s3, "flowers", namespace="default")
    assert words in str(caught.value)
