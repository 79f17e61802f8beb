"""modelway's registry: versions, stages, approvals and engines of models, kept as JSON beside their bytes.

Names are imported at first use, so that ``import registry`` costs next to nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry.compare import VersionComparison as VersionComparison
    from registry.config import RegistryConfig as RegistryConfig
    from registry.default import default_registry as default_registry
    from registry.default import load_model as load_model
    from registry.default import register_model as register_model
    from registry.engines.spec import OptimizeSpec as OptimizeSpec
    from registry.frameworks.kinds import ModelFramework as ModelFramework
    from registry.guard import Guard as Guard
    from registry.loading import LoadedModel as LoadedModel
    from registry.metrics import ModelMetrics as ModelMetrics
    from registry.metrics import ModelMetrics as ModelPerformance  # noqa: F401 - another name for it
    from registry.policy import Comparison as Comparison
    from registry.policy import IncumbentRule as IncumbentRule
    from registry.policy import MetricRequirement as MetricRequirement
    from registry.policy import PolicyResult as PolicyResult
    from registry.policy import PromotionPolicy as PromotionPolicy
    from registry.records import ApprovalRequest as ApprovalRequest
    from registry.records import ModelVersion as ModelMetadata  # noqa: F401 - another name for it
    from registry.records import ModelVersion as ModelVersion
    from registry.records import RegisteredModel as RegisteredModel
    from registry.records import StageTransition as StageTransition
    from registry.records import Variant as Variant
    from registry.registry import InMemoryRegistry as InMemoryRegistry
    from registry.registry import ModelRegistry as ModelRegistry
    from registry.serving import DeployedModel as DeployedModel
    from registry.serving import Endpoint as Endpoint
    from registry.stages import ModelStage as ModelStage
    from registry.store import FileModelStore as FileModelStore
    from registry.store import InMemoryModelStore as InMemoryModelStore
    from registry.store import ModelStore as ModelStore

# Since 1.29 onnxruntime keeps a device id and sends names and hashes of models to Microsoft, unless it is told not to
# before it is imported: here, because everything of ours passes here first. A value that is set already stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME = {
    "ApprovalRequest": "records",
    "Comparison": "policy",
    "DeployedModel": "serving",
    "Endpoint": "serving",
    "FileModelStore": "store",
    "Guard": "guard",
    "InMemoryModelStore": "store",
    "InMemoryRegistry": "registry",
    "IncumbentRule": "policy",
    "LoadedModel": "loading",
    "MetricRequirement": "policy",
    "ModelFramework": "frameworks.kinds",
    "ModelMetadata": "records",
    "ModelMetrics": "metrics",
    "ModelPerformance": "metrics",
    "ModelRegistry": "registry",
    "ModelStage": "stages",
    "ModelStore": "store",
    "ModelVersion": "records",
    "OptimizeSpec": "engines.spec",
    "PolicyResult": "policy",
    "PromotionPolicy": "policy",
    "RegisteredModel": "records",
    "RegistryConfig": "config",
    "StageTransition": "records",
    "Variant": "records",
    "VersionComparison": "compare",
    "default_registry": "default",
    "load_model": "default",
    "register_model": "default",
}
_OTHER_NAMES = {"ModelMetadata": "ModelVersion", "ModelPerformance": "ModelMetrics"}

__all__ = sorted(_HOME)  # noqa: PLE0605 - the names stand in _HOME once


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'registry' has no attribute {name!r}")
    module = importlib.import_module(f"registry.{_HOME[name]}")
    return getattr(module, _OTHER_NAMES.get(name, name))


def __dir__() -> list[str]:
    return __all__
