"""What an optimisation is asked to build, how it is measured, and how far it may fall behind the original."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from registry.base import Record, as_tuple

EngineName = Literal[
    "onnxruntime", "onnxruntime-int8",
    "openvino", "openvino-bf16", "openvino-int8",
    "aotinductor",
    "tensorrt", "tensorrt-tf32", "tensorrt-fp16", "tensorrt-bf16", "tensorrt-int8", "tensorrt-fp8",
]  # fmt: skip
"""A backend, and the precision of its arithmetic where that is not float32."""


class Calibration(Record):
    """How the ranges of an int8 or fp8 engine are found: from so many samples, by this method of onnxruntime's."""

    samples: int = Field(default=128, ge=1)
    method: Literal["minmax", "entropy", "percentile"] = "minmax"


class TensorRtSpec(Record):
    """What a TensorRT engine is built with.

    ``workspace_mib`` bounds the memory that a layer may take while it runs; ``optimization_level`` is 0 (quick to
    build) to 5. ``hardware_compatibility`` is the full TensorRT's, ``targets`` are TensorRT-RTX's: compute capabilities
    to build for, none for this GPU's own or, where it does not fit, all that there are.
    """

    workspace_mib: int = Field(default=1024, ge=1)
    optimization_level: int = Field(default=3, ge=0, le=5)
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = "none"
    targets: tuple[str, ...] = ()

    _sequences = field_validator("targets", mode="before")(as_tuple)


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

    ``batch_sizes`` are measured and lie inside ``batch``; the first decides which engine is chosen. ``threads`` are
    what the original and every CPU engine may use: the first decides and serves, the others are measured beside it.

    The fastest engine is chosen whose score is at most ``max_score_drop`` (in the unit of the pipeline's score) below
    the original's; with ``latency_budget_ms`` the most accurate one that answers within it (p50). An engine of full
    precision passes if each output is within ``atol + rtol * |original|``; one of less precision if the outputs of the
    worst sample have a cosine of at least ``min_cosine`` with the original's, and, where outputs are classes, the
    largest one is the same for at least the share ``min_agreement``. Its score is known to ``confidence`` (0.95 for
    95 %) by ``resamples`` bootstrap resamples, 0 for none.

    ``time_limit_s`` and ``memory_limit_gib`` are for each candidate, building and measuring together; without a memory
    limit it gets nine tenths of what is free when it begins.
    """

    engines: tuple[EngineName, ...] = ("onnxruntime", "tensorrt")
    batch: BatchRange = BatchRange()
    batch_sizes: tuple[int, ...] = Field(default=(1, 32), min_length=1)
    warmup: int = Field(default=10, ge=0)
    repetitions: int = Field(default=100, ge=1)
    max_score_drop: float = Field(default=0.005, ge=0)
    latency_budget_ms: float | None = Field(default=None, gt=0)
    atol: float = Field(default=1e-3, ge=0)
    rtol: float = Field(default=1e-3, ge=0)
    min_cosine: float = Field(default=0.98, ge=-1, le=1)
    min_agreement: float = Field(default=0.98, ge=0, le=1)
    resamples: int = Field(default=200, ge=0)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    calibration: Calibration = Calibration()
    tensorrt: TensorRtSpec = TensorRtSpec()
    time_limit_s: float = Field(default=120.0, gt=0)
    memory_limit_gib: float | None = Field(default=None, gt=0)
    threads: tuple[int, ...] = (1,)
    opset: int = Field(default=20, ge=18)

    _sequences = field_validator("engines", "batch_sizes", mode="before")(as_tuple)

    @field_validator("threads", mode="before")
    @classmethod
    def _threads(cls, value: object) -> object:
        return (value,) if isinstance(value, int) else as_tuple(value)

    @field_validator("threads")
    @classmethod
    def _some_threads(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1:
            raise ValueError(f"threads must be 1 or more, or a list of such numbers; found {list(value)}.")
        return value

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        outside = [size for size in self.batch_sizes if not self.batch.min <= size <= self.batch.max]
        if outside:
            raise ValueError(
                f"batch_sizes {outside} lie outside the batch range {self.batch.min} to {self.batch.max}. "
                "Measure sizes inside it, or widen batch.min and batch.max."
            )
        for name in ("engines", "batch_sizes", "threads"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise ValueError(f"{name} names one twice: {', '.join(map(str, given))}. Name each once.")
        return self
