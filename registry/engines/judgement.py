"""The whole evidence of one choice of an engine: what was tried, on which machine and samples, and what came of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from registry.base import StoredRecord
from registry.encoding import FORMAT
from registry.engines.choice import pareto_front
from registry.engines.records import Interval, Latency, Parity, VariantReport
from registry.records import Manifest

JUDGED = "judged-"
JUDGEMENT_NAME = "judgement.json"
PLOT_NAME = "pareto.png"


class JudgedOn(StoredRecord):
    """The machine that candidates were tried on."""

    os: str
    arch: str
    processor: str
    cores: int
    memory_bytes: int
    gpu: str | None = None
    driver: str | None = None


class Pivot(StoredRecord):
    """The ONNX that the candidates were built from, and how close it is to the model that it came from."""

    sha256: str
    opset: int
    ir_version: int
    files: tuple[str, ...]
    parity: Parity | None = None


class JudgedSamples(StoredRecord):
    """What candidates were judged on: how many samples, where they came from, and the digest of their bytes."""

    count: int
    source: str
    digest: str


class Judgement(StoredRecord):
    """Every candidate of one optimisation beside the original, and the choice; ``spec`` as it was asked for.

    ``manifest`` lists what lies beside it: the plot.
    """

    format: int = FORMAT
    model: str
    version: str
    at: datetime
    by: str
    machine: JudgedOn
    spec: dict[str, Any]
    onnx: Pivot
    samples: JudgedSamples
    baseline: tuple[Latency, ...]
    baseline_score: float | None = None
    baseline_interval: Interval | None = None
    candidates: tuple[VariantReport, ...]
    chosen: str | None
    reason: str
    manifest: Manifest | None = None

    def points(self) -> list[Point]:
        """Return the original and every candidate that was measured, the fastest first."""
        return points_of(self.candidates, self.baseline, self.baseline_score, self.chosen, self.baseline_interval)


class Point(StoredRecord):
    """One row of the Pareto table, at the first batch size: ``key`` is None for the original.

    ``on_front`` says that nothing else is faster and as accurate, or more accurate and as fast; ``accuracy`` is the
    score, or without one the cosine of the worst sample.
    """

    name: str
    key: str | None
    latency: Latency
    accuracy: float | None
    interval: Interval | None = None
    on_front: bool
    chosen: bool
    fit: bool


def points_of(
    candidates: Sequence[VariantReport],
    baseline: Sequence[Latency],
    baseline_score: float | None,
    chosen: str | None,
    interval: Interval | None = None,
) -> list[Point]:
    """Return the rows of a Pareto table, the fastest first; none where the original was not measured."""
    if not baseline:
        return []
    original, size = baseline[0], baseline[0].batch
    scored = baseline_score is not None
    rows: list[tuple[str, str | None, Latency, float | None, Interval | None, bool]] = [
        ("as registered", None, original, baseline_score if scored else 1.0, interval, True)
    ]
    for one in candidates:
        if (latency := one.latency_at(size)) is not None:
            # Rounding alone must not make a worse engine of one that computes the same.
            cosine = None if one.parity is None or one.parity.cosine is None else round(one.parity.cosine, 6)
            accuracy = one.score if scored else cosine
            rows.append((one.engine, one.key, latency, accuracy, one.score_interval, one.is_fit))
    front = pareto_front([(row[2].p50_ms, row[3] if row[3] is not None else float("-inf")) for row in rows])
    points = [
        Point(
            name=name,
            key=key,
            latency=latency,
            accuracy=accuracy,
            interval=between,
            on_front=best,
            chosen=key == chosen,
            fit=fit,
        )
        for (name, key, latency, accuracy, between, fit), best in zip(rows, front, strict=True)
    ]
    return sorted(points, key=lambda point: point.latency.p50_ms)


def judgement_name(digest: str) -> str:
    """Return the folder that a judgement lies in, among those of a version's variants; ``digest`` is its JSON's."""
    return JUDGED + digest.removeprefix("sha256:")


def describe_machine() -> JudgedOn:
    """Return what is known of this machine."""
    import psutil

    from registry.engines.key import this_machine

    machine = this_machine()
    gpu = machine.gpu
    return JudgedOn(
        os=machine.os,
        arch=machine.arch,
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        gpu=gpu.name if gpu else None,
        driver=gpu.driver if gpu else None,
    )


def _processor() -> str:
    """Return the processor's name; ``platform`` knows it everywhere but on Linux."""
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
