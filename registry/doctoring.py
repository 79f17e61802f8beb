"""Asking a storage whether it can hold a registry: by trying, below a key of its own, what the log rests on.

A second create that succeeds is what no registry survives: two writers would both be told that record N+1 is theirs.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from registry import clock
from registry.core import RegistryCore, RegistryIdentity
from registry.encoding import parse_record
from registry.errors import ModelwayError
from registry.reports import DoctorReport, Probe
from registry.store import AlreadyExistsError, ModelStore

_ROUNDS, _RACERS = 8, 16
_CLOCKS_MAY_DIFFER_S = 60.0
_NOT_EXCLUSIVE = (
    "a second create of the same key succeeded: two writers would overwrite each other's records, and both be told "
    "that they had won. This storage cannot hold a registry: take one that honours conditional writes"
)


class Doctoring(RegistryCore):
    """The verb that asks the storage."""

    def doctor(self) -> DoctorReport:
        """Try what a registry needs of its storage, on keys below ``.doctor/`` that are removed again.

        Tried, and reported one by one: the rights to write, read, list, replace and delete; that what was written is
        read and listed at once; that of two creates of one key, one after the other and raced by threads, the second
        is refused, for small records and for streams, empty ones too; the clock; and that this release can read what is
        there. It raises nothing: what goes wrong is the answer.
        """
        examination = _Examination(self.store, f".doctor/{uuid.uuid4().hex}")
        try:
            examination.run()
        finally:
            examination.clean_up()
        examination.attempt("registry", self._readable)
        return DoctorReport(
            url=self.store.url, probes=tuple(examination.probes), clock_ahead_s=examination.clock_ahead_s
        )

    def _readable(self) -> str:
        try:
            data = self.store.read("registry.json")
        except FileNotFoundError:
            return "there is none here yet"
        identity = parse_record(RegistryIdentity, data, self.store.address("registry.json"))
        root = self._root.read().state
        return f"id {identity.id}, format {identity.format}, {len(root.models)} models"


class _FailedError(Exception):
    """What a probe found; its message is for the report."""


@dataclass
class _Examination:
    """One run of ``doctor``: its probes, in order, on keys below ``folder``."""

    store: ModelStore
    folder: str
    probes: list[Probe] = field(default_factory=list)
    clock_ahead_s: float | None = None
    _used: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Try everything; what rests on a right that is missing is not tried."""
        first, data = self._key("first"), b"one"
        if not self.attempt("write", lambda: self._write(first, data)):
            for name in ("read", "list", "replace", "delete", "exclusive create", "exclusive create, raced", "clock"):
                self.probes.append(Probe(name=name, passed=None, detail="nothing could be written to try it on"))
            return
        self.attempt("read", lambda: self._read(first, data))
        self.attempt("list", lambda: self._list(first))
        self.attempt("exclusive create", lambda: self._twice(first, data))
        self.attempt("exclusive upload", self._upload_twice)
        self.attempt("exclusive create, raced", lambda: self._race("create"))
        self.attempt("exclusive upload, raced", lambda: self._race("upload"))
        self.attempt("clock", self._compare_clocks)
        self.attempt("replace", lambda: self._replace(self._key("replaced")))
        self.attempt("delete", lambda: self._delete(self._key("deleted")))

    def attempt(self, name: str, work: Callable[[], str | None]) -> bool:
        """Note how ``work`` went; it gives words for the report, None where the storage cannot say."""
        try:
            detail = work()
        except (_FailedError, ModelwayError, FileNotFoundError) as error:
            words = f"not found: {error}" if isinstance(error, FileNotFoundError) else str(error)
            self.probes.append(Probe(name=name, passed=False, detail=words))
            return False
        told = "the storage does not say" if detail is None else detail
        self.probes.append(Probe(name=name, passed=None if detail is None else True, detail=told))
        return True

    def clean_up(self) -> None:
        """Remove what was written; where that is forbidden it stays, and the report has said so."""
        for key in self._used:
            with contextlib.suppress(ModelwayError):
                self.store.delete(key)
        folder = self.store.local_path(".doctor")
        if folder is not None:
            for path in (folder / self.folder.partition("/")[2], folder):
                with contextlib.suppress(OSError):  # another doctor is at work in it
                    path.rmdir()

    def _key(self, name: str) -> str:
        key = f"{self.folder}/{name}"
        self._used.append(key)
        return key

    def _write(self, key: str, data: bytes) -> str:
        self.store.create(key, data)
        return "allowed"

    def _read(self, key: str, data: bytes) -> str:
        one, (several, none) = self.store.read(key), self.store.read_many([key, f"{self.folder}/never-written"])
        if (one, several, none) != (data, data, None):
            raise _FailedError(f"{data!r} was written; read at once it was {one!r}, and {several!r} among several")
        return "allowed, and what was written is there at once"

    def _list(self, key: str) -> str:
        if key not in (found := self.store.list(self.folder)):
            raise _FailedError(f"{key} was written, and the list of its folder is {found}")
        return "allowed, and what was written is listed at once"

    def _twice(self, key: str, data: bytes) -> str:
        with self._expect_refusal():
            self.store.create(key, b"two")
        if (found := self.store.read(key)) != data:
            raise _FailedError(f"a second create was refused, and yet the first one's {data!r} is now {found!r}")
        return "the second was refused"

    def _upload_twice(self) -> str:
        for name, data in (("streamed", b"one"), ("empty", b"")):
            key = self._key(name)
            self.store.upload(key, iter([data]))
            with self._expect_refusal(f"a stream of {len(data)} bytes: "):
                self.store.upload(key, iter([data]))
        return "the second was refused, an empty one too"

    @contextlib.contextmanager
    def _expect_refusal(self, what: str = "") -> Iterator[None]:
        try:
            yield
        except AlreadyExistsError:
            return
        raise _FailedError(f"{what}{_NOT_EXCLUSIVE}")

    def _race(self, way: str) -> str:
        """Let many threads create one key: a store that looks first and writes then passes any test but this."""
        for turn in range(_ROUNDS):
            key, together = self._key(f"{way}-{turn}"), threading.Barrier(_RACERS)

            def run(racer: int, key: str = key, together: threading.Barrier = together) -> bytes | None:
                data = b"racer %d" % racer
                together.wait()
                try:
                    if way == "create":
                        self.store.create(key, data)
                    else:
                        self.store.upload(key, iter([data]))
                except AlreadyExistsError:
                    return None
                return data

            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(_RACERS) as threads:
                won = [data for data in threads.map(run, range(_RACERS)) if data is not None]
            if len(won) > 1:
                raise _FailedError(f"{len(won)} of {_RACERS} won: {_NOT_EXCLUSIVE}")
            if (found := self.store.read(key)) not in won and won:
                raise _FailedError(f"{won[0]!r} was told that it had won, and {found!r} is there")
        return f"one winner in each of {_ROUNDS} rounds of {_RACERS} threads"

    def _compare_clocks(self) -> str | None:
        key, before = self._key("clock"), clock.now()
        self.store.create(key, b"tick")
        after, theirs = clock.now(), self.store.modified(key)
        if theirs is None:
            return None
        self.clock_ahead_s = round(_ahead_s(theirs, before, after), 3)
        if abs(self.clock_ahead_s) > _CLOCKS_MAY_DIFFER_S:
            raise _FailedError(
                f"the storage's clock is {self.clock_ahead_s:+.0f} s from this machine's: set it, or records and "
                f"approvals carry wrong times and gc misjudges ages"
            )
        return f"{self.clock_ahead_s:+.1f} s from this machine's"

    def _replace(self, key: str) -> str:
        self.store.create(key, b"one")
        self.store.replace(key, b"two")
        if (found := self.store.read(key)) != b"two":
            raise _FailedError(f"{key} was replaced, and read at once it is still {found!r}")
        return "allowed, and the new bytes are there at once"

    def _delete(self, key: str) -> str:
        self.store.create(key, b"one")
        self.store.delete(key)
        if self.store.read_many([key]) != [None] or key in self.store.list(self.folder):
            raise _FailedError(f"{key} was deleted, and is still there")
        return "allowed, and gone at once"


def _ahead_s(theirs: datetime, before: datetime, after: datetime) -> float:
    """Return how far ``theirs`` is outside the time in which it must lie, in seconds; storages may drop fractions."""
    if theirs > after:
        return (theirs - after).total_seconds()
    return min(0.0, (theirs - before).total_seconds() + 1.0)
