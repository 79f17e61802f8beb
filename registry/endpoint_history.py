"""An endpoint's log for people: which generation was wanted when, by whom and why, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Literal

from registry.base import Record
from registry.endpoints.desired import Desired, EndpointMachine, Failed, SeenPart, Served, Wanted
from registry.log.record import LogRecord


class EndpointEntry(Record):
    """One line of an endpoint's history: ``generation`` is the one it is about, 0 where it is about none.

    ``parts`` are the versions with their shares and, once they serve, the digests of their bytes.
    """

    number: int
    at: datetime
    actor: str
    event: Literal["wanted", "served", "failed", "stopped"]
    generation: int
    words: str
    parts: tuple[SeenPart, ...] = ()


def entries(records: Iterable[LogRecord]) -> Iterator[EndpointEntry]:
    """Yield the lines of a history, the oldest first."""
    machine = EndpointMachine()
    for record in records:
        event = machine.parse(record.event)
        generation: int = getattr(event, "generation", 0)
        parts: tuple[SeenPart, ...] = ()
        match event:
            case Wanted():
                generation, words = record.number, _wanted(event.desired)
            case Served():
                parts, words = event.parts, f"answers at {event.url}, brought up by {event.host}"
            case Failed():
                words = event.reason
            case _:
                words = event.reason
        yield EndpointEntry(
            number=record.number,
            at=record.time,
            actor=record.actor,
            event=event.type,
            generation=generation,
            words=words,
            parts=parts,
        )


def _wanted(desired: Desired) -> str:
    beside = "".join(
        f", {role} {share.version} with {share.share:.0%}" for role, share in desired.shares() if role != "stable"
    )
    why = f": {desired.why}" if desired.why else ""
    return f"{desired.model}:{desired.version}{beside} ({desired.target}){why}"
