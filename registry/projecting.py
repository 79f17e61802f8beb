"""What the projections beside a model's log should say, and whether they do."""

from __future__ import annotations

from collections.abc import Iterable

from registry.errors import InvalidVersionError
from registry.findings import REBUILD, Findings, read_each
from registry.log import LogRecord, Snapshot
from registry.state import ModelState
from registry.versions import canonical
from registry.views import Status, status_of


class Statuses:
    """All ``status.json`` of a model, read before its log, to be held against the state that each of them is of."""

    def __init__(self, findings: Findings, name: str, listed: Iterable[str]) -> None:
        """Read those of ``listed``; what cannot be read is noted."""
        self._findings, self._name = findings, name
        self._read: dict[str, Status] = {}
        self._due: dict[int, list[str]] = {}
        keys = [key for key in listed if key.endswith("/status.json") and key.count("/") == 4]  # noqa: PLR2004
        for start in range(0, len(keys), 256):
            batch = keys[start : start + 256]
            for key, data in zip(batch, read_each(findings.store, batch), strict=True):
                known = findings.bytes_of(key, data)
                status = None if known is None else findings.parse(Status, key, known, mend=REBUILD)
                if status is not None:
                    self._read[key] = status
                    self._due.setdefault(status.as_of, []).append(key)

    def visit(self, snapshot: Snapshot[ModelState], _record: LogRecord) -> None:
        """Hold what was written after this record against the state there."""
        for file in self._due.pop(snapshot.number, ()):
            key = self._key_at(snapshot, file)
            said = self._read[file]
            if key is None:
                self._findings.add(
                    "contradiction", file, f"after record {said.as_of} no version was registered here", mend=REBUILD
                )
            elif wrong := _differences(said, status_of(self._name, snapshot, key)):
                problem = f"it says otherwise than the log after record {said.as_of}: {', '.join(wrong)}"
                self._findings.add("contradiction", file, problem, mend=REBUILD)

    def judge_rest(self, snapshot: Snapshot[ModelState]) -> None:
        """Note what is of no record that is there, and remark what is missing or behind."""
        for as_of, files in self._due.items():
            for file in files:
                problem = f"it is of record {as_of}, and the log ends at {snapshot.number}: its end was cut off"
                self._findings.add("contradiction", file, problem)
        for key, version in snapshot.state.registered().items():
            file = f"models/{self._name}/{version.path}/status.json"
            said = self._read.get(file)
            if said is None:
                self._findings.remark("missing", file, "it was not written", mend=REBUILD)
            elif said.as_of < snapshot.number and _differences(
                said, status_of(self._name, snapshot, key), but={"as_of"}
            ):
                self._findings.remark("changed", file, "it is behind the log", mend=REBUILD)

    def _key_at(self, snapshot: Snapshot[ModelState], file: str) -> str | None:
        """Return the canonical label of the registered version that ``file`` is the status of, None for none."""
        try:
            key = canonical(self._read[file].version)
        except InvalidVersionError:
            return None
        version = snapshot.state.versions.get(key)
        if version is None or version.status != "registered":
            return None
        return key if file == f"models/{self._name}/{version.path}/status.json" else None


def _differences(said: Status, is_so: Status, *, but: Iterable[str] = ()) -> list[str]:
    names = [name for name in Status.model_fields if name not in but]
    return [name for name in names if getattr(said, name) != getattr(is_so, name)]
