"""Write the precision of an engine into its ONNX: other types of floats, or pairs of nodes that quantise and undo it.

Call it in a process of its own: it moves this process's temporary folder for as long as it runs, and a process that
has imported ModelOpt can no longer quantise with onnxruntime.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx as onnx_package
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from registry.engines.onnx_file import check_onnx
from registry.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel

Scheme = Literal["u8s8", "s8s8"]
Method = Literal["minmax", "entropy", "percentile"]

CALIBRATION_BATCH = 8
"""How many samples are run at once where the batch is free; every tensor of every run is held in memory."""

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}

WITH_WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Named, and in order: onnxruntime's own list is a set, whose order changes with the hash seed of the process.
BETWEEN_CONVOLUTIONS = ("Add", "AveragePool", "Clip", "Concat", "GlobalAveragePool", "MaxPool", "Relu")
"""What a CPU runs faster in int8 between two convolutions; in BERT-base they cost accuracy and gained no time."""

SINGLE_FILE_BYTES = 1 << 30
"""From here on weights go into a file beside the model; protobuf's own limit is twice that, copies included."""


def quantized(
    onnx: OnnxModel,
    calibration: NDArray[Any],
    folder: Path,
    *,
    scheme: Scheme,
    method: Method = "minmax",
) -> OnnxModel:
    """Return an int8 version of a model, its weights per channel; the same arguments give the same bytes.

    Inputs and outputs keep their names and types. ``u8s8`` (unsigned activations with a zero point, signed weights of
    7 bits) is for CPUs: with 8 bits, two products overflow the 16-bit sums of x86 processors without VNNI, and an
    engine made on one machine would answer otherwise on another (measured on an emulated Haswell: 7 times the error,
    6 % of the classes; with 7 bits nothing changed, and ResNet-50 lost 0.0004 of its cosine). ``s8s8`` (both signed
    and symmetric, biases left alone) is what TensorRT's parser takes.

    Args:
        onnx: What to quantise, with one input and one output.
        calibration: Real inputs, shape (n, ...), n >= 1; they set the ranges of the activations.
        folder: Where ``model.onnx`` is written, with ``model.onnx.data`` where the weights are large; made if missing.
        scheme: The integer types of activations and weights.
        method: How a range is found: the extremes (of few samples), or by histogram without rare ones.

    Raises:
        EngineError: There are no samples, or onnxruntime cannot quantise the model; the message says why.
    """
    batches = _Batches(onnx.only_input().name, calibration, calibration_batch(onnx, calibration))
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_in(folder) as scratch:
        try:
            with quiet():
                _quantise(onnx, batches, scratch, scheme=scheme, method=method)
                without_unused_domains(scratch / "model.onnx")
        except Exception as refusal:
            why = " ".join(str(refusal).split()) or type(refusal).__name__
            raise EngineError(
                f"onnxruntime cannot quantise {onnx.path.name} to {scheme} ({method}): {why}. "
                "Check the samples against the model's input, or leave int8 out."
            ) from refusal
        found = check_onnx(scratch / "model.onnx")
        must_have_changed(found, onnx, "int8")
        return moved(found, folder)


def without_unused_domains(path: Path) -> None:
    """Have an ONNX file name only the operator sets that its nodes are from; onnxruntime writes all that it knows."""
    model = onnx_package.load(str(path), load_external_data=False)
    used = {node.domain for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    path.write_bytes(model.SerializeToString(deterministic=True))


def moved(model: OnnxModel, folder: Path) -> OnnxModel:
    """Move a model's files into another folder of the same disk: first the weights, so it is never seen without."""
    for name in reversed(model.files):
        (model.path.parent / name).replace(folder / name)
    return model.model_copy(update={"path": folder / model.path.name})


def _quantise(onnx: OnnxModel, batches: _Batches, scratch: Path, *, scheme: Scheme, method: Method) -> None:
    large, symmetric = is_large(onnx), scheme == "s8s8"
    prepared = scratch / "prepared.onnx"
    # Symbolic shape inference is left out: it writes into the working directory, and no operator here needs it.
    quant_pre_process(
        str(onnx.path),
        str(prepared),
        skip_symbolic_shape=True,
        save_as_external_data=large,
        all_tensors_to_one_file=large,
    )
    nodes = onnx_package.load(str(prepared), load_external_data=False).graph.node
    convolves = any(node.op_type == "Conv" for node in nodes)
    quantize_static(
        str(prepared),
        str(scratch / "model.onnx"),
        batches,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*WITH_WEIGHTS, *(BETWEEN_CONVOLUTIONS if convolves and not symmetric else ())],
        per_channel=True,
        reduce_range=not symmetric,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        use_external_data_format=large,
        calibrate_method=METHODS[method],
        extra_options={
            "ActivationSymmetric": symmetric,
            "WeightSymmetric": True,
            "QuantizeBias": not symmetric,
            "CalibTensorRangeSymmetric": symmetric,
        },
    )


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime carries no types
    """The samples in batches of one size, the last one filled up from the first: histograms take no other."""

    def __init__(self, name: str, samples: NDArray[Any], size: int) -> None:
        self._name, self._samples, self._size, self._next = name, samples, size, 0

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next batch by the input's name, or None after the last."""
        start, self._next = self._next, self._next + self._size
        if start >= len(self._samples):
            return None
        rows = np.arange(start, self._next) % len(self._samples)
        return {self._name: np.ascontiguousarray(self._samples[rows])}


@contextlib.contextmanager
def scratch_in(folder: Path) -> Iterator[Path]:
    """Give a folder that goes away, and have onnxruntime's own temporary files (each as large as the model) in it."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix=".quantise-", dir=folder) as scratch:
        tempfile.tempdir = scratch
        try:
            yield Path(scratch)
        finally:
            tempfile.tempdir = before


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep onnxruntime's advice, which goes to the root logger and to stdout, away."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def save(model: onnx_package.ModelProto, path: Path, *, large: bool) -> None:
    """Write a model, its weights beside it where they are large."""
    onnx_package.save_model(model, str(path), save_as_external_data=large, location=path.name + ".data")


def is_large(onnx: OnnxModel) -> bool:
    """Return whether a model's weights belong into a file of their own."""
    return sum((onnx.path.parent / name).stat().st_size for name in onnx.files) >= SINGLE_FILE_BYTES


def calibration_batch(onnx: OnnxModel, calibration: NDArray[Any]) -> int:
    """Return how many samples to run at once."""
    given = onnx.only_input()
    if len(calibration) == 0:
        raise EngineError(f"{onnx.path.name} cannot be quantised without samples. Give some that are like real inputs.")
    fixed = given.shape[0] if given.shape and given.shape[0] != -1 else None
    return fixed or min(CALIBRATION_BATCH, len(calibration))


def must_have_changed(found: OnnxModel, onnx: OnnxModel, precision: str) -> None:
    """Refuse a model in which nothing could be given the new type: it would be the old one under another name."""
    graph = onnx_package.load(str(found.path), load_external_data=False).graph
    used = {node.op_type for node in graph.node}
    kinds = {onnx_package.TensorProto.FLOAT16, onnx_package.TensorProto.BFLOAT16}
    if precision in {"int8", "fp8"} and "QuantizeLinear" in used:
        return
    if precision in {"fp16", "bf16"} and any(tensor.data_type in kinds for tensor in graph.initializer):
        return
    raise EngineError(
        f"nothing in {onnx.path.name} can be {precision}: it has no operator that gains by it. Leave it out."
    )
