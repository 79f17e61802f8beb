"""A client of the Open Inference Protocol: tensors as binary data both ways, over one kept connection."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import httpx
import orjson

from registry.endpoints.protocol import JSON_LENGTH_HEADER, Message, read_error, read_response, write_request
from registry.endpoints.tensors import Array, ProtocolError, datatype_of
from registry.errors import EndpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_OK = 200
_SIGNIFICANT_DIGITS = 4


class InferenceClient:
    """Asks one server; usable from one thread, closed by ``close`` or at the end of a ``with``."""

    def __init__(self, url: str, *, timeout_s: float = 30.0) -> None:
        """Take the server's URL, such as ``http://127.0.0.1:8000``; nothing is sent yet."""
        self.url = url.rstrip("/")
        # The environment's proxies are not for a server on this machine.
        self._http = httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

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

    def infer(self, model: str, inputs: Mapping[str, Array], *, version: str | None = None) -> dict[str, Array]:
        """Return every output of a model.

        Args:
            model: Its name.
            inputs: Arrays by input name, in the types and shapes that the model takes; the batch comes first.
            version: The version's number or label; None for the one that the endpoint serves by default.

        Raises:
            EndpointError: No answer, or a refusal with the server's words (``ProtocolError``, with its status).
            InvalidInputError: An array of a type that the protocol has no word for.
        """
        answer = self._accepted("POST", f"{_model_path(model, version)}/infer", write_request(inputs))
        return read_response(answer.content, answer.headers.get(JSON_LENGTH_HEADER))

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
