"""What Triton would do in a container of Vertex AI: open the one model of a repository, and answer with it."""

from __future__ import annotations

import re
from typing import Any

import onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from registry.endpoints.protocol import read_request, write_response
from registry.endpoints.serving import Limits
from registry.endpoints.tensors import ProtocolError
from registry.signature import Signature, TensorSpec

BINARY = "application/vnd.vertex-ai-triton.binary+json;json-header-size="

_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}


class ContainerError(Exception):
    """The server in the container has ended; the words are its log's."""


class Container:
    """One deployed model."""

    def __init__(self, files: dict[str, bytes], arguments: list[str]) -> None:
        """Open a repository.

        Args:
            files: Its bytes by their path.
            arguments: Of the server, as the model's container has them.

        Raises:
            ContainerError: There is not one model in it, with a configuration and the version that this names.
        """
        configs = [path for path in files if re.fullmatch(r"[^/]+/config\.pbtxt", path)]
        if len(configs) != 1:
            raise ContainerError(f"failed to load all models: {len(configs)} configurations in {sorted(files)}")
        config = text_format.Parse(files[configs[0]].decode(), model_config_pb2.ModelConfig())
        self.name = config.name
        if f"--vertex-ai-default-model={self.name}" not in arguments or not configs[0].startswith(f"{self.name}/"):
            raise ContainerError(f"the default model is not {self.name}")
        [version] = config.version_policy.specific.versions
        path = f"{self.name}/{version}/{config.default_model_filename}"
        if path not in files:
            raise ContainerError(f"failed to load {self.name}: unable to find {path}")
        self.version = str(version)
        try:
            self._session = onnxruntime.InferenceSession(files[path], providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base but Exception
            raise ContainerError(f"failed to load {self.name}: {error}") from error
        self._contract = Signature(
            inputs=tuple(_spec(one) for one in self._session.get_inputs()),
            outputs=tuple(_spec(one) for one in self._session.get_outputs()),
        )

    def predict(self, body: bytes, content_type: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for the body of a rawPredict."""
        found = re.fullmatch(re.escape(BINARY) + r"(\d+)", content_type)
        try:
            request = read_request(body, found[1] if found else None, contract=self._contract, limits=Limits())
        except ProtocolError as error:
            return error.status, {"Content-Type": "application/json"}, f'{{"error": "{error}"}}'.encode()
        wanted = [one.name for one in request.outputs]
        outputs = dict(zip(wanted, self._session.run(wanted, dict(request.inputs)), strict=True))
        message = write_response(self.name, self.version, request, outputs)
        # Triton's own header with the length of the JSON is none that Vertex AI promises to hand on.
        return 200, {"Content-Type": message.headers["Content-Type"]}, message.body


def _spec(tensor: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in tensor.shape)
    return TensorSpec(name=tensor.name, dtype=_DTYPES[tensor.type], shape=shape)
