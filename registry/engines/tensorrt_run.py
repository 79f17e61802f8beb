"""Run a TensorRT engine; it is code, loaded only after its digest was checked, and never with host code allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from registry.engines.tensorrt import kept_errors, why_not_here
from registry.errors import EngineError, NotHereError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.engines.tensorrt import TensorRt


class TensorRtEngine:
    """An engine on the GPU, ready to be called with one batch at a time; not thread-safe, as its context is not."""

    def __init__(self, backend: TensorRt, plan: bytes | memoryview) -> None:
        """Load a plan whose digest has been checked.

        Raises:
            NotHereError: No engine can run on this machine.
            EngineError: TensorRT refuses the plan.
        """
        if trouble := why_not_here(backend):
            raise NotHereError(f"the TensorRT engine cannot run here: {trouble}.")
        self._trt, self._log = backend.module, kept_errors(backend.module)
        self._runtime = self._trt.Runtime(self._log)
        self._runtime.engine_host_code_allowed = False
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        self._context = self._engine and self._engine.create_execution_context()
        if not self._context:
            raise EngineError(f"{backend.title} refuses the engine: {self._log.said}")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT]
        self._input, self._output = inputs[0], next(name for name in names if name not in inputs)

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the output for a batch, (b, ...) to (b, ...); the copies to the GPU and back are part of the call.

        Raises:
            EngineError: The batch has a shape outside the engine's profile, or the run failed.
        """
        import torch  # here for the same reason as in why_not_here

        given = torch.from_numpy(np.ascontiguousarray(batch, dtype=self._dtype(self._input))).cuda()
        if not self._context.set_input_shape(self._input, tuple(given.shape)):
            raise EngineError(f"the TensorRT engine takes no {tuple(given.shape)}: {self._log.said}")
        shape = tuple(self._context.get_tensor_shape(self._output))
        answer = torch.from_numpy(np.empty(shape, dtype=self._dtype(self._output))).cuda()
        self._context.set_tensor_address(self._input, given.data_ptr())
        self._context.set_tensor_address(self._output, answer.data_ptr())
        # A stream of its own: on the default one TensorRT synchronises more. It starts once the copies above are done.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise EngineError(f"the TensorRT engine failed: {self._log.said}")
        stream.synchronize()
        found: NDArray[Any] = answer.cpu().numpy()
        return found

    def _dtype(self, name: str) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        return dtype
