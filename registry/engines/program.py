"""Export a torch module as a program for AOTInductor, over the same range of batch sizes as its ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from registry.errors import EngineError, InvalidInputError
from registry.frameworks.torch import evaluating
from registry.frameworks.torch_program import FILE_NAME, write_program

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.engines.spec import OptimizeSpec


def export_program(module: torch.nn.Module, samples: NDArray[Any], folder: Path, *, spec: OptimizeSpec) -> Path:
    """Write ``model.pt2`` into a folder, with a free first axis over the batch sizes of the spec, and return its path.

    Args:
        module: What to export, on any device; it is left as it was.
        samples: Real inputs, shape (n, ...), n >= 1; two of them are traced.
        folder: Where to; it is made.
        spec: Its ``batch`` is the range of the free axis; with min == max the axis is fixed.

    Raises:
        EngineError: torch cannot export it.
    """
    free = spec.batch.min < spec.batch.max
    # torch takes a traced batch of 1 for a constant.
    rows = max(2, spec.batch.min) if free else spec.batch.max
    example = torch.from_numpy(np.ascontiguousarray(samples[np.arange(rows) % len(samples)]))
    axis = torch.export.Dim("batch", min=spec.batch.min, max=spec.batch.max) if free else None
    folder.mkdir(parents=True, exist_ok=True)
    with evaluating(module), warnings.catch_warnings(), torch.inference_mode(mode=False):
        warnings.simplefilter("ignore")  # torch's own deprecations
        try:
            shapes = ({0: axis},) if free else None
            program = torch.export.export(module, (example,), dynamic_shapes=shapes)
            write_program(program, folder / FILE_NAME)
        except InvalidInputError as refusal:
            raise EngineError(str(refusal)) from refusal
        except Exception as refusal:
            why = " ".join(str(refusal).split())[:400]
            raise EngineError(f"{type(module).__name__} cannot be exported by torch.export: {why}") from refusal
    return folder / FILE_NAME
