"""How long the state machine runs: shortly in all tests, 300 times 20 steps with ``--hypothesis-profile=faults``."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("faults", max_examples=300, stateful_step_count=20, deadline=None)


@pytest.fixture(autouse=True)
def nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no setting of the machine reach a test, nor a test the caches of the machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("MODELWAY_URL", "MODELWAY_ACTOR"):
        monkeypatch.delenv(variable, raising=False)
