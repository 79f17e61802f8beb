"""A folder with a deployments file and a pool file, to be written and changed; the flows are in ``tried_flows``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deployments.applying import Report
from deployments.settings import Wanted, load_deployments

POOL = """\
name: modelway
type: process
variables:
  working_dir: .
  env: {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: "30"}
"""
DEPLOYMENTS = """\
pools: [pool.yaml]
zombies: {within_s: 60}
deployments:
  - name: digits
    flow: tried_flows:note
    parameters: {config: digits.yaml}
    concurrency: 1
    tags: [nightly]
    schedules:
      - {name: nightly, cron: "0 3 * * *", timezone: Europe/Berlin, parameters: {reason: nightly, epochs: 2}}
    triggers:
      - event: modelway.retraining.requested
        resource: modelway.model.digits
        parameters: {reason: "{{ event.payload.reason }}"}
      - event: modelway.drift.detected
        resource: modelway.model.digits
        at_most_every_s: 3600
        parameters: {reason: "drift: {{ event.payload.reason }}"}
  - name: asked
    flow: tried_flows:ask
    concurrency: 1
"""
DOOMED = """\
  - name: doomed
    flow: tried_flows:go_on
    pool: doomed
"""


@dataclass
class DeploymentsFolder:
    """A folder with ``deployments.yaml`` and ``pool.yaml``."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "deployments.yaml"

    def write(self, text: str = DEPLOYMENTS, *, pool: str = POOL) -> Wanted:
        self.file.write_text(text)
        (self.folder / "pool.yaml").write_text(pool)
        return load_deployments(self.file)

    def changed(self, old: str, new: str) -> Wanted:
        assert old in DEPLOYMENTS
        return self.write(DEPLOYMENTS.replace(old, new))

    def line(self, text: str) -> int:
        """Return the number of the first line that holds ``text``."""
        return next(number for number, line in enumerate(self.file.read_text().splitlines(), 1) if text in line)


def names(report: Report) -> list[str]:
    """Return what was done with what, in one line each."""
    return [f"{change.verb} {change.thing} {change.name}" for change in report.changes]
