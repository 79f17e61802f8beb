"""What is known of an engine: the ONNX it comes from, its key, how close it is to the original, how fast it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from registry.base import Record, StoredRecord
from registry.errors import EngineError
from registry.signature import Signature, TensorSpec


class OnnxModel(Record):
    """A checked ONNX file; ``files`` are the names of all its files, itself first, then its external data.

    ``sha256`` covers all of them, so two models with the same digest hold the same weights.
    """

    path: Path
    files: tuple[str, ...]
    sha256: str
    opset: int
    ir_version: int
    signature: Signature

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs, in call order."""
        return tuple(tensor.name for tensor in self.signature.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return tuple(tensor.name for tensor in self.signature.outputs)

    def only_input(self) -> TensorSpec:
        """Return the one input.

        Raises:
            EngineError: The model has none, or more than one input or output.
        """
        if len(self.signature.inputs) == 1 and len(self.signature.outputs) == 1:
            return self.signature.inputs[0]
        inputs, outputs = ", ".join(self.input_names) or "none", ", ".join(self.output_names) or "none"
        raise EngineError(
            f"{self.path.name} cannot be optimised: one input and one output are asked for, it has the inputs {inputs} "
            f"and the outputs {outputs}. Deploy it as it is, or export a module with a single tensor in and out."
        )


class Latency(StoredRecord):
    """Measured latency of one batch size, in milliseconds a call, warm-up removed; throughput in samples a second.

    ``spread_ms`` is the distance between the first and the third quartile, ``threads`` what the engine might use.
    """

    batch: int
    repetitions: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    samples_per_s: float
    spread_ms: float | None = None
    threads: int = 1


class Parity(StoredRecord):
    """How far an engine's outputs are from the original's on the same samples.

    ``reason`` says why it did not pass. The distances are missing where there is none to give: shapes that
    differ, or values that are not finite; ``max_rel`` also beside a 0 of the original's, where nothing is relative.
    """

    samples: int
    max_abs: float | None
    max_rel: float | None
    cosine: float | None
    top1_agreement: float | None = None
    passed: bool
    reason: str = ""


class Interval(StoredRecord):
    """Where a value lies with the given ``confidence`` (0.95 for 95 %)."""

    low: float
    high: float
    confidence: float


class VariantReport(StoredRecord):
    """One candidate, tried: ``measured`` ran here, ``built`` could not run on this machine, the others have no files.

    ``key`` is the sha256 of the canonical JSON of ``key_fields``; a variant is loaded only where its key fields match.
    ``score`` is the pipeline's own metric (0 to 1 for accuracy) on the samples, ``score_drop`` the original's minus it.
    ``objection`` says why it must not answer in the original's place, empty where it may.
    ``driver`` is the CUDA version of the driver that it was built under, ``timing_cache`` the digest of the timings
    that its builder started with: not in the key, but reasons to check again.
    """

    key: str
    key_fields: dict[str, Any]
    engine: str
    file: str | None = None
    status: Literal["measured", "built", "failed", "unavailable"]
    reason: str = ""
    objection: str = ""
    parity: Parity | None = None
    score: float | None = None
    score_drop: float | None = None
    score_interval: Interval | None = None
    drop_interval: Interval | None = None
    latency: tuple[Latency, ...] = ()
    size_bytes: int | None = None
    build_s: float | None = None
    driver: str | None = None
    timing_cache: str | None = None

    def latency_at(self, batch: int) -> Latency | None:
        """Return what was measured at this batch size with the threads that serve, if anything was."""
        return next((latency for latency in self.latency if latency.batch == batch), None)

    @property
    def is_fit(self) -> bool:
        """Whether it ran, and may answer in the original's place."""
        same = self.parity is not None and self.parity.passed
        return self.status == "measured" and same and not self.objection


class Choice(StoredRecord):
    """Which variant serves: its key, or None for the original; ``speedup`` is p50 over p50 at the first batch size."""

    key: str | None
    reason: str
    speedup: float | None = None
