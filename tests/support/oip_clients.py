"""NVIDIA's two clients of the Open Inference Protocol behind one face, whatever server they ask."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

Form = Literal["json", "binary", "grpc"]
"""How tensors travel: as JSON numbers or as bytes over HTTP, or over gRPC."""

_KINDS = {
    "400": "invalid", "401": "no right", "404": "unknown", "409": "not now", "413": "too much", "429": "too much",
    "500": "failed", "503": "not now", "501": "not served", "415": "not served",
    "StatusCode.INVALID_ARGUMENT": "invalid", "StatusCode.UNAUTHENTICATED": "no right",
    "StatusCode.NOT_FOUND": "unknown", "StatusCode.FAILED_PRECONDITION": "not now",
    "StatusCode.RESOURCE_EXHAUSTED": "too much", "StatusCode.INTERNAL": "failed",
    "StatusCode.UNAVAILABLE": "not now", "StatusCode.UNIMPLEMENTED": "not served",
    "StatusCode.DEADLINE_EXCEEDED": "late", "504": "late",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What came back of one request."""

    id: str
    model: str
    version: str
    outputs: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Refusal:
    """What kind of refusal came back, and its words."""

    kind: str
    words: str


class OipClient:
    """Asks a server in one form; ``with`` closes it. Answers are the same for all forms, dictionaries as in JSON."""

    def __init__(self, form: Form, *, http: str, grpc: str, token: str = "") -> None:
        """Take the server's addresses, ``host:port``, and what it demands of those who load models."""
        self.form = form
        self._tensors: Any = tritonclient.grpc if form == "grpc" else tritonclient.http
        self._client: Any = self._tensors.InferenceServerClient(grpc if form == "grpc" else http)
        self._headers = {"authorization": f"Bearer {token}"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def live(self) -> bool:
        return bool(self._client.is_server_live())

    def ready(self, model: str | None = None, version: str = "") -> bool:
        """Return whether the server, or a model of it, is; a model that is not known is not."""
        if model is None:
            return bool(self._client.is_server_ready())
        try:
            return bool(self._client.is_model_ready(model, version))
        except InferenceServerException as error:
            if self.form == "grpc" or _refusal(error).kind not in {"unknown", "not now"}:
                raise
            return False

    def about_server(self) -> dict[str, Any]:
        return dict(self._read(self._client.get_server_metadata))

    def about_model(self, model: str, version: str = "") -> dict[str, Any]:
        about = dict(self._read(self._client.get_model_metadata, model, version))
        for tensor in (*about["inputs"], *about["outputs"]):
            tensor["shape"] = [int(size) for size in tensor["shape"]]  # JSON of a protobuf message has int64 as text
        return about

    def config_of(self, model: str, version: str = "") -> dict[str, Any]:
        return dict(self._read(self._client.get_model_config, model, version))

    def index(self) -> set[tuple[str, str, str]]:
        """Return name, version and state of each version."""
        found = self._read(self._client.get_model_repository_index)
        entries = found.get("models", []) if isinstance(found, dict) else found
        return {(entry["name"], entry.get("version", ""), entry.get("state", "")) for entry in entries}

    def counts(self, model: str, version: str) -> tuple[int, int, int]:
        """Return how many samples a version answered, in how many requests, and how many requests failed."""
        (found,) = self._read(self._client.get_inference_statistics, model, version)["model_stats"]
        stats = found.get("inference_stats", {})
        requests = [int(stats.get(outcome, {}).get("count", 0)) for outcome in ("success", "fail")]
        return int(found.get("inference_count", 0)), requests[0], requests[1]

    def load(self, model: str, **more: Any) -> None:
        self._client.load_model(model, headers=self._headers, **more)

    def unload(self, model: str) -> None:
        self._client.unload_model(model, headers=self._headers)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, NDArray[Any]],
        version: str = "",
        *,
        outputs: Sequence[str] | None = None,
        binary_only: Collection[str] = (),
        **more: Any,
    ) -> Answer:
        """Ask a model; tensors whose names end with one of ``binary_only`` travel as bytes also beside JSON.

        ``more`` are the client's own arguments.
        """
        tensors = []
        for name, array in inputs.items():
            tensor = self._tensors.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array, **self._how(name, binary_only))
            tensors.append(tensor)
        if binary_only and outputs is None:
            outputs = [output["name"] for output in self.about_model(model, version)["outputs"]]
        wanted = [self._tensors.InferRequestedOutput(name, **self._how(name, binary_only)) for name in outputs or ()]
        result = self._client.infer(model, tensors, version, wanted or None, **more)
        response = result.get_response(as_json=True) if self.form == "grpc" else result.get_response()
        names = [output["name"] for output in response["outputs"]]
        return Answer(
            id=response.get("id", ""),
            model=response["model_name"],
            version=response["model_version"],
            outputs={name: result.as_numpy(name) for name in names},
        )

    def _how(self, tensor: str, binary_only: Collection[str]) -> dict[str, bool]:
        if self.form == "grpc":
            return {}
        return {"binary_data": self.form == "binary" or tensor.endswith(tuple(binary_only))}

    def _read(self, get: Callable[..., Any], *arguments: str) -> Any:
        return get(*arguments, **({"as_json": True} if self.form == "grpc" else {}))


def outcome(ask: Callable[[], object]) -> str:
    """Return ``done``, or the kind of the refusal."""
    try:
        ask()
    except InferenceServerException as error:
        return _refusal(error).kind
    return "done"


def refused(ask: Callable[[], object]) -> Refusal:
    """Return how a server refuses; an answer is an error."""
    try:
        answer = ask()
    except InferenceServerException as error:
        return _refusal(error)
    raise AssertionError(f"it was not refused, the answer is {answer}")


def _refusal(error: InferenceServerException) -> Refusal:
    return Refusal(_KINDS.get(str(error.status()), f"status {error.status()}"), error.message())


def each_datatype() -> dict[str, NDArray[Any]]:
    """Return one tensor of each datatype of numbers that the protocol has, with the ends of its range."""
    tensors: dict[str, NDArray[Any]] = {"BOOL": np.array([[True, False]])}
    for bits in (8, 16, 32, 64):
        signed, unsigned = np.iinfo(f"int{bits}"), np.iinfo(f"uint{bits}")
        tensors[f"INT{bits}"] = np.array([[signed.min, signed.max]], f"int{bits}")
        tensors[f"UINT{bits}"] = np.array([[0, unsigned.max]], f"uint{bits}")
    for bits in (16, 32, 64):
        tensors[f"FP{bits}"] = np.array([[0.1, -np.finfo(f"float{bits}").max]], f"float{bits}")
    return tensors
