"""What another tool needs to serve what an endpoint serves, from the registry's own bytes: KServe's InferenceService.

Source: KServe 0.21, ``serving.kserve.io/v1beta1``. Its storage initializer copies an entry of ``storageUris`` to the
entry's ``mountPath``: a version's folder comes to lie where Triton looks for it, at ``MODEL_STORE/NAME/NUMBER``.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from registry.engines.backends import family_of
from registry.errors import EndpointError, IntegrityError, InvalidInputError, InvalidNameError
from registry.loading import manifest_in

if TYPE_CHECKING:
    from registry.endpoints.desired import Desired, Share
    from registry.records import Manifest, ModelVersion
    from registry.registry import ModelRegistry
    from registry.serving import Endpoint

TRITON_RELEASE = "25.10-py3"
"""The release of Triton that is asked for: KServe's own default, 23.05, is older than the opset that is exported."""

MODEL_STORE = str(PurePosixPath("/", "mnt", "models"))
"""Where KServe's runtimes look for models in their containers."""

_FILE = "model.onnx"
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_LONGEST = 63
_HEAD = (
    "# Written by `modelway endpoints manifest`; docs/kserve.md of modelway says what it needs.\n"
    "# It shows what is wanted now: after a deployment or a rollback write it again and apply it.\n"
)


def manifest_for(tool: str, registry: ModelRegistry, endpoint: str, *, namespace: str) -> dict[str, Any]:
    """Return the manifest with which a tool serves what is wanted of an endpoint; nothing is written anywhere.

    Args:
        tool: ``kserve``.
        registry: The registry that the endpoint is of; it lies in a bucket.
        endpoint: Its name.
        namespace: The namespace in Kubernetes.

    Raises:
        InvalidInputError: Another tool, a registry that no cluster reaches, or a name that Kubernetes does not take.
        EndpointNotFoundError: There is none of that name.
        EndpointError: Nothing is to serve there, or an engine that no runtime of the tool opens from its folder.
        IntegrityError: A version or an engine is not what was recorded.
    """
    if tool == "sagemaker":
        raise InvalidInputError(
            "a manifest for sagemaker is not built. `modelway models download MODEL VERSION` gives the verified files, "
            "to be packed and uploaded as SageMaker wants them; there are manifests for: kserve."
        )
    if tool != "kserve":
        raise InvalidInputError(f"there is no manifest for {tool!r}; there are manifests for: kserve.")
    found = registry.get_endpoint(endpoint)
    if found.desired is None:
        raise EndpointError(
            f"a manifest of {endpoint} was asked for, and nothing is to serve there. Deploy a version to it first: "
            f"`modelway models deploy MODEL --endpoint-name {endpoint}`."
        )
    return _inference_service(registry, found, found.desired, namespace=namespace)


