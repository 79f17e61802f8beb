"""A log of requests for later monitoring, in Parquet files: it costs a request no wait and never its answer."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import logging
import os
import queue
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from registry import clock
from registry.endpoints.request_log_table import SUFFIX, check_parquet, grouped, read_requests

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from registry.endpoints.answering import Logged
    from registry.endpoints.request_log_table import Group
    from registry.endpoints.tensors import Array

__all__ = ["LogBounds", "RequestLog", "check_parquet", "read_requests"]

_log = logging.getLogger(__name__)

_UNFINISHED = ".unfinished"
_ABANDONED_S = 600
_ROW_BYTES = 1024  # about what a request takes in memory beside its tensors


@dataclass(frozen=True, kw_only=True)
class LogBounds:
    """How much a request log may take.

    Args:
        max_rows_per_file: Requests in one file, 1 or more.
        max_bytes_total: Bytes of all files; the oldest are removed for a new one.
        max_bytes_waiting: Bytes of tensors that wait in memory to be written; what comes beyond them is dropped.
        flush_s: Seconds after which a request is on the disk at the latest.
    """

    max_rows_per_file: int = 10_000
    max_bytes_total: int = 1 << 30
    max_bytes_waiting: int = 64 << 20
    flush_s: float = 60.0


class RequestLog:
    """Keeps a share of the requests; called with each of them, from any thread.

    One thread writes. A file appears under its name only when it is complete. Where requests come faster than they can
    be written, or cannot be written at all, they are dropped and counted; the answers go out as if there were no log.
    """

    def __init__(self, folder: Path, *, share: float, bounds: LogBounds | None = None, seed: int | None = None) -> None:
        """Begin to keep ``share`` (0 to 1) of the requests in ``folder``, drawn with ``seed`` (None for any).

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        check_parquet()
        # Now and not at the first request that is logged, which would share the interpreter with 0.2 s of imports.
        importlib.import_module("pyarrow.parquet")
        self._folder, self._share, self._bounds = folder, share, bounds or LogBounds()
        self._random = np.random.default_rng(seed)
        self._queue: queue.SimpleQueue[Logged | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._bytes_waiting = self._written = self._dropped = 0
        self._closed = self._failing = False
        # A daemon: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._write_until_closed, name="request-log", daemon=True)
        self._thread.start()

    @property
    def written(self) -> int:
        """Requests that are on the disk, or were until they became too old."""
        return self._written

    @property
    def dropped(self) -> int:
        """Requests that were drawn and could not be kept."""
        return self._dropped

    def __call__(self, logged: Logged) -> None:
        """Keep a request if it is drawn; returns at once, and never raises."""
        if self._random.random() >= self._share:
            return
        size = _bytes_of(logged)
        with self._lock:
            if self._closed or self._bytes_waiting + size > self._bounds.max_bytes_waiting:
                self._dropped += 1
                return
            self._bytes_waiting += size
            # Within the lock, so that nothing comes after the end that `close` puts there.
            self._queue.put(logged)

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Write what waits, and end; after ``timeout_s`` seconds without it. What comes from now on is dropped."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            _log.warning("the request log in %s was not written to its end within %g s", self._folder, timeout_s)

    def _write_until_closed(self) -> None:
        try:
            self._begin()
        except OSError as error:
            self._tell(error)
        closed = False
        while not closed:
            waiting, closed = self._collect()
            for group in grouped(waiting):
                self._keep(group)
            with self._lock:
                self._bytes_waiting -= sum(map(_bytes_of, waiting))

    def _begin(self) -> None:
        self._make_folder()
        for path in self._folder.glob(f"*{_UNFINISHED}"):  # of a process that died while it wrote
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink(missing_ok=True)

    def _collect(self) -> tuple[list[Logged], bool]:
        """Take requests until they fill a file or the first has waited long enough; and whether these are the last."""
        waiting: list[Logged] = []
        size, due = 0, float("inf")
        enough = self._bounds.max_bytes_waiting // 4
        while len(waiting) < self._bounds.max_rows_per_file and size < enough and (now := time.monotonic()) < due:
            try:
                logged = self._queue.get(timeout=due - now if waiting else None)
            except queue.Empty:
                break
            if logged is None:
                return waiting, True
            if not waiting:
                due = time.monotonic() + self._bounds.flush_s
            waiting.append(
                dataclasses.replace(logged, inputs=_detached(logged.inputs), outputs=_detached(logged.outputs))
            )
            size += _bytes_of(logged)
        return waiting, False

    def _keep(self, group: Group) -> None:
        import pyarrow as pa

        try:
            self._put(group.encoded())
        except (OSError, MemoryError, pa.ArrowException) as error:
            self._tell(error)
            with self._lock:
                self._dropped += len(group.requests)
        else:
            self._tell(None)
            with self._lock:
                self._written += len(group.requests)

    def _put(self, data: bytes) -> None:
        self._make_folder()
        self._make_room(len(data))
        stamp = clock.now().strftime("%Y%m%dT%H%M%S%fZ")
        path = self._folder / f"{stamp}-{uuid.uuid4().hex[:8]}{SUFFIX}"
        unfinished = path.with_suffix(_UNFINISHED)
        try:
            # Inputs are people's data more often than not: for the server's own user alone.
            with open(unfinished, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _make_room(self, size_bytes: int) -> None:
        room = self._bounds.max_bytes_total - size_bytes
        if room < 0:
            raise OSError(errno.EFBIG, f"one file of {size_bytes} bytes, and the whole log may have less")
        # Their names begin with the time.
        for path in sorted(self._folder.glob(f"*{SUFFIX}"), reverse=True):
            room -= path.stat().st_size
            if room < 0:
                path.unlink(missing_ok=True)

    def _tell(self, error: Exception | None) -> None:
        """Write to the server's log when requests begin to be lost, and when they are kept again; not in between."""
        if error is not None and not self._failing:
            _log.warning("requests cannot be logged in %s, they are dropped and counted: %s", self._folder, error)
        if error is None and self._failing:
            _log.info("requests are logged in %s again", self._folder)
        self._failing = error is not None


def _bytes_of(logged: Logged) -> int:
    return _ROW_BYTES + sum(array.nbytes for array in (*logged.inputs.values(), *logged.outputs.values()))


def _detached(tensors: Mapping[str, Array]) -> dict[str, Array]:
    # A view of one sample would hold the whole batch in memory, uncounted.
    return {name: array if array.base is None else array.copy() for name, array in tensors.items()}
