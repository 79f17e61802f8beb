"""A registry and a small pipeline of a test's own, whose flow runs can be killed."""

from __future__ import annotations

import json
from collections import Counter
from uuid import UUID

from little_pipeline import write_pipeline
from prefect_house import PrefectHouse

from registry import ModelRegistry

ANN = "ann@example.com"


class Place:
    """A registry and a pipeline of its own in a house, and the deployment that runs it."""

    def __init__(self, house: PrefectHouse, name: str) -> None:
        """Write the pipeline."""
        self.house, self.name = house, name
        self.folder = house.work / f"registry-{name}"
        self.registry = ModelRegistry(self.folder)
        self.config = write_pipeline(house.work, self.folder, endpoint=name)
        self.deployment = house.apply("dying:lifecycle", name="test")

    def start(self, *, die_after: str | None = None) -> UUID:
        """Start a run that is killed after a step."""
        if die_after is not None:
            (self.house.work / "die-after").write_text(die_after)
        return self.house.run(self.deployment, config=self.config, requested_by="lin@example.com")

    def approve(self, run: UUID) -> None:
        """Wait until the run asks, and say yes."""
        self.house.wait_for(run, "PAUSED")
        self.house.form(run)
        answered = self.house.answer(run, decision="approve", approver=ANN, reason="the numbers are fine")
        assert answered.status.value == "ACCEPT", answered

    def events(self) -> Counter[str]:
        """Count the events of the model's log by their type, those of runs left out."""
        records = (self.folder / "models" / "points" / "log").glob("*.json")
        kinds = (json.loads(record.read_bytes())["event"]["type"] for record in records)
        return Counter(kind for kind in kinds if not kind.startswith(("run_", "guard_")))


ONCE = {
    "reserved": 1,
    "registered": 1,
    "annotated": 1,  # the evaluation
    "moved": 2,  # to staging, to production
    "variant_added": 1,
    "variant_chosen": 1,
    "approval_asked": 1,
    "approval_answered": 1,
    "deployed": 1,
}
