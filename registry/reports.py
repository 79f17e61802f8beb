"""What the verbs that keep a registry in order report: findings, plans, probes; the field names are stable."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from registry.base import Record

What = Literal["missing", "changed", "unreadable", "extra", "contradiction"]


class Head(Record):
    """The last record of a log: its number, 0 for an empty log, and its digest."""

    number: int
    digest: str


class Finding(Record):
    """One thing that is not as it should be.

    ``file`` is its path or URL, ``offset`` the first bad byte, counted from 0, where that can be told: a digest says
    that a byte differs, not which.
    """

    what: What
    file: str
    problem: str
    mend: str
    offset: int | None = None

    def __str__(self) -> str:
        """Return it as one line."""
        where = self.file if self.offset is None else f"{self.file} (byte {self.offset})"
        return f"{where}: {self.problem}"


class VerifyReport(Record):
    """What ``verify`` looked at and what it found, file by file in the order in which they were looked at.

    ``remarks`` harm nobody: leftovers of a crash, an outdated hint. ``heads`` is where each log ended, by the folder of
    the log; handed to a later ``verify`` it shows whether a tail was cut off or a last record was changed, which a
    reader without a memory cannot see. ``remembered`` says whether that was done.
    """

    registry: str
    deep: bool
    remembered: bool
    records: int
    versions: int
    files: int
    size_bytes: int
    findings: tuple[Finding, ...]
    remarks: tuple[Finding, ...]
    heads: dict[str, Head]

    @property
    def ok(self) -> bool:
        """Whether everything is as it was recorded."""
        return not self.findings


class Probe(Record):
    """One thing that ``doctor`` tried; ``passed`` is None where it could not be tried, and ``detail`` says why."""

    name: str
    passed: bool | None
    detail: str


class DoctorReport(Record):
    """What a storage can do; ``clock_ahead_s`` is its clock less this machine's, None where it cannot be told."""

    url: str
    probes: tuple[Probe, ...]
    clock_ahead_s: float | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing that was tried has failed."""
        return all(probe.passed is not False for probe in self.probes)


class Reservation(Record):
    """A label that was set aside and never registered."""

    model: str
    version: str
    path: str
    since: datetime


class Leftover(Record):
    """A file that nothing needs, or that may be one: ``why`` says it in words."""

    file: str
    why: str


class GcReport(Record):
    """What ``gc`` removed, or with ``dry_run`` would remove.

    ``abandoned`` are reservations that were given up, ``removed`` files, ``temporary`` unfinished writes, and ``kept``
    what may be of no use but is young, or of an age that cannot be told.
    """

    dry_run: bool
    grace_s: float
    abandoned: tuple[Reservation, ...]
    removed: tuple[Leftover, ...]
    temporary: tuple[str, ...]
    kept: tuple[Leftover, ...]


class RebuildReport(Record):
    """What ``rebuild`` wrote anew from the logs, by path or URL, and the logs that it could not believe."""

    statuses: tuple[str, ...]
    checkpoints: tuple[str, ...]
    hints: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether every log could be believed."""
        return not self.findings
