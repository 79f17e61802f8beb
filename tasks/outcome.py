"""How a run ended, as a record that a terminal, a parent flow and Prefect's result store can read."""

from __future__ import annotations

from typing import Self

from registry.base import Record
from registry.records import ModelVersion, RunEnding


class Trial(Record):
    """What came of sending every test sample through the endpoint; times are wall-clock milliseconds a request."""

    samples: int
    metrics: dict[str, float]
    p50_ms: float
    p95_ms: float
    p99_ms: float


class Outcome(Record):
    """How a run ended; ``words`` says why, and what to do next where there is something to do."""

    ending: RunEnding
    model: str
    version: str | None
    url: str
    words: str
    endpoint: str | None = None
    endpoint_url: str | None = None
    trial: Trial | None = None

    @classmethod
    def of(cls, ending: RunEnding, url: str, version: ModelVersion, words: str) -> Self:
        """Return how a run ended with a version of the registry at ``url``."""
        return cls(ending=ending, model=version.name, version=version.version, url=url, words=words)
