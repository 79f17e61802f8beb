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
    from registry.frameworks.savers import Saver as Saver
    from registry.frameworks.savers import register_saver as register_saver
    from registry.guard import Guard as Guard
    from registry.integration import register_trained_model as register_trained_model
    from registry.integration import train_and_register_model as train_and_register_model
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
    from registry.reports import DoctorReport as DoctorReport
    from registry.reports import GcReport as GcReport
    from registry.reports import Head as Head
    from registry.reports import RebuildReport as RebuildReport
    from registry.reports import VerifyReport as VerifyReport
    from registry.serving import DeployedModel as DeployedModel
    from registry.serving import Endpoint as Endpoint
    from registry.stages import ModelStage as ModelStage
    from registry.store import FileModelStore as FileModelStore
    from registry.store import InMemoryModelStore as InMemoryModelStore
    from registry.store import ModelStore as ModelStore
    from registry.training import TrainedModel as TrainedModel

# Since 1.29 onnxruntime keeps a device id and sends names and hashes of models to Microsoft, unless it is told not to
# before it is imported: here, because everything of ours passes here first. A value that is set already stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME = {
    "ApprovalRequest": "records",
    "Comparison": "policy",
    "DeployedModel": "serving",
    "DoctorReport": "reports",
    "Endpoint": "serving",
    "FileModelStore": "store",
    "GcReport": "reports",
    "Guard": "guard",
    "Head": "reports",
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
    "RebuildReport": "reports",
    "RegisteredModel": "records",
    "RegistryConfig": "config",
    "Saver": "frameworks.savers",
    "StageTransition": "records",
    "TrainedModel": "training",
    "Variant": "records",
    "VerifyReport": "reports",
    "VersionComparison": "compare",
    "default_registry": "default",
    "load_model": "default",
    "register_model": "default",
    "register_saver": "frameworks.savers",
    "register_trained_model": "integration",
    "train_and_register_model": "integration",
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
