"""Look at an ONNX file before anything runs it: is it valid, what does it take and give, which bytes is it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx.external_data_helper import uses_external_data

from registry.engines.records import OnnxModel
from registry.errors import EngineError
from registry.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def check_onnx(path: str | Path) -> OnnxModel:
    """Check an ONNX file, external data and all, and say what it holds.

    The checker refuses external data outside the model's folder (``..``, absolute paths, links), which
    onnxruntime would read without a word: nothing may run a file that has not been through here.

    Raises:
        EngineError: No file is there, it is not ONNX, or the checker refuses it; the message says which.
    """
    path = Path(path)
    try:
        onnx.checker.check_model(str(path))
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except (onnx.checker.ValidationError, OSError) as refusal:
        why = " ".join(str(refusal).split())
        mend = "Export it again, or register it as custom."
        raise EngineError(f"{path} is no valid ONNX model: {why} {mend}") from refusal
    files = (path.name, *_external_files(model))
    return OnnxModel(
        path=path,
        files=files,
        sha256=_digest(path.parent, files),
        opset=next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0),
        ir_version=model.ir_version,
        signature=signature_of(model.graph),
    )


def _digest(folder: Path, files: tuple[str, ...]) -> str:
    """Return the sha256 of one file, or of the list of digests and names where the weights lie beside it."""
    digests = []
    for name in files:
        with (folder / name).open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    # The model's own file is listed without its name: renaming it changes nothing, renaming its data would.
    named = [digests[0], *(f"{digest}  {name}" for digest, name in zip(digests[1:], files[1:], strict=True))]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()


def _external_files(model: onnx.ModelProto) -> tuple[str, ...]:
    tensors = [*tensors_of(model.graph.node, model.graph.initializer)]
    for function in model.functions:
        tensors += tensors_of(function.node, ())
    entries = [entry for tensor in tensors if uses_external_data(tensor) for entry in tensor.external_data]
    return tuple(sorted({entry.value for entry in entries if entry.key == "location"}))


def tensors_of(nodes: Iterable[onnx.NodeProto], weights: Iterable[onnx.TensorProto]) -> Iterator[onnx.TensorProto]:
    """Yield ``weights`` and every tensor that an attribute of the nodes holds, those of nested graphs too."""
    yield from weights
    for node in nodes:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for graph in (attribute.g, *attribute.graphs):
                yield from tensors_of(graph.node, graph.initializer)


def signature_of(graph: onnx.GraphProto) -> Signature:
    """Return the inputs and outputs of a graph; a size that is free, or known only by a name, is -1."""
    # Before IR 4 every weight was listed among the inputs as well.
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [_tensor_spec(value) for value in graph.input if value.name not in weights]
    return Signature(inputs=tuple(inputs), outputs=tuple(_tensor_spec(value) for value in graph.output))


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else None
    return TensorSpec(name=value.name, dtype=dtype.name if dtype else "unknown", shape=shape)