def manifest_yaml(manifest: dict[str, Any]) -> str:
    """Return a manifest as YAML that ``kubectl apply -f -`` takes, with a remark on top."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    yaml.default_flow_style = False
    yaml.width = 1000  # a digest or an address is never broken
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    yaml.dump(manifest, text)
    return _HEAD + text.getvalue()


def _inference_service(
    registry: ModelRegistry, endpoint: Endpoint, desired: Desired, *, namespace: str
) -> dict[str, Any]:
    # KServe names a Service by it, and by a canary's name too; each is one label.
    name = _label(_plain(endpoint.name), f"the endpoint {endpoint.name!r}", after="-predictor")
    shares = {role: share for role, share in desired.shares() if role != "shadow"}
    predictors = {role: _predictor(registry, desired.model, share) for role, share in shares.items()}
    spec: dict[str, Any] = {"predictor": {"minReplicas": 1, **predictors["stable"]}}
    if canary := shares.get("canary"):
        what = f"the version {canary.version!r}"
        label = _label(_plain(canary.version), what, before=f"{name}-", after="-predictor")
        predictor = {"name": label, **predictors["canary"]}
        spec["canary"] = [{"trafficPercent": _per_cent(canary.share), "predictor": predictor}]
    left_out = "; ".join(_left_out(desired))
    notes = {
        "serving.kserve.io/deploymentMode": "Standard",
        "modelway/registry": registry.identity.id,
        "modelway/endpoint": endpoint.name,
        "modelway/generation": str(endpoint.generation),
        **({"modelway/left-out": left_out} if left_out else {}),
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": _label(namespace, "the namespace"), "annotations": notes},
        "spec": spec,
    }


def _predictor(registry: ModelRegistry, model: str, share: Share) -> dict[str, Any]:
    version = registry.get_version(model, share.version)
    if version.metadata_digest != share.metadata_digest:
        address = f"{version.artifact_path}/metadata.json"
        raise IntegrityError(address, share.metadata_digest, version.metadata_digest)
    folder = _address(registry, version.artifact_path)
    below, engine, files = _served(registry, version, share.variant)
    entry = next((file for file in files.files if file.path == _FILE), None)
    if entry is None:
        names = ", ".join(file.path for file in files.files[:5])
        raise EndpointError(
            f"{version.full_name} cannot be served by KServe as it lies in the registry: Triton opens a file {_FILE}, "
            f"and the folder has {names}. Register the file under that name as the next version."
        )
    inner = _label(_plain(model), f"the model {model!r}", before="mnt-models-", after=f"-{version.ordinal}")
    notes = {
        "modelway/model": model,
        "modelway/version": version.version,
        "modelway/metadata-digest": version.metadata_digest,
        "modelway/artifact-digest": files.digest,
        "modelway/file-digest": entry.sha256,
        "modelway/engine": engine,
        **({} if share.variant is None else {"modelway/engine-key": share.variant}),
    }
    return {
        "annotations": notes,
        "model": {
            "modelFormat": {"name": "onnx"},
            "protocolVersion": "v2",
            "runtime": "kserve-tritonserver",
            "runtimeVersion": TRITON_RELEASE,
        },
        # With the slash at its end: without it KServe copies v10 too where v1 is asked for.
        "storageUris": [{"uri": f"{folder}{below}", "mountPath": f"{MODEL_STORE}/{inner}/{version.ordinal}"}],
    }


def _served(registry: ModelRegistry, version: ModelVersion, key: str | None) -> tuple[str, str, Manifest]:
    """Return which folder below the version's own is served, the engine's name, and the files in it.

    Raises:
        EndpointError: It is not kept any more, or Triton does not open it with what KServe gives it.
    """
    if key is None:
        return "", "onnxruntime", manifest_in(registry.get_sidecar(version.name, version.version))
    variants = registry.get_variants(version.name, version.version)
    variant = next((one for one in variants if one.key == key), None)
    if variant is None or variant.manifest is None:
        raise EndpointError(
            f"the engine {key[:12]} of {version.full_name} is not kept any more. Run `modelway models deploy "
            f"{version.name} --version {version.version}` to have another one chosen."
        )
    engine = variant.report.engine
    if family_of(engine) != "onnxruntime":
        raise EndpointError(
            f"{version.full_name} serves with {engine}, which no runtime of KServe opens from its folder: they take "
            f"ONNX files there. `modelway models deploy --target triton` serves it on a Triton server of your own, and "
            f"`modelway models download` gives the files."
        )
    return f"variants/{key}/", engine, variant.manifest


def _left_out(desired: Desired) -> Iterator[str]:
    """Yield in words what is wanted of the endpoint and KServe has no field for."""
    if desired.canary is not None and not math.isclose(share := 100 * desired.canary.share, round(share)):
        yield f"KServe counts whole per cents, and {share:g} are wanted"
    if desired.shadow is not None:
        yield f"KServe copies no requests, and {desired.shadow.share:.0%} go to {desired.shadow.version} as a shadow"


def _per_cent(share: float) -> int:
    return max(1, round(100 * share))


def _address(registry: ModelRegistry, address: str) -> str:
    """Return the address of a folder in the registry as KServe writes it.

    Raises:
        InvalidInputError: No cluster reaches it, or nothing says in which account of Azure it lies.
    """
    scheme, _, rest = address.partition("://")
    if scheme in {"s3", "gs"}:
        return f"{address}/"
    if scheme == "az":
        return f"https://{_account(registry.config.client_options)}.blob.core.windows.net/{rest}/"
    raise InvalidInputError(
        f"KServe cannot reach a registry at {registry.url}: it copies models from gs://, s3:// or Azure. Bring the "
        f"model to a registry there with `modelway models copy` and deploy it from there. Where the folder is a volume "
        f"that your cluster can claim, write pvc://CLAIM/PATH into a manifest of your own."
    )


def _account(options: Mapping[str, Any]) -> str:
    connection = options.get("connection_string") or os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    in_connection = re.search(r"(?:^|;)AccountName=([^;]+)", str(connection))
    account = options.get("account_name") or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if account is None and in_connection is None:
        raise InvalidInputError(
            "KServe writes an address in Azure with its storage account, and none is set: give account_name in "
            "MODELWAY_STORAGE_OPTIONS, or set AZURE_STORAGE_ACCOUNT_NAME."
        )
    return str(account or (in_connection and in_connection[1]))


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")


def _label(word: str, what: str, *, before: str = "", after: str = "") -> str:
    """Return a word that Kubernetes takes as a label of RFC 1123, also with what KServe puts around it.

    Raises:
        InvalidNameError: It takes none.
    """
    longest = _LONGEST - len(before) - len(after)
    if _LABEL.fullmatch(word) and len(word) <= longest:
        return word
    around = f", which KServe makes {before}NAME{after} of" if before or after else ""
    raise InvalidNameError(
        f"{what} cannot be named {word!r} in Kubernetes: use at most {longest} lower-case letters, digits, and - "
        f"between them{around}."
    )
