"""Call whatever was loaded as a function from one array to one array."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from registry.errors import EngineError
from registry.frameworks.kinds import ModelFramework
from registry.frameworks.objects import framework_of

if TYPE_CHECKING:
    import onnx
    import torch
    from numpy.typing import NDArray

_LARGEST_ONE_FILE_BYTES = 1 << 30
"""Protobuf ends at 2 GiB; weights go beside the graph well before that."""


def predictor_of(loaded: object, full_name: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return a loaded model as a function from inputs, shape (n, ...), to outputs, shape (n, ...).

    Args:
        loaded: What ``load`` gave: a torch module, an ONNX ModelProto, a scikit-learn estimator or a TensorFlow model.
        full_name: Its name and version, for the message.

    Raises:
        EngineError: It is none of these.
    """
    match framework_of(loaded):
        case ModelFramework.PYTORCH if not isinstance(loaded, Mapping):
            from registry.frameworks.torch import predictor as of_torch

            return of_torch(cast("torch.nn.Module", loaded))
        case ModelFramework.SKLEARN:
            from registry.frameworks.sklearn import predictor as of_sklearn

            return of_sklearn(loaded)
        case ModelFramework.TENSORFLOW:
            from registry.frameworks.tensorflow import predictor as of_tensorflow

            return of_tensorflow(loaded)
        case ModelFramework.ONNX:
            return _of_onnx(cast("onnx.ModelProto", loaded))
    raise EngineError(
        f"{full_name} was loaded as {type(loaded).__name__}, and only torch modules, ONNX models, scikit-learn "
        f"estimators and TensorFlow models can be called on arrays: register it as one of them."
    )


def _of_onnx(model: onnx.ModelProto) -> Callable[[NDArray[Any]], NDArray[Any]]:
    import onnx

    from registry.engines.session import open_onnx

    with tempfile.TemporaryDirectory(prefix="modelway-") as scratch:
        file = Path(scratch, "model.onnx")
        onnx.save_model(model, file, save_as_external_data=model.ByteSize() > _LARGEST_ONE_FILE_BYTES)
        return open_onnx(file)
