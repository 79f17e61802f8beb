"""A model that OpenVINO serves, with the one method of an onnxruntime session that the catalog uses."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.engines.backends.openvino import compiled
from registry.errors import EngineError, MissingExtraError
from registry.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from registry.endpoints.tensors import Array


class OpenVinoServed:
    """A compiled model; ``run`` may be called from many threads at once, each has a request of its own."""

    def __init__(self, model: Any) -> None:
        """Take a compiled model."""
        self._model, self._own = model, threading.local()
        self.contract = Signature(inputs=_specs(model.inputs), outputs=_specs(model.outputs))
        self._outputs = [tensor.name for tensor in self.contract.outputs]

    def run(self, wanted: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Return the wanted outputs for inputs given by name."""
        if not hasattr(self._own, "request"):
            self._own.request = self._model.create_infer_request()
        found = self._own.request.infer(dict(inputs), share_inputs=True)
        # The request's own memory is written again by its next call.
        return [np.array(found[self._outputs.index(name)]) for name in wanted]


def open_in_openvino(data: bytes, *, threads: int, precision: str) -> OpenVinoServed:
    """Compile the bytes of an ONNX model, which were checked.

    Raises:
        EngineError: OpenVINO is not installed, or does not take the model.
    """
    try:
        return OpenVinoServed(compiled(data, threads=threads, precision=precision))
    except ModuleNotFoundError as error:
        raise EngineError(str(MissingExtraError("openvino", "openvino", "this engine"))) from error


def _specs(ports: Sequence[Any]) -> tuple[TensorSpec, ...]:
    specs = []
    for port in ports:
        shape = tuple(-1 if axis.is_dynamic else axis.get_length() for axis in port.get_partial_shape())
        specs.append(
            TensorSpec(name=port.get_any_name(), dtype=np.dtype(port.get_element_type().to_dtype()).name, shape=shape)
        )
    return tuple(specs)
