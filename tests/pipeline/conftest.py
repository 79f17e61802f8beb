"""A pipeline file that is right, and functions for it to name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

OWN_PARTS = '''
"""What a user's own module may look like."""
from pathlib import Path

import numpy as np

from tasks.data import Split, Splits
from tasks.model import Model

TABLE = {}


def data(*, rows: int = 4):
    split = Split(np.zeros((rows, 3), np.float32), np.zeros(rows, np.int64))
    return Splits(split, split, split)


def train(splits, *, epochs: int, rate: float = 0.1, sizes: tuple[int, ...] = (1,), limit: int | None = 9, progress=0):
    for epoch in range(epochs):
        if progress:
            progress(epoch + 1, epochs, "going on")
    return Model(data=b"weights", name="digits", register=True, parameters={"rate": rate, "sizes": sizes})


def train_in_silence(splits, epochs=1):
    return Model(data=b"weights", name="digits")


def train_anything(splits, **settings):
    return Model(data=b"weights", name="digits", parameters=settings)


def read(path: Path):
    return path


def measure(outputs, labels):
    return {"accuracy": 0.5, "f1_score": np.float32(0.25)}


def wrong():
    return [1, 2]


def wrong_measure(outputs, labels):
    return 0.5


def nothing_by_position():
    return None
'''

Writer = Callable[[str], Path]


@pytest.fixture(autouse=True)
def own_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a folder that has a module of the user's own, as somebody who runs a pipeline does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_parts.py").write_text(OWN_PARTS, encoding="utf-8")
    yield tmp_path / "own_parts.py"
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Write a pipeline file and return its path, relative as a user gives it."""

    def written(text: str) -> Path:
        (tmp_path / "configs").mkdir(exist_ok=True)
        path = Path("configs", "own.yaml")
        path.write_text(text, encoding="utf-8")
        return path

    return written
