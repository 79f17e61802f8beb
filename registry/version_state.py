"""What a model's state keeps of each version, and all of them by label: parsed when looked at, encoded once; pure."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Literal, Self

from pydantic import Field, ValidationError
from typing_extensions import override

from registry.base import StoredRecord
from registry.errors import FormatError
from registry.policy import Evidence
from registry.records import Approval, Artifact, Deployed, Description, EngineChoice
from registry.stages import ModelStage


class VersionState(StoredRecord):
    """What is known of one version; readers see it only while its status is ``registered``."""

    label: str
    ordinal: int
    path: str
    status: Literal["reserved", "registered", "abandoned", "deleted"] = "reserved"
    key: str | None = None
    created_at: datetime
    created_by: str
    registered_as: int = 0
    stage: ModelStage = ModelStage.DEVELOPMENT
    stage_since: datetime
    metadata_digest: str = ""
    described: Description = Description()
    measured_on: dict[str, str] = Field(default_factory=dict)
    artifact: Artifact | None = None
    approvals: tuple[Approval, ...] = ()
    variants: dict[str, str] = Field(default_factory=dict)
    choice: EngineChoice | None = None
    deployments: tuple[Deployed, ...] = ()
    held_production: bool = False

    def evidence(self, full_name: str) -> Evidence:
        """Return the metrics as a policy sees them."""
        return Evidence(label=full_name, metrics=self.described.metrics.as_dict(), measured_on=self.measured_on)


_MANY = 500


@contextmanager
def collector_paused(records: int) -> Iterator[None]:
    """Make many records without the collector looking through all of them again and again: it took half of the time."""
    pause = records > _MANY and gc.isenabled()
    if pause:
        gc.disable()
    try:
        yield
    finally:
        if pause:
            gc.enable()


class _Entry:
    """A version as bytes, as a record, or both; whichever was not given is made when it is asked for, and kept."""

    __slots__ = ("_data", "_state")

    def __init__(self, *, data: bytes | None = None, state: VersionState | None = None) -> None:
        self._data, self._state = data, state

    @property
    def data(self) -> bytes:
        if self._data is None:
            self._data = self.state.model_dump_json().encode()
        return self._data

    @property
    def state(self) -> VersionState:
        if self._state is None:
            try:
                self._state = VersionState.model_validate_json(self._data or b"")
            except ValidationError as error:
                raise FormatError(
                    f"a checkpoint holds a version that this release cannot read: {error.errors()[0]['msg']}. Remove "
                    "the model's checkpoints folder: it is made again from the log."
                ) from error
        return self._state


class Versions(Mapping[str, VersionState]):
    """Versions by canonical label: the registered ones in order of registration, those being registered between them.

    Never changed: ``with_one`` gives another. With thousands of versions an event changes one or two of them, and a
    reader asks for one: the others are neither parsed nor encoded again.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: dict[str, _Entry] | None = None) -> None:
        """Take the entries as they are; use ``load`` and ``with_one`` to make them."""
        self._entries = entries or {}

    @classmethod
    def load(cls, lines: Iterable[bytes]) -> Self:
        """Return the versions of lines as ``dump`` gives them.

        Raises:
            ValueError: A line of another form.
        """
        entries = {}
        for line in lines:
            label, separator, data = line.partition(b'":')
            if not separator or label[:1] != b'"':
                message = "a line of a checkpoint does not begin with a label"
                raise ValueError(message)
            entries[label[1:].decode()] = _Entry(data=data)
        return cls(entries)

    def dump(self) -> Iterator[bytes]:
        """Yield ``"LABEL":{...}`` for each version: one line, because JSON has no line breaks inside."""
        return (b'"%b":%b' % (label.encode(), entry.data) for label, entry in self._entries.items())

    def with_one(self, label: str, state: VersionState, *, last: bool = False) -> Self:
        """Return these versions with one changed or added; at the end if ``last``, or if it is new."""
        entries = dict(self._entries)
        if last:
            entries.pop(label, None)
        entries[label] = _Entry(state=state)
        return type(self)(entries)

    def parse_all(self) -> None:
        """Parse every version that was not looked at yet, when all of them are asked for."""
        with collector_paused(len(self._entries)):
            for entry in self._entries.values():
                _ = entry.state

    @override
    def __getitem__(self, label: str) -> VersionState:
        return self._entries[label].state

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._entries)

    @override
    def __len__(self) -> int:
        return len(self._entries)

    @override
    def __contains__(self, label: object) -> bool:
        return label in self._entries

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Versions) and dict(self) == dict(other)

    def __hash__(self) -> int:
        raise TypeError("versions change from state to state and are no key")
