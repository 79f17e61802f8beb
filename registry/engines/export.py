"""Turn a torch module into an ONNX file whose bytes depend on the model alone."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from registry.engines.onnx_file import check_onnx
from registry.errors import EngineError
from registry.frameworks.torch import evaluating

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel
    from registry.engines.spec import OptimizeSpec

__all__ = ["check_onnx", "export_torch"]


def export_torch(module: torch.nn.Module, samples: NDArray[Any], path: str | Path, *, spec: OptimizeSpec) -> OnnxModel:
    """Export a module that takes one tensor to ONNX, with a free first axis named ``batch``, and check the file.

    The module is exported in evaluation mode and left as it was. The input is named ``input``; a single output
    ``output``, several ``output_0``, ``output_1``, ..., a mapping's by its keys. The same weights and code give the
    same bytes wherever the code lies: source paths and stack traces are not kept. Weights above 2 GB go into a second
    file beside the first.

    Args:
        module: What to export, on any device.
        samples: Real inputs, shape (n, ...), n >= 1, in the dtype that the module takes; two of them are traced.
        path: The file to write; an existing one is replaced.
        spec: Its ``opset``, and ``batch`` for the range of the free axis; with min == max the axis is fixed.

    Raises:
        EngineError: torch cannot export the module for that range of batch sizes, or the file is not valid ONNX.
    """
    path = Path(path)
    with evaluating(module), _quiet():
        try:
            program = _export(module, samples, spec=spec)
        except Exception as refusal:
            raise _refused(module, refusal) from refusal
    ClearMetadataAndDocStringPass()(program.model)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as scratch:
        written = Path(scratch, path.name)
        program.save(written)
        model = check_onnx(written)
        # The weights first: a model file is never seen without them.
        for name in reversed(model.files):
            Path(scratch, name).replace(path.parent / name)
    return model.model_copy(update={"path": path})


def _export(module: torch.nn.Module, samples: NDArray[Any], *, spec: OptimizeSpec) -> torch.onnx.ONNXProgram:
    example = _example(module, samples, spec=spec)
    with torch.inference_mode():
        outputs = _output_names(module(example))
    free = spec.batch.min < spec.batch.max
    axis = torch.export.Dim("batch", min=spec.batch.min, max=spec.batch.max) if free else None
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        verbose=False,
        opset_version=spec.opset,
        input_names=["input"],
        output_names=outputs,
        dynamic_shapes=({0: axis},) if free else None,
    )
    if program is None:  # only the old, non-dynamo exporter gives None
        raise EngineError("torch.onnx.export gave no program.")
    return program


def _example(module: torch.nn.Module, samples: NDArray[Any], *, spec: OptimizeSpec) -> torch.Tensor:
    # torch takes a traced batch of 1 for a constant, so at least two rows, repeated where there are fewer samples.
    rows = spec.batch.max if spec.batch.min == spec.batch.max else max(2, spec.batch.min)
    if len(samples) == 0:
        raise EngineError("no samples to trace the module with; at least one is needed.")
    example = torch.from_numpy(np.ascontiguousarray(samples[np.arange(rows) % len(samples)]))
    weights = next(module.parameters(), None)
    return example if weights is None else example.to(weights.device)


def _output_names(found: object) -> list[str]:
    match found:
        case torch.Tensor():
            return ["output"]
        case Mapping():
            return [str(name) for name in found]
        case tuple() | list() if all(isinstance(part, torch.Tensor) for part in found):
            return [f"output_{index}" for index in range(len(found))]
    raise EngineError(f"it returns {type(found).__name__}; a tensor, or a sequence or mapping of tensors is needed.")


def _refused(module: torch.nn.Module, refusal: Exception) -> EngineError:
    # torch wraps the cause in pages of advice; the cause itself is the innermost error, its first lines the point.
    cause: BaseException = refusal
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()][:4]
    why = " ".join(lines) or type(cause).__name__
    return EngineError(
        f"{type(module).__name__} cannot be exported to ONNX: {why} "
        "Try torch.export.export on it for the whole story, or register an ONNX file instead."
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress lines, its notes on missing packages and its own deprecations away."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
