"""What a log holds: one record, the state after it, and the machine that gives events their meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pydantic import AwareDatetime, BaseModel

from registry.base import StoredRecord
from registry.encoding import FORMAT, canonical_json

State = TypeVar("State")
Event = TypeVar("Event", bound=BaseModel)

NO_RECORD = "sha256:" + "0" * 64
"""What the first record names as the digest of the one before it."""


class LogRecord(StoredRecord):
    """One immutable record: ``previous`` is the digest of the record before it, ``id`` tells whose write it was."""

    format: int = FORMAT
    number: int
    id: str
    previous: str
    time: AwareDatetime
    actor: str
    event: dict[str, Any]

    def encode(self) -> bytes:
        """Return the bytes that are stored; the chain is made of their digests."""
        return canonical_json(self.model_dump(mode="json"))


@dataclass(frozen=True)
class Snapshot(Generic[State]):
    """The state after record ``number``, whose digest is ``digest``; number 0 is the empty log."""

    number: int
    digest: str
    state: State


class Machine(Protocol[State, Event]):
    """What the events of a log mean."""

    name: str
    """Kind and version of the state, such as ``model/1``: a checkpoint written under another name is not used."""

    def initial(self) -> State:
        """Return the state of an empty log."""

    def dump(self, state: State) -> bytes:
        """Return a state as the JSON that a checkpoint holds."""

    def load(self, state: bytes) -> State:
        """Return a state from the JSON that a checkpoint holds.

        Raises:
            ValueError: It is none that this machine has written.
        """

    def parse(self, event: dict[str, Any]) -> Event:
        """Return the event that a record holds."""

    def fold(self, state: State, event: Event, record: LogRecord) -> State:
        """Return the state after ``event``; pure."""
