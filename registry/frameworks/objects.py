"""Which framework an object is of, found without importing any."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from registry.frameworks.kinds import ModelFramework


def framework_of(model: object) -> ModelFramework | None:
    """Return the framework whose module saves and loads such an object, None where none does."""
    # An object of a framework cannot exist before the framework was imported, so there is no need to import it here.
    of = _Imported(model)
    if of("torch", "nn.Module") or of("torch.export", "ExportedProgram") or of.holds_only("torch", "Tensor"):
        return ModelFramework.PYTORCH
    if of("onnx", "ModelProto"):
        return ModelFramework.ONNX
    if of("sklearn.base", "BaseEstimator"):
        return ModelFramework.SKLEARN
    if of("keras", "Model") or of("tensorflow", "Module") or of("tensorflow", "__internal__.tracking.AutoTrackable"):
        return ModelFramework.TENSORFLOW
    if of.holds_only("numpy", "ndarray"):
        return ModelFramework.SAFETENSORS
    return ModelFramework.CUSTOM if isinstance(model, bytes) else None


class _Imported:
    """Asks whether an object is of a class, if the module that defines it has been imported."""

    def __init__(self, model: object) -> None:
        self.model = model

    def __call__(self, module: str, name: str) -> bool:
        kind = self._kind(module, name)
        return kind is not None and isinstance(self.model, kind)

    def holds_only(self, module: str, name: str) -> bool:
        """Return whether the object is a mapping, not empty, of values of that class alone."""
        kind, model = self._kind(module, name), self.model
        if kind is None or not isinstance(model, Mapping) or not model:
            return False
        return all(isinstance(value, kind) for value in model.values())

    @staticmethod
    def _kind(module: str, name: str) -> type | None:
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        return found if isinstance(found, type) else None
