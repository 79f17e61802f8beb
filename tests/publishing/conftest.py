"""A registry with two versions whose words would like to be markup, the first of them in production."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry import ModelRegistry

HOSTILE = 'good | <img src="http://x/"> **x**\n\n# Approved\n\n[go](http://x)'


@pytest.fixture
def models(tmp_path: Path) -> ModelRegistry:
    """The registry."""
    made = ModelRegistry(tmp_path / "registry", actor="ada@example.com")
    (tmp_path / "weights.bin").write_bytes(b"w" * 2000)
    for number in (1, 2):
        made.register(
            "hand_digits",
            tmp_path / "weights.bin",
            metrics={"accuracy": 0.9 + number / 100, "latency_ms": 2.0, HOSTILE: 1.0},
            parameters={"epochs": 30, "note": HOSTILE, "sizes": [1, 2]},
            tags={HOSTILE: HOSTILE},
            description=HOSTILE,
            lineage={"code": "5f3a", "data": HOSTILE},
        )
        made.annotate("hand_digits", number, metrics={"accuracy": 0.9 + number / 100}, measured_on="sha256:da7a")
    made.promote("hand_digits", 1, "production", approved_by="bob@example.com", reason=HOSTILE)
    return made
