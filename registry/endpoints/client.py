"""A client of the Open Inference Protocol: tensors as binary data both ways, over one kept connection."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import httpx
import orjson

from registry.endpoints.protocol import JSON_LENGTH_HEADER, Message, read_error, read_response, write_request
from registry.endpoints.serving import ServedModels
from registry.endpoints.tensors import Array, ProtocolError, datatype_of
from registry.errors import EndpointError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

_OK = 200
_SIGNIFICANT_DIGITS = 4


class _Client:
    def __init__(self, url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
        # The environment's proxies are not for a server on this machine.
        self._http = httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _accepted(self, method: str, path: str, message: Message | None = None) -> httpx.Response:
        answer = self._send(method, path, message)
        if answer.status_code != _OK:
            words = read_error(answer.content)
            raise ProtocolError(f"{self.url}{path} refused ({answer.status_code}): {words}", status=answer.status_code)
        return answer

    def _send(self, method: str, path: str, message: Message | None = None) -> httpx.Response:
        body, headers = (message.body, message.headers) if message else (None, None)
        try:
            return self._http.request(method, path, content=body, headers=headers)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise EndpointError(
                f"no answer from {self.url}{path}: {reason}. `modelway endpoints list` shows what is running."
            ) from error


class InferenceClient(_Client):
    """Asks one server; usable from one thread, closed by ``close`` or at the end of a ``with``."""

    def __init__(self, url: str, *, timeout_s: float = 30.0) -> None:
        """Take the server's URL, such as ``http://127.0.0.1:8000``; nothing is sent yet."""
        super().__init__(url, timeout_s=timeout_s)

    def ready(self, model: str | None = None, *, version: str | None = None) -> bool:
        """Return whether the server, or a model of it, is ready to answer.

        Raises:
            EndpointError: No answer.
        """
        path = "/v2/health/ready" if model is None else f"{_model_path(model, version)}/ready"
        return self._send("GET", path).status_code == _OK

    def metadata(self, model: str | None = None, *, version: str | None = None) -> dict[str, Any]:
        """Return what the server says of itself, or of a model.

        Raises:
            EndpointError: No answer, or a refusal with the server's words (``ProtocolError``, with its status).
        """
        answer = self._accepted("GET", "/v2" if model is None else _model_path(model, version))
        return dict(orjson.loads(answer.content))

    def infer(
        self, model: str, inputs: Mapping[str, Array], *, version: str | None = None, request_id: str | None = None
    ) -> dict[str, Array]:
        """Return every output of a model.

        Args:
            model: Its name.
            inputs: Arrays by input name, in the types and shapes that the model takes; the batch comes first.
            version: The version's number or label, or ``candidate``; None for one by the endpoint's shares.
            request_id: What to call the request, for ``tell_labels`` and the log.

        Raises:
            EndpointError: No answer, or a refusal with the server's words (``ProtocolError``, with its status).
            InvalidInputError: An array of a type that the protocol has no word for.
        """
        answer = self._accepted(
            "POST", f"{_model_path(model, version)}/infer", write_request(inputs, request_id=request_id)
        )
        return read_response(answer.content, answer.headers.get(JSON_LENGTH_HEADER))

    def statistics(self, model: str, *, version: str | None = None) -> list[dict[str, Any]]:
        """Return what the versions of a model did, in the form of Triton's ``model_stats``.

        Raises:
            EndpointError: No answer, or a refusal with the server's words (``ProtocolError``, with its status).
        """
        found = orjson.loads(self._accepted("GET", f"{_model_path(model, version)}/stats").content)
        return list(found["model_stats"])

    def tell_labels(self, model: str, labels: Mapping[str, int | Sequence[int]]) -> int:
        """Tell which classes would have been right, and return how many of the requests the server still knew.

        Args:
            model: The model's name.
            labels: The right class by the ``id`` that a request had, one for each of its samples.

        Raises:
            EndpointError: No answer, or a refusal with the server's words (``ProtocolError``, with its status).
        """
        told = [{"id": name, "label": label} for name, label in labels.items()]
        answer = self._accepted("POST", f"{_model_path(model, None)}/labels", Message(orjson.dumps({"labels": told})))
        return int(orjson.loads(answer.content)["matched"])


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a server's repository index: ``state`` is READY or UNAVAILABLE, ``reason`` says why it is not."""

    name: str
    version: str
    state: str
    reason: str


class ControlClient(_Client):
    """Loads and unloads models of one server; usable from one thread, closed like an ``InferenceClient``."""

    def __init__(self, url: str, token: str, *, timeout_s: float = 120.0) -> None:
        """Take the server's URL and the token of its state file; nothing is sent yet.

        ``timeout_s`` covers the opening of every engine that is new.
        """
        super().__init__(url, timeout_s=timeout_s, headers={"Authorization": f"Bearer {token}"})

    def load(self, model: str) -> None:
        """Have the models file read again, and return once all of it that is new is open and answers.

        Raises:
            EndpointError: No answer, or a refusal with the server's words (``ProtocolError``, with its status): what
                served before still does.
        """
        self._accepted("POST", f"{_repository_path(model)}/load")

    def unload(self, model: str) -> None:
        """Have a model taken out until the next load.

        Raises:
            EndpointError: No answer, or a refusal with the server's words (``ProtocolError``, with its status).
        """
        self._accepted("POST", f"{_repository_path(model)}/unload")

    def served(self) -> ServedModels:
        """Return what is served at this moment, with files and shares.

        Raises:
            EndpointError: No answer, or a refusal with the server's words (``ProtocolError``, with its status).
        """
        return ServedModels.model_validate_json(self._accepted("GET", "/v2/repository/served").content)

    def index(self) -> list[Listed]:
        """Return every version that the models file lists, and whether it answers.

        Raises:
            EndpointError: No answer, or a refusal with the server's words (``ProtocolError``, with its status).
        """
        listed = orjson.loads(self._accepted("POST", "/v2/repository/index").content)
        return [Listed(one["name"], one["version"], one["state"], one["reason"]) for one in listed]


def curl_line(url: str, model: str, sample: Array, input_name: str) -> str:
    """Return a command to paste into a shell that asks a model about one small sample.

    Args:
        url: The server's URL.
        model: The model's name.
        sample: What the model takes, batch dimension included; fractions are rounded to four significant digits.
        input_name: The model's input.
    """
    rounded = [
        float(f"{value:.{_SIGNIFICANT_DIGITS}g}") if sample.dtype.kind == "f" else value
        for value in sample.ravel().tolist()
    ]
    tensor = {"name": input_name, "datatype": datatype_of(sample.dtype), "shape": sample.shape, "data": rounded}
    body = orjson.dumps({"inputs": [tensor]}).decode()
    target = f"{url.rstrip('/')}{_model_path(model, None)}/infer"
    return f"curl -s {shlex.quote(target)} -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def _model_path(model: str, version: str | None) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def _repository_path(model: str) -> str:
    return f"/v2/repository/models/{quote(model, safe='')}"
