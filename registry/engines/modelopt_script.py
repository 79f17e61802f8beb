"""Give an ONNX model another precision with NVIDIA ModelOpt: ``python modelopt_script.py JOB.json``.

It runs in an environment of its own, with nothing of modelway in it: ModelOpt wants other versions of onnx and
onnxruntime, and breaks onnxruntime's quantisation in the process that imported it. The job is an object with the paths
``onnx``, ``calibration`` (.npy) and ``output``, all in one folder that may be written to, and ``precision``, ``input``,
``batch`` and ``method`` (max or entropy).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

SINGLE_FILE_BYTES = 1 << 30


def main(job: dict[str, Any]) -> None:
    """Write the model that the job asks for."""
    samples = np.load(job["calibration"], allow_pickle=False)
    rows = [np.arange(start, start + job["batch"]) % len(samples) for start in range(0, len(samples), job["batch"])]
    batches = [{job["input"]: np.ascontiguousarray(samples[index])} for index in rows]
    if job["precision"] in {"fp16", "bf16"}:
        _cast(job, batches)
    else:
        _quantise(job, batches)


def _cast(job: dict[str, Any], batches: list[dict[str, Any]]) -> None:
    import onnx
    from modelopt.onnx.autocast import convert_to_mixed_precision  # type: ignore[import-not-found]

    folder = Path(job["output"]).parent / "batches"
    folder.mkdir()
    for number, batch in enumerate(batches):
        np.savez(folder / f"{number:06d}.npz", **batch)
    model = convert_to_mixed_precision(
        job["onnx"], low_precision_type=job["precision"], keep_io_types=True, calibration_data=str(folder)
    )
    large = model.ByteSize() >= SINGLE_FILE_BYTES
    onnx.save_model(model, job["output"], save_as_external_data=large, location=Path(job["output"]).name + ".data")


def _quantise(job: dict[str, Any], batches: list[dict[str, Any]]) -> None:
    from modelopt.onnx.quantization import quantize  # type: ignore[import-not-found]
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime carries no types
        def __init__(self) -> None:
            self.rewind()

        def get_next(self) -> dict[str, Any] | None:
            return next(self.left, None)

        def get_first(self) -> dict[str, Any]:
            return batches[0]

        def rewind(self) -> None:
            self.left = iter(batches)

    size_bytes = sum(file.stat().st_size for file in Path(job["onnx"]).parent.iterdir())
    quantize(
        job["onnx"],
        quantize_mode=job["precision"],
        calibration_data_reader=Reader(),
        calibration_method=job["method"],
        calibration_eps=["cpu"],
        high_precision_dtype="fp16",
        use_external_data_format=size_bytes >= SINGLE_FILE_BYTES,
        output_path=job["output"],
    )


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
