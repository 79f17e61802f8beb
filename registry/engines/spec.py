"""What an optimisation is asked to build, how it is measured, and how far it may fall behind the original."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from registry.base import Record, as_tuple

EngineName = Literal["onnxruntime", "tensorrt"]


class BatchRange(Record):
    """The batch sizes that an engine takes, and the one that it is tuned for: 1 <= min <= opt <= max."""

    min: int = Field(default=1, ge=1)
    opt: int = Field(default=8, ge=1)
    max: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.min <= self.opt <= self.max:
            found = f"min {self.min}, opt {self.opt}, max {self.max}"
            raise ValueError(f"a batch range needs min <= opt <= max; found {found}. Put the three in order.")
        return self


class OptimizeSpec(Record):
    """How a version is optimised; a YAML file's lists are read as the tuples kept here.

    ``batch_sizes`` are measured and lie inside ``batch``; the first decides which engine is chosen. ``max_score_drop``
    is in the unit of the pipeline's score. An output passes if it is within ``atol + rtol * |original|``.
    ``time_limit_s`` is for each candidate, building and measuring together; ``threads`` is what the original and every
    CPU engine may use.
    """

    engines: tuple[EngineName, ...] = ("onnxruntime", "tensorrt")
    batch: BatchRange = BatchRange()
    batch_sizes: tuple[int, ...] = Field(default=(1, 32), min_length=1)
    warmup: int = Field(default=10, ge=0)
    repetitions: int = Field(default=100, ge=1)
    max_score_drop: float = Field(default=0.005, ge=0)
    atol: float = Field(default=1e-3, ge=0)
    rtol: float = Field(default=1e-3, ge=0)
    time_limit_s: float = Field(default=120.0, gt=0)
    threads: int = Field(default=1, ge=1)
    opset: int = Field(default=20, ge=18)

    _sequences = field_validator("engines", "batch_sizes", mode="before")(as_tuple)

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        outside = [size for size in self.batch_sizes if not self.batch.min <= size <= self.batch.max]
        if outside:
            raise ValueError(
                f"batch_sizes {outside} lie outside the batch range {self.batch.min} to {self.batch.max}. "
                "Measure sizes inside it, or widen batch.min and batch.max."
            )
        if len(set(self.engines)) < len(self.engines):
            raise ValueError(f"engines names one twice: {', '.join(self.engines)}. Name each once.")
        return self
