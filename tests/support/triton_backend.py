"""A backend for Triton's Python backend that opens ONNX files with onnxruntime; installed under three names.

As ``onnxruntime`` it is what NVIDIA's own one is to a client. As ``tensorrt`` and ``pytorch`` it stands in for the
backends that need a GPU or gigabytes: it takes their configurations and layout, and opens an ONNX model that lies
there under their file's name. It runs inside the server, whose packages these are; no test imports it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]

_FILES = {"onnxruntime": "model.onnx", "tensorrt": "model.plan", "pytorch": "model.pt"}


class TritonPythonModel:
    """One instance of a version; the server calls these methods."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the version's file; what does not open fails the load, with onnxruntime's words."""
        config = json.loads(args["model_config"])
        refusal = Path(args["model_repository"], "refusal.txt")  # of tests, in the place of a GPU without memory
        if refusal.is_file():
            raise triton.TritonModelException(refusal.read_text())
        name = config["default_model_filename"] or _FILES[config["backend"]]
        path = Path(args["model_repository"], args["model_version"], name)
        if not path.is_file():
            raise triton.TritonModelException(f"unable to find '{path}'")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        self._check(config)
        self._inputs = [one.name for one in self._session.get_inputs()]

    def _check(self, config: dict[str, Any]) -> None:
        """Refuse a configuration that names other tensors than the model has, as NVIDIA's does."""
        batched = config["max_batch_size"] > 0
        pairs = (("input", self._session.get_inputs()), ("output", self._session.get_outputs()))
        for kind, found in pairs:
            shapes = {one.name: [size if isinstance(size, int) else -1 for size in one.shape] for one in found}
            for wanted in config[kind]:
                dims = [int(size) for size in wanted["dims"]]
                if shapes.get(wanted["name"]) != ([-1, *dims] if batched else dims):
                    raise triton.TritonModelException(
                        f"{kind} '{wanted['name']}' of {dims} is not in the model, which has {shapes}"
                    )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        feed = {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
        wanted = list(request.requested_output_names())
        try:
            found = self._session.run(wanted, feed)
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common base but Exception
            return triton.InferenceResponse([], triton.TritonError(str(error)))
        tensors = zip(wanted, found, strict=True)
        return triton.InferenceResponse([triton.Tensor(name, np.ascontiguousarray(array)) for name, array in tensors])
