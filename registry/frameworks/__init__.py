"""How the objects of the frameworks become files and come back; importing this imports no framework."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from registry.base import StoredRecord
from registry.errors import InvalidInputError
from registry.frameworks.kinds import ModelFramework
from registry.signature import Signature

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ModelFramework", "SavedModel", "guess", "load", "read_samples", "save"]

_BY_SUFFIX = {
    ".onnx": ModelFramework.ONNX,
    ".pt": ModelFramework.PYTORCH,
    ".pth": ModelFramework.PYTORCH,
    ".safetensors": ModelFramework.SAFETENSORS,
    ".keras": ModelFramework.TENSORFLOW,
    ".joblib": ModelFramework.SKLEARN,
    ".skops": ModelFramework.SKLEARN,
}


class SavedModel(StoredRecord):
    """What a framework says of the files that it wrote; ``info`` is JSON, and what ``load`` needs to read them back."""

    framework: ModelFramework
    info: dict[str, Any] = Field(default_factory=dict)
    signature: Signature | None = None


def save(
    model: object,
    folder: Path,
    *,
    framework: ModelFramework | None = None,
    samples: NDArray[Any] | None = None,
) -> SavedModel:
    """Write a model object into an empty folder, and prove that it can be read back.

    Args:
        model: A torch module, a mapping of names to torch tensors, an ONNX ModelProto, or bytes.
        folder: Where the files go; after an error it may hold some.
        framework: What the caller takes the model for; None to go by the object's type.
        samples: Real inputs of a torch module or an ONNX model, shape (n, ...), n >= 1, in the dtype that the model
            takes. At most 64 are kept beside it with the model's own outputs for them.

    Raises:
        InvalidInputError: No framework here can save such an object, it is not of the framework that was named, it
            could not be rebuilt from its files, or the samples do not go through it.
    """
    found = _framework_of(model)
    if found is None or framework not in {None, found}:
        raise _cannot_save(model, framework, found)
    if found is ModelFramework.PYTORCH:
        from registry.frameworks import torch as of_torch

        return of_torch.save(model, folder, samples=samples)
    if found is ModelFramework.ONNX:
        from registry.frameworks import onnx as of_onnx

        return of_onnx.save(model, folder, samples=samples)
    from registry.frameworks import custom

    return custom.save(model, folder, samples=samples)


def load(folder: Path, *, framework: ModelFramework, info: Mapping[str, Any]) -> Any:
    """Read a model from files whose digests have been checked; no file is ever unpickled freely.

    Returns:
        A torch module in evaluation mode or the tensors of a ``.pt`` file; an ONNX ModelProto; for everything else the
        bytes of a single file, or ``folder`` itself where there are several.

    Raises:
        RefusedError: The file asks for more than is safe, is damaged, or does not fit the class that it was saved from.
        NotFoundError: There are no files, or the class of a torch module cannot be imported here.
    """
    if framework is ModelFramework.PYTORCH:
        from registry.frameworks import torch as of_torch

        return of_torch.load(folder, info)
    if framework is ModelFramework.ONNX:
        from registry.frameworks import onnx as of_onnx

        return of_onnx.load(folder)
    from registry.frameworks import custom

    return custom.load(folder)


def read_samples(folder: Path) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return the samples that ``save`` kept with a model and its outputs for them, or None where there are none.

    Returns:
        Inputs and outputs, shapes (n, ...), 1 <= n <= 64.

    Raises:
        RefusedError: The file is damaged, or not safe to read.
    """
    from registry.frameworks import samples

    return samples.read_samples(folder)


def guess(path: Path) -> ModelFramework:
    """Return the framework that a file's suffix stands for, ``custom`` where it stands for none."""
    return _BY_SUFFIX.get(path.suffix.lower(), ModelFramework.CUSTOM)


def _framework_of(model: object) -> ModelFramework | None:
    # An object of a framework cannot exist before the framework was imported, so there is no need to import it here.
    torch, onnx = sys.modules.get("torch"), sys.modules.get("onnx")
    if torch is not None and (isinstance(model, torch.nn.Module) or _holds_only(model, torch.Tensor)):
        return ModelFramework.PYTORCH
    if onnx is not None and isinstance(model, onnx.ModelProto):
        return ModelFramework.ONNX
    return ModelFramework.CUSTOM if isinstance(model, bytes) else None


def _holds_only(model: object, kind: type) -> bool:
    return isinstance(model, Mapping) and bool(model) and all(isinstance(value, kind) for value in model.values())


def _cannot_save(model: object, wanted: ModelFramework | None, found: ModelFramework | None) -> InvalidInputError:
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    taken_for = f"is of {found}" if found else "is nothing that a framework here can save"
    asked = f" (framework {wanted} was asked for)" if wanted else ""
    return InvalidInputError(
        f"the model given is a {kind}, which {taken_for}{asked}. Accepted are: a torch.nn.Module, a dict of torch "
        "tensors, an onnx.ModelProto, and bytes. Save anything else to a file or folder, and register its path."
    )
