"""Call whatever was loaded as a function from one array to one array."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_ONE_FILE_BYTES = 1 << 30
"""Protobuf ends at 2 GiB; weights go beside the graph well before that."""


def predictor_of(loaded: object, full_name: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return a loaded model as a function from inputs, shape (n, ...), to outputs, shape (n, ...).

    Args:
        loaded: What ``load`` gave: a torch module or an ONNX ModelProto.
        full_name: Its name and version, for the message.

    Raises:
        EngineError: It is neither.
    """
    # An object of a framework cannot exist before the framework was imported.
    torch, onnx = sys.modules.get("torch"), sys.modules.get("onnx")
    if torch is not None and isinstance(loaded, torch.nn.Module):
        from registry.frameworks.torch import predictor

        return predictor(loaded)
    if onnx is not None and isinstance(loaded, onnx.ModelProto):
        from registry.engines.session import open_onnx

        with tempfile.TemporaryDirectory(prefix="modelway-") as scratch:
            file = Path(scratch, "model.onnx")
            onnx.save_model(loaded, file, save_as_external_data=loaded.ByteSize() > _LARGEST_ONE_FILE_BYTES)
            return open_onnx(file)
    raise EngineError(
        f"{full_name} was loaded as {type(loaded).__name__}, and only torch modules and ONNX models can be called on "
        f"arrays: register it as one of them."
    )
