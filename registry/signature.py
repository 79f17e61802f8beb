"""What goes into a model and what comes out: names, types and shapes of its tensors."""

from __future__ import annotations

from registry.base import StoredRecord


class TensorSpec(StoredRecord):
    """One tensor: ``dtype`` is a numpy name (``float32``), ``shape`` has -1 where a size is free."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Signature(StoredRecord):
    """The inputs and outputs of a model, in call order."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
