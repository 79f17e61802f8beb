"""Prefect tasks of a few lines each, and what pipelines are made of; names are imported at first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.data import Split as Split
    from tasks.data import Splits as Splits
    from tasks.model import Model as Model
    from tasks.stepping import step as step

_HOME = {"Model": "model", "Split": "data", "Splits": "data", "step": "stepping"}

__all__ = sorted(_HOME)  # noqa: PLE0605 - the names stand in _HOME once


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tasks' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tasks.{_HOME[name]}"), name)
