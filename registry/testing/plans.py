"""What can go wrong with a call on a store, and plans of which calls do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

Operation = Literal["read", "read_many", "list", "chunks", "modified", "create", "upload", "replace", "delete", "sweep"]

WRITES = frozenset({"create", "upload", "replace", "delete", "sweep"})
"""The operations that change something."""


class Kind(StrEnum):
    """How a call goes wrong."""

    ERROR_BEFORE = "error before"  # it fails and nothing was done
    ERROR_AFTER = "error after"  # it is done and the answer is lost
    OUTAGE_BEFORE = "outage before"  # it fails, and so does every call after it
    OUTAGE_AFTER = "outage after"  # it is done, the answer is lost, and every call after it fails
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    TORN = "torn"  # the process dies halfway through the bytes
    SHORT = "short read"  # half of the bytes come back, without an error
    STALE = "stale read"  # what was there before the last write comes back
    DUPLICATED = "duplicated"  # a client library sent it twice: an exclusive create then finds its own object
    DELAYED = "delayed"  # it fails, and arrives after later calls
    SLOW = "slow"  # ``meanwhile`` runs before it


CRASHES = frozenset({Kind.CRASH_BEFORE, Kind.CRASH_AFTER, Kind.TORN})
_WRITES_ONLY = frozenset({Kind.DUPLICATED, Kind.DELAYED})


@dataclass(frozen=True)
class Call:
    """One call on a store: its number since ``arm``, from 1; ``found`` of its keys were there."""

    number: int
    operation: Operation
    keys: tuple[str, ...]
    found: int = 0

    def __str__(self) -> str:
        """Return it as a person would say it."""
        return f"call {self.number}, {self.operation} {' '.join(self.keys[:2])}"


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    ``part`` tells which answer of a ``read_many`` is short, counted from the last one found. ``later`` is after how
    many further calls a delayed write arrives; the harness's ``arrive`` lets all of them in.
    """

    kind: Kind
    part: int = 0
    later: int = 1


Plan: TypeAlias = Callable[[Call], Fault | None]
"""Asked before every call."""


def never(_call: Call) -> None:
    """Let every call go well."""


def at(number: int, fault: Fault) -> Plan:
    """Let call ``number`` go wrong, and no other."""
    return lambda call: fault if call.number == number else None


def is_replaceable(key: str) -> bool:
    """Return whether ``key`` holds a hint or a projection, which may be stale or torn and cost nothing but time."""
    parts = key.split("/")
    return parts[-1] in {"head.json", "status.json", "observed.json"} or "checkpoints" in parts[-2:-1]


def faults_of(call: Call) -> list[Fault]:
    """Return everything that can go wrong with ``call``."""
    faults = [Fault(kind) for kind in Kind if applies(kind, call)]
    if call.operation == "read_many":
        faults += [Fault(Kind.SHORT, part=part) for part in range(1, min(call.found, 4))]
    if call.operation in WRITES:
        faults += [Fault(Kind.DELAYED, later=later) for later in (2, 1_000_000)]
    return faults


def applies(kind: Kind, call: Call) -> bool:
    """Return whether ``call`` can go wrong in this way."""
    if kind in _WRITES_ONLY:
        return call.operation in WRITES
    if kind is Kind.TORN:
        return call.operation in {"replace", "upload"}
    if kind is Kind.SHORT:
        return call.operation == "chunks" or (call.operation in {"read", "read_many"} and call.found > 0)
    if kind is Kind.STALE:
        return call.operation in {"read", "read_many"} and any(map(is_replaceable, call.keys))
    return True
