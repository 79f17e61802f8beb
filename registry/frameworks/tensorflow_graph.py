"""What a SavedModel's graph does beside computing: it is a program, and some operations reach outside of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_OUTSIDE = re.compile(
    r"ReadFile|WriteFile|MatchingFiles|.*PyFunc.*|.*Reader.*|InitializeTableFromTextFile.*|.*SummaryFileWriter.*|Rpc.*"
    r"|.*(TextLine|Record|Csv|Sql|LMDB|Snapshot|Save|Load|File)Dataset.*|.*RecordInput.*|.*Debug.*|XlaHostCompute"
)
"""Operations that read or write files, call Python, or talk to others."""

_OF_SAVERS = frozenset({"Save", "SaveSlices", "SaveV2", "Restore", "RestoreSlice", "RestoreV2", "MergeV2Checkpoints"})
"""Operations on files that every SavedModel has, in functions that nothing but a saver calls."""


def reaching_outside(file: Path) -> list[str]:
    """Return the names (``tensorflow.ReadFile``) of the operations that reach outside of a ``saved_model.pb``, sorted.

    The list of those names is one of what is known: TensorFlow has more than a thousand operations, and may get others.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    found: set[str] = set()
    for one in SavedModel.FromString(file.read_bytes()).meta_graphs:
        functions = {function.signature.name: function.node_def for function in one.graph_def.library.function}
        for nodes in (one.graph_def.node, *functions.values()):
            found |= {node.op for node in nodes if _OUTSIDE.fullmatch(node.op)}
        # A saver is called by the outermost graph, which is not run when a SavedModel is loaded as an object.
        called = {name for nodes in functions.values() for name in _called(nodes)}
        for name in called | set(one.object_graph_def.concrete_functions):
            found |= {node.op for node in functions.get(name, ()) if node.op in _OF_SAVERS}
    return sorted(f"tensorflow.{name}" for name in found)


def _called(nodes: Iterable[Any]) -> Iterable[str]:
    for node in nodes:
        yield node.op
        for value in node.attr.values():
            yield value.func.name
            yield from (function.name for function in value.list.func)
