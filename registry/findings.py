"""What the verbs that keep a registry in order share: noting what is wrong and going on, and whose a key is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from registry.encoding import parse_record
from registry.errors import FormatError, ModelwayError, StoreError, StoreUnreachableError
from registry.reports import Finding, What
from registry.store import ModelStore

_Kind = TypeVar("_Kind", bound=BaseModel)

RESTORE = "Restore it from a copy."
REBUILD = "`modelway models rebuild` writes it anew from the log."


@dataclass
class Findings:
    """What was found so far; keys become addresses that a person can go to."""

    store: ModelStore
    found: list[Finding] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)

    def add(self, what: What, key: str, problem: str, *, mend: str = RESTORE, offset: int | None = None) -> None:
        """Note something that is wrong."""
        self.found.append(Finding(what=what, file=self.address(key), problem=problem, mend=mend, offset=offset))

    def remark(self, what: What, key: str, problem: str, *, mend: str) -> None:
        """Note something that harms nobody."""
        self.remarks.append(Finding(what=what, file=self.address(key), problem=problem, mend=mend))

    def parse(self, kind: type[_Kind], key: str, data: bytes, *, mend: str = RESTORE) -> _Kind | None:
        """Return the record in ``data``; None, and a finding, where there is none."""
        try:
            return parse_record(kind, data, "it")
        except FormatError as error:
            self.add("unreadable", key, str(error), mend=mend, offset=first_bad_byte(data))
            return None

    def read(self, key: str, *, missing: str = "") -> bytes | None:
        """Return the bytes under ``key``; None where there are none, or, with a finding, none that can be read.

        Args:
            key: What to read.
            missing: What to note where there is no such key; nothing without it.

        Raises:
            StoreUnreachableError: The storage does not answer: then nothing can be said of anything.
        """
        (data,) = read_each(self.store, [key])
        if data is None and missing:
            self.add("missing", key, missing)
        return self.bytes_of(key, data)

    def bytes_of(self, key: str, data: bytes | StoreError | None) -> bytes | None:
        """Return what was read; an error becomes a finding and None."""
        if isinstance(data, StoreError):
            self.add("unreadable", key, str(data), mend="Mend what the storage says, and verify again.")
            return None
        return data

    def address(self, key: str) -> str:
        """Return where a person finds ``key``."""
        try:
            return self.store.address(key)
        except ModelwayError:  # what somebody put there need not be a key of ours
            return key


def first_bad_byte(data: bytes) -> int | None:
    """Return where ``data`` stops being JSON, counted in bytes from 0; None where it is JSON."""
    try:
        text = data.decode()
        json.loads(text)
    except UnicodeDecodeError as error:
        return error.start
    except json.JSONDecodeError as error:
        return len(error.doc[: error.pos].encode())
    except RecursionError:
        return None
    return None


def read_each(store: ModelStore, keys: Sequence[str]) -> list[bytes | StoreError | None]:
    """Return the bytes under each key, None where there is none, and the error where it cannot be read.

    Raises:
        StoreUnreachableError: The storage does not answer.
    """
    try:
        return list(store.read_many(keys))
    except StoreUnreachableError:
        raise
    except StoreError as error:
        if len(keys) == 1:
            return [error]
        return [one for key in keys for one in read_each(store, [key])]


def by_log(listed: Iterable[str]) -> dict[str, list[str]]:
    """Return keys by the prefix of the log that they belong to: ``models/digits/``; the empty one for all others."""
    groups: dict[str, list[str]] = {}
    for key in listed:
        top, _, rest = key.partition("/")
        name, slash, _ = rest.partition("/")
        groups.setdefault(f"{top}/{name}/" if top in {"models", "endpoints"} and slash else "", []).append(key)
    return groups


def by_version(prefix: str, listed: Iterable[str]) -> dict[str, list[str]]:
    """Return the keys by the version's folder that they are in, without the log and what is beside it."""
    folders: dict[str, list[str]] = {}
    for key in listed:
        parts = key.removeprefix(prefix).split("/")
        if parts[0] in {"log", "checkpoints"} or parts == ["head.json"]:
            continue
        folders.setdefault(prefix + "/".join(parts[:2] if len(parts) > 2 else parts[:1]), []).append(key)  # noqa: PLR2004
    return folders
