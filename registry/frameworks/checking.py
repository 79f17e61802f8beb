"""Hold a loaded model against the signature that was recorded with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from registry.errors import EngineError, InvalidInputError, RefusedError
from registry.frameworks.predict import predictor_of
from registry.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_ROWS = 2
"""How many rows of zeros stand for a free size: torch takes a single one for a constant."""


def check_signature(model: object, signature: Signature, *, samples: NDArray[Any] | None = None) -> None:
    """Raise if a model does not take and give what its recorded signature says.

    An ONNX model says itself what it takes and gives: names, types and shapes must be those recorded. Every other model
    is run: on ``samples``, which must have the recorded type and shape, or on zeros of that shape (two for a free
    size). What it gives must have the recorded types and shapes; names are not compared, functions have none.

    Raises:
        RefusedError: It differs, names every difference; or it fails on such inputs.
        InvalidInputError: The signature is empty, the samples do not fit it, or the model cannot be run.
    """
    if not signature.inputs and not signature.outputs:
        raise InvalidInputError("the signature is empty: there is nothing to check. Register the model with samples.")
    onnx = sys.modules.get("onnx")
    if onnx is not None and isinstance(model, onnx.ModelProto):
        found = _of_onnx(model)
        differences = [
            *_differences("input", signature.inputs, found.inputs, named=True),
            *_differences("output", signature.outputs, found.outputs, named=True),
        ]
    else:
        inputs = _inputs(signature, samples)
        given = [_spec(f"output {index}", array) for index, array in enumerate(_run(model, inputs))]
        differences = [*_differences("output", signature.outputs, given, named=False)]
    if differences:
        raise RefusedError(
            f"the model does not fit the signature that was recorded with it: {'; '.join(differences)}. Load the "
            "version that was meant, or register this model with its own signature."
        )


def _differences(
    what: str, recorded: Sequence[TensorSpec], found: Sequence[TensorSpec], *, named: bool
) -> Iterator[str]:
    if len(recorded) != len(found):
        yield f"{len(recorded)} {what}s are recorded, and it has {len(found)}"
        return
    for wanted, given in zip(recorded, found, strict=True):
        if named and wanted.name != given.name:
            yield f"the {what} {wanted.name!r} is recorded, and it has {given.name!r}"
        if wanted.dtype != given.dtype:
            yield f"{what} {wanted.name!r} is recorded as {wanted.dtype}, and is {given.dtype}"
        if not _same_shape(wanted.shape, given.shape, exact=named):
            yield f"{what} {wanted.name!r} is recorded with the shape {wanted.shape}, and has {given.shape}"


def _same_shape(recorded: tuple[int, ...], found: tuple[int, ...], *, exact: bool) -> bool:
    if exact or len(recorded) != len(found):
        return recorded == found
    return all(wanted in {-1, size} for wanted, size in zip(recorded, found, strict=True))


def _inputs(signature: Signature, samples: NDArray[Any] | None) -> list[NDArray[Any]]:
    if samples is None:
        return [np.zeros([_ROWS if size < 0 else size for size in one.shape], _dtype(one)) for one in signature.inputs]
    array = np.asarray(samples)
    differences = [*_differences("input", signature.inputs, [_spec("samples", array)], named=False)]
    if differences:
        raise InvalidInputError(f"the samples do not fit the recorded signature: {'; '.join(differences)}.")
    return [array]


def _run(model: object, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
    imported = sys.modules.get("torch")
    is_module = imported is not None and isinstance(model, imported.nn.Module)
    if len(inputs) != 1 and not is_module:
        raise InvalidInputError(f"{len(inputs)} inputs are recorded, and only torch modules are run on several.")
    try:
        if is_module:
            from registry.frameworks.torch import run

            return run(cast("torch.nn.Module", model), inputs)
        return [predictor_of(model, f"a {type(model).__name__}")(inputs[0])]
    except EngineError as error:
        raise InvalidInputError(f"such a model cannot be checked: {error}") from error
    except InvalidInputError:
        raise
    except Exception as error:
        # A model is somebody's own code and may raise anything.
        shapes = ", ".join(f"{array.shape} of {array.dtype}" for array in inputs)
        raise RefusedError(
            f"the model does not take what the recorded signature says ({shapes}): {type(error).__name__}: {error}"
        ) from error


def _of_onnx(model: Any) -> Signature:
    from registry.engines.onnx_file import signature_of

    return signature_of(model.graph)


def _spec(name: str, array: NDArray[Any]) -> TensorSpec:
    return TensorSpec(name=name, dtype=str(array.dtype), shape=array.shape)


def _dtype(spec: TensorSpec) -> np.dtype[Any]:
    try:
        return np.dtype(spec.dtype)
    except TypeError:
        raise InvalidInputError(
            f"{spec.name!r} is recorded as {spec.dtype}, which numpy has not: give samples= to check on."
        ) from None
