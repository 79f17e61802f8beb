"""Model control and inference over gRPC, with Triton's refusals told as errors of ours.

Always gRPC: a load over HTTP holds up the inferences that come over HTTP for as long as it takes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from registry.endpoints.target import Counted
from registry.endpoints.tensors import Array, datatype_of
from registry.endpoints.triton.config import Labels, read_labels
from registry.errors import EndpointError, InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from types import TracebackType

_NO_ANSWER = {"StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED"}
_ASK_S = 30.0
_WAIT_S = 0.02
_LOOKS = 10


KEY_VARIABLE = "MODELWAY_TRITON_KEY"
"""Where the key of a server with restricted model control is found, as ``NAME=VALUE``."""


class UnreachableError(EndpointError):
    """Triton did not answer."""


class NotServedError(EndpointError):
    """Triton answered, and serves no such model or version."""


class FolderGoneError(EndpointError):
    """A folder of the repository went while Triton looked at it."""


class TritonControl:
    """One server, asked over one connection; usable from one thread, closed at the end of a ``with``."""

    def __init__(self, address: str, *, timeout_s: float = _ASK_S, headers: Mapping[str, str] | None = None) -> None:
        """Take host and port of its gRPC service; nothing is sent yet.

        Args:
            address: Host and port.
            timeout_s: How long a load or an inference may take.
            headers: Sent with every request.

        Raises:
            MissingExtraError: tritonclient is not installed.
        """
        try:
            from tritonclient.grpc import InferenceServerClient
        except ModuleNotFoundError:
            raise MissingExtraError("tritonclient", "triton", "Triton as a target") from None
        self.address, self.timeout_s, self._headers = address, timeout_s, dict(headers or {})
        self._client = InferenceServerClient(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._client.close()

    def ready_versions(self) -> dict[str, list[int]]:
        """Return the versions that answer, in ascending order, by model.

        Raises:
            EndpointError: No answer, or a refusal.
        """
        found: dict[str, list[int]] = {}
        for one in self._index():
            if one.state == "READY" and one.version.isdecimal():
                found.setdefault(one.name, []).append(int(one.version))
        return {name: sorted(versions) for name, versions in found.items()}

    def _index(self) -> Any:
        # Triton looks through the folders as it answers, and fails on one that is removed meanwhile.
        for _ in range(_LOOKS - 1):
            with contextlib.suppress(FolderGoneError):
                return self._ask("list its models", self._client.get_model_repository_index).models
            time.sleep(_WAIT_S)
        return self._ask("list its models", self._client.get_model_repository_index).models

    def labels(self, name: str) -> Labels | None:
        """Return what a loaded model says of itself, None if it is not ours or not loaded.

        Raises:
            EndpointError: No answer.
        """
        try:
            found = self._ask(f"describe {name}", self._client.get_model_config, name)
        except NotServedError:
            return None
        return read_labels(found.config.parameters)

    def load(self, name: str) -> None:
        """Load a model as its folder has it, beside what it serves until it is ready.

        Raises:
            EndpointError: It was refused, with Triton's words, or not done in ``timeout_s``.
        """
        self._ask(f"load {name}", self._client.load_model, name, within_s=self.timeout_s)

    def wait_until_ready(self, name: str, number: int) -> None:
        """Wait until a version answers.

        Raises:
            EndpointError: It did not within ``timeout_s``.
        """
        deadline = time.monotonic() + self.timeout_s
        while not self._ask(f"say whether {name} is ready", self._client.is_model_ready, name, str(number)):
            if time.monotonic() > deadline:
                raise EndpointError(
                    f"{name}, version {number}, was loaded by Triton at {self.address} and is not ready after "
                    f"{self.timeout_s:g} s. The server's log says why; timeout_s is a setting of the endpoint."
                )
            time.sleep(_WAIT_S)

    def unload(self, name: str) -> None:
        """Take a model down, once its requests under way are answered; nothing if it is not loaded.

        Raises:
            EndpointError: No answer, a refusal, or not done in ``timeout_s``.
        """
        if not self._is_held(name):
            return
        self._ask(f"unload {name}", self._client.unload_model, name, within_s=self.timeout_s)
        deadline = time.monotonic() + self.timeout_s
        while self._is_held(name):
            if time.monotonic() > deadline:
                raise EndpointError(
                    f"{name} is still served by Triton at {self.address} {self.timeout_s:g} s after it was unloaded. "
                    f"Its requests under way may take that long; do this again."
                )
            time.sleep(_WAIT_S)

    def _is_held(self, name: str) -> bool:
        """Return whether a version of a model is loaded, or on its way in or out."""
        return any(one.name == name and one.state in {"READY", "LOADING", "UNLOADING"} for one in self._index())

    def counted(self, name: str) -> dict[int, Counted]:
        """Return what the versions of a loaded model did, by number.

        Raises:
            EndpointError: No answer, or it is not loaded.
        """
        found = self._ask(f"count for {name}", self._client.get_inference_statistics, name)
        return {int(one.version): _counted(one.inference_stats) for one in found.model_stats}

    def infer(self, name: str, inputs: Mapping[str, Array], *, version: str = "") -> tuple[str, dict[str, Array]]:
        """Return the version that answered, and every output by name.

        Raises:
            UnreachableError: No answer. EndpointError: A refusal, with Triton's words.
            InvalidInputError: An array of a type that the protocol has no word for.
        """
        from tritonclient.grpc import InferInput

        tensors = []
        for key, array in inputs.items():
            tensor = InferInput(key, list(array.shape), datatype_of(array.dtype))
            tensors.append(tensor.set_data_from_numpy(np.ascontiguousarray(array)))
        answer = self._ask(f"answer for {name}", self._client.infer, name, tensors, version, within_s=self.timeout_s)
        head = answer.get_response()
        return head.model_version, {one.name: answer.as_numpy(one.name) for one in head.outputs}

    def _ask(self, what: str, call: Any, *arguments: Any, within_s: float = _ASK_S) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return call(*arguments, headers=self._headers, client_timeout=within_s)
        except InferenceServerException as error:
            raise self._told(what, error) from error

    def _told(self, what: str, error: Any) -> EndpointError:
        words = " ".join(str(error.message()).split())
        if "protocol is restricted" in words:
            return EndpointError(
                f"Triton at {self.address} was to {what} and refused: {words}. Put the server's key into "
                f"{KEY_VARIABLE}, as NAME=VALUE."
            )
        if error.status() in _NO_ANSWER:
            return UnreachableError(
                f"Triton at {self.address} was to {what} and gave no answer: {words}. See that it runs and that its "
                f"gRPC port is reached from here; what it serves may be as before."
            )
        kind = NotServedError if error.status() == "StatusCode.NOT_FOUND" else EndpointError
        if "failed to stat file" in words:
            kind = FolderGoneError
        return kind(f"Triton at {self.address} was to {what} and refused: {words}")


def key_headers() -> dict[str, str]:
    """Return the headers with which Triton lets the deployer at what it restricts; none where there is no key.

    Raises:
        InvalidInputError: The variable has no ``NAME=VALUE``.

    Source: NVIDIA, "Limit Endpoint Access" of the Triton Inference Server.
    """
    if not (given := os.environ.get(KEY_VARIABLE, "")):
        return {}
    name, separator, value = given.partition("=")
    if not (name and separator and value):
        raise InvalidInputError(
            f"{KEY_VARIABLE} is no key: write NAME=VALUE, as the server has it in --grpc-restricted-protocol."
        )
    return {f"triton-grpc-protocol-{name.lower()}": value}


def _counted(stats: Any) -> Counted:
    requests, errors = stats.success.count + stats.fail.count, stats.fail.count
    return Counted(requests=requests, errors=errors, latency_sum_ms=(stats.success.ns + stats.fail.ns) / 1e6)
