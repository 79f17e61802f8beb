"""What a candidate's own process is told, and the files that it leaves behind."""

from __future__ import annotations

from pathlib import Path

from registry.base import Record
from registry.engines.key import engine_key, this_machine
from registry.engines.records import OnnxModel, VariantReport
from registry.engines.spec import EngineName, OptimizeSpec


class Job(Record):
    """One candidate to try; ``samples`` is an .npy file, ``folder`` an empty folder of its own."""

    engine: EngineName
    onnx: OnnxModel
    samples: Path
    folder: Path
    spec: OptimizeSpec

    @property
    def result(self) -> Path:
        """The report, as JSON: written once when the key is known, and again at the end."""
        return self.folder / "result.json"

    @property
    def outputs(self) -> Path:
        """The outputs for all samples, .npy, where the engine ran."""
        return self.folder / "outputs.npy"

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
