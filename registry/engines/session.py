"""Run an ONNX model on the CPU through onnxruntime, always with the same options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from registry.engines.key import SessionSettings
from registry.engines.onnx_file import check_onnx
from registry.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

# onnxruntime's errors have no base of their own below Exception.
_FAILURES: tuple[type[Exception], ...] = (
    failures.EPFail,
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NoModel,
    failures.NoSuchFile,
    failures.NotImplemented,
    failures.RuntimeException,
    # What its Python side raises for a missing input or one that is no array.
    ValueError,
    TypeError,
)


class OnnxSession:
    """An open model; calling it is thread-safe. ``input_names`` and ``output_names`` are in the model's order."""

    def __init__(self, path: str | Path, *, settings: SessionSettings) -> None:
        """Open a file that has been checked (``check_onnx``).

        Raises:
            EngineError: onnxruntime cannot load it.
        """
        self.path, self.settings = str(path), settings
        try:
            self._session = onnxruntime.InferenceSession(
                self.path, sess_options=_options(settings), providers=[settings.provider]
            )
        except _FAILURES as refusal:
            raise EngineError(f"onnxruntime cannot load {self.path}: {refusal}") from refusal
        self.input_names = tuple(entry.name for entry in self._session.get_inputs())
        self.output_names = tuple(entry.name for entry in self._session.get_outputs())
        self._first_input = next(iter(self.input_names), "")
        self._first_output = list(self.output_names[:1])

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output by its name for inputs given by name.

        Raises:
            EngineError: An input is missing, unknown, or of another type or shape than the model takes.
        """
        try:
            found = self._session.run(None, dict(feeds))
        except _FAILURES as refusal:
            raise EngineError(f"onnxruntime could not run {self.path}: {refusal}") from refusal
        return dict(zip(self.output_names, found, strict=True))

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the first output for a batch given to the first input, (b, ...) to (b, ...).

        Raises:
            EngineError: As for ``run``.
        """
        # By itself and not by way of ``run``: on a small model its dictionaries would be a tenth of the time.
        try:
            found: NDArray[Any] = self._session.run(self._first_output, {self._first_input: batch})[0]
        except _FAILURES as refusal:
            raise EngineError(f"onnxruntime could not run {self.path}: {refusal}") from refusal
        return found


def open_onnx(path: str | Path, *, threads: int = 1) -> OnnxSession:
    """Check an ONNX file and open it.

    Args:
        path: The file; its external data lies beside it.
        threads: How many threads one operator may use, >= 1.

    Raises:
        EngineError: The file is not valid ONNX, reaches outside its folder, or onnxruntime cannot load it.
    """
    checked = check_onnx(path)
    return OnnxSession(checked.path, settings=SessionSettings(threads=threads))


def _options(settings: SessionSettings) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = settings.inter_op_threads
    options.execution_mode = getattr(onnxruntime.ExecutionMode, settings.execution_mode)
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, settings.graph_optimization)
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(settings.spinning)))
    options.log_severity_level = 3  # errors only: its warnings are about its own fusions
    return options
