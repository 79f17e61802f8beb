"""The default registry: the one that the command line would use, for programs that name none."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from registry.config import DEFAULT_LOCATION, configured_location, configured_storage_options
from registry.loading import LoadedModel
from registry.metrics import ModelMetrics
from registry.records import ModelVersion
from registry.registry import ModelRegistry
from registry.stages import ModelStage
from registry.store import open_store
from registry.versions import VersionRef

_opened: dict[str, ModelRegistry] = {}
_opening = threading.Lock()


def default_registry() -> ModelRegistry:
    """Return the registry at ``MODELWAY_URL``, else at ``[tool.modelway]``'s ``url``, else at ``./.modelway``."""
    location, options = configured_location() or DEFAULT_LOCATION, configured_storage_options()
    # The same words name another folder from another working folder, and another bucket with other options.
    key = f"{location if '://' in location else os.path.abspath(location)} {sorted(options.items())}"  # noqa: PTH100 - Path would follow links
    with _opening:
        if key not in _opened:
            _opened[key] = ModelRegistry(store=open_store(location, storage_options=options))
        return _opened[key]


def register_model(
    model_name: str,
    version: VersionRef | None = None,
    metrics: ModelMetrics | Mapping[str, float] | None = None,
    artifact_path: str | os.PathLike[str] | None = None,
    **same: Any,
) -> ModelVersion:
    """Register a new version in the default registry; ``ModelRegistry.register`` says what else can be given."""
    return default_registry().register_model(model_name, version, metrics, artifact_path, **same)


def load_model(
    model_name: str, version: VersionRef | None = None, stage: ModelStage | str | None = None
) -> LoadedModel:
    """Load a version from the default registry, verified: by label, by stage, or the latest."""
    return default_registry().load_model(model_name, version, stage)
