"""The importable modules of these tests, and some samples."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # Tests are no package: without this the classes could not be imported by the name that is kept of them.
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("networks")


@pytest.fixture
def samples() -> NDArray[Any]:
    return np.random.default_rng(3).normal(size=(80, 3)).astype(np.float32)
