"""The frameworks that a version can come from; light, so that records may name them."""

from __future__ import annotations

from registry.base import Word


class ModelFramework(Word):
    """What made a model; read without regard to case, with ``torch`` and ``scikit-learn`` as other spellings."""

    SKLEARN = "sklearn"
    PYTORCH = "pytorch"
    TENSORFLOW = "tensorflow"
    ONNX = "onnx"
    SAFETENSORS = "safetensors"
    CUSTOM = "custom"

    @classmethod
    def short_forms(cls) -> dict[str, str]:
        """Return the spellings that people use beside the enum's own."""
        return {"torch": "pytorch", "scikit-learn": "sklearn", "tf": "tensorflow", "keras": "tensorflow"}
