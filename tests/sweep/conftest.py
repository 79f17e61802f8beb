"""A folder with a pipeline of digits that trains in a second, and a sweep over it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PIPELINE = """
name: digits
registry: {url: models}
data: {entry_point: "tasks.trainers.digits:load_splits", parameters: {seed: 7}}
trainer: {entry_point: "tasks.trainers.digits:train", parameters: {epochs: 2, width: 4}}
evaluation: {entry_point: "measuring:classification"}
policy:
  requirements: [{name: accuracy, comparison: gte, threshold: 0.3}]
deploy: {endpoint_name: digits}
"""

SWEEP = """pipeline: digits.yaml
grid:
  learning_rate: [0.0001, 0.02]
workers: 2
"""

MEASURING = '''
"""A user's own evaluation; where there is a file `die`, it takes its process with it, once."""
import os
from tasks.evaluation import classification as measured


def classification(outputs, labels):
    try:
        os.unlink("die")
    except FileNotFoundError:
        return measured(outputs, labels)
    os._exit(9)
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a folder with both files."""
    monkeypatch.setenv("MODELWAY_ACTOR", "ann")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "digits.yaml").write_text(PIPELINE, encoding="utf-8")
    (tmp_path / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    (tmp_path / "measuring.py").write_text(MEASURING, encoding="utf-8")
    yield tmp_path
    sys.modules.pop("measuring", None)
