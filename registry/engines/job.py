"""What a candidate's own process is told, and the files that it leaves behind."""

from __future__ import annotations

from pathlib import Path

from registry.base import Record
from registry.engines.key import engine_key, this_machine
from registry.engines.records import OnnxModel, VariantReport
from registry.engines.spec import EngineName, OptimizeSpec

GOLDEN_OUTPUTS = "golden.npy"
"""In an engine's folder: its own outputs for the version's golden samples, which a deployment must give again."""


class Job(Record):
    """One candidate to try; ``folder`` is an empty folder of its own.

    ``samples`` are what it is judged on, ``calibration`` what its ranges come from, ``golden`` what was kept with the
    version, all .npy files. ``program`` is the torch program that the ONNX was made from, where there is one.
    ``known`` are the keys of engines that need not be built; ``built`` names the file of one that lies in its folder.
    """

    engine: EngineName
    onnx: OnnxModel
    samples: Path
    calibration: Path
    folder: Path
    spec: OptimizeSpec
    golden: Path | None = None
    known: tuple[str, ...] = ()
    built: str | None = None
    program: Path | None = None

    @property
    def result(self) -> Path:
        """The report, as JSON: written once when the key is known, and again at the end."""
        return self.folder / "result.json"

    @property
    def outputs(self) -> Path:
        """The outputs for all samples, .npy, where the engine ran."""
        return self.folder / "outputs.npy"

    @property
    def was_built(self) -> Path:
        """A file that is there when the engine's key is one of those that are known, and nothing was built."""
        return self.folder / "was-built"

    @property
    def timings(self) -> Path:
        """The digest of the timings that a builder began with, as text, where it keeps any."""
        return self.folder / "timing-cache.sha256"

    @property
    def engine_folder(self) -> Path:
        """The files of the engine and nothing else."""
        return self.folder / "engine"

    def write_result(self, report: VariantReport) -> None:
        """Put a report in place, whole or not at all."""
        written = self.result.with_suffix(".writing")
        written.write_text(report.model_dump_json(), encoding="utf-8")
        written.replace(self.result)

    def without_key(self) -> VariantReport:
        """Return a report for a candidate of which nothing more is known than what was asked for."""
        machine = this_machine()
        fields = {
            "engine": self.engine,
            "onnx_sha256": self.onnx.sha256,
            "os": machine.os,
            "arch": machine.arch,
        }
        return VariantReport(
            key=engine_key(fields),
            key_fields=fields,
            engine=self.engine,
            status="failed",
            reason="it began and did not end",
            driver=machine.gpu.driver if machine.gpu else None,
        )
