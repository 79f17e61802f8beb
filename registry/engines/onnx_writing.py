"""Write a converted model so that its bytes depend on what it computes, not on how its converter numbered things."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir
from google.protobuf.message import EncodeError

from registry.engines.onnx_file import check_onnx
from registry.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from registry.engines.records import OnnxModel


def write_onnx(model: onnx.ModelProto, path: Path) -> OnnxModel:
    """Write a model of one input and one output in one form of all those that compute the same, and check the file.

    They are named ``input`` and ``output``, their first axis ``batch``. Converters number values with a counter of
    the process and put nodes in the order of a hash: two conversions of one model gave different bytes, and an engine's
    key is made of the bytes. So every name is drawn again, nodes stand in the order in which the output asks for them,
    and what it does not ask for is left out.

    Args:
        model: What a converter made.
        path: The file to write; an existing one is replaced.

    Raises:
        EngineError: It is not valid ONNX, has several inputs or outputs, or is larger than the 2 GB of one file.
    """
    rewritten = onnx_ir.from_proto(model)
    if len(rewritten.graph.inputs) != 1 or len(rewritten.graph.outputs) != 1:
        names = [
            ", ".join(str(value.name) for value in side) for side in (rewritten.graph.inputs, rewritten.graph.outputs)
        ]
        raise EngineError(
            f"one input and one output are asked for; found the inputs {names[0]} and outputs {names[1]}."
        )
    _rewrite(rewritten)
    try:
        data = onnx_ir.to_proto(rewritten).SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise EngineError(
            f"as ONNX it is larger than 2 GB, which one file cannot hold ({error}). Export it with its weights in a "
            "second file, and register that."
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as scratch:
        written = Path(scratch, path.name)
        written.write_bytes(data)
        checked = check_onnx(written)
        written.replace(path)
    return checked.model_copy(update={"path": path})


def _rewrite(model: onnx_ir.Model) -> None:
    graph = model.graph
    numbers = itertools.count()
    _rewrite_graph(graph, numbers)
    for value, name in ((graph.inputs[0], "input"), (graph.outputs[0], "output")):
        value.name = name
        if value.shape is not None and len(value.shape):
            value.shape = onnx_ir.Shape([onnx_ir.SymbolicDim("batch"), *list(value.shape)[1:]])
    graph.name = "model"
    opsets = dict(sorted(graph.opset_imports.items()))
    graph.opset_imports.clear()
    graph.opset_imports.update(opsets)


def _rewrite_graph(graph: onnx_ir.Graph, numbers: Iterator[int]) -> None:
    _settle_outputs(graph)
    nodes = _in_order(graph)
    graph.remove(list(graph))
    graph.extend(nodes)
    weights = dict.fromkeys(value for node in nodes for value in _read(node) if value.name in graph.initializers)
    weights |= dict.fromkeys(value for value in graph.outputs if value.name in graph.initializers)
    kept = [value for value in weights if graph.initializers[str(value.name)] is value]
    graph.initializers.clear()
    for value in (*graph.inputs, *kept):
        _rename(value, numbers)
    for value in kept:
        graph.initializers[str(value.name)] = value
    graph.doc_string = graph.name = None
    for node in nodes:
        node.name, node.doc_string = f"node_{next(numbers)}", None
        for value in node.outputs:
            _rename(value, numbers)
        for part in _subgraphs(node):
            _rewrite_graph(part, numbers)
            part.name = f"graph_{next(numbers)}"


def _settle_outputs(graph: onnx_ir.Graph) -> None:
    # The body of a loop gives its last state as its output too; which of both is the other's copy is a hash's choice.
    for early, late in itertools.combinations(range(len(graph.outputs)), 2):
        value, other = graph.outputs[early], graph.outputs[late]
        node = value.producer()
        if node is not None and node.op_type == "Identity" and node.inputs[0] is other:
            graph.outputs[early], graph.outputs[late] = other, value


def _rename(value: onnx_ir.Value, numbers: Iterator[int]) -> None:
    value.name, value.doc_string = f"value_{next(numbers)}", None
    if value.shape is not None:
        # A size that is free has no name here: the names are drawn from the same counter.
        value.shape = onnx_ir.Shape([size if isinstance(size, int) else None for size in value.shape])


def _in_order(graph: onnx_ir.Graph) -> list[onnx_ir.Node]:
    """Return the nodes that the outputs need, each after those that it reads, whatever they are called."""
    found: dict[onnx_ir.Node, None] = {}
    waiting = [(value.producer(), False) for value in reversed(graph.outputs)]
    while waiting:
        node, is_ready = waiting.pop()
        if node is None or node in found or node.graph is not graph:
            continue
        if is_ready:
            found[node] = None
            continue
        waiting.append((node, True))
        waiting += [(value.producer(), False) for value in reversed(_read(node))]
    return list(found)


def _read(node: onnx_ir.Node) -> list[onnx_ir.Value]:
    """Return what a node reads, what the graphs inside it take from around them too."""
    values = [value for value in node.inputs if value is not None]
    for part in _subgraphs(node):
        for inner in part:
            values += _read(inner)
        values += list(part.outputs)
    return values


def _subgraphs(node: onnx_ir.Node) -> list[onnx_ir.Graph]:
    found: list[onnx_ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == onnx_ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == onnx_ir.AttributeType.GRAPHS:
            found += attribute.as_graphs()
    return found
