"""A process that logs requests: without end, until it is killed, or on a disk of 1 MB that it fills and empties.

The second is run under ``unshare --mount``: the disk is seen by nobody else and is gone with the process.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from registry.endpoints.answering import Logged
from registry.endpoints.request_log import LogBounds, RequestLog, read_requests

BEGAN = datetime(2026, 11, 1, 12, tzinfo=UTC)


def request(number: int, *, values: int = 4) -> Logged:
    """Return a request by whose values its number is known."""
    return Logged(
        id=str(number),
        time=BEGAN + timedelta(seconds=number),
        model="iris",
        version="1",
        role="stable",
        protocol="http",
        inputs={"x": np.full((1, values), number, np.float32)},
        outputs={"label": np.array([number], np.int64)},
        latency_ms=number / 8,
        error=None,
    )


def log_without_end(folder: Path) -> None:
    """Log faster than can be written, in small files; say on the standard output that some are there."""
    log = RequestLog(folder, share=1.0, bounds=LogBounds(max_rows_per_file=20, max_bytes_total=1 << 22))
    told = False
    for number in itertools.count():
        log(request(number, values=500))
        if log.written >= 200 and not told:
            told = True
            sys.stdout.write("begun\n")
            sys.stdout.flush()


def log_on_a_small_disk(folder: Path) -> None:
    """Log more than fits, then less, and print what was kept and how long the longest call took."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)  # noqa: S607 - from PATH
    log = RequestLog(folder / "log", share=1.0, bounds=LogBounds(max_rows_per_file=5, flush_s=0.05))
    filling = folder / "filling"
    filling.write_bytes(bytes((1 << 20) - (1 << 16)))
    noise = np.random.default_rng(1)
    longest_s = 0.0
    for number in range(10):
        large = replace(request(number), inputs={"x": noise.random((1, 20_000))})  # 160 kB that nothing compresses
        began = time.perf_counter()
        log(large)
        longest_s = max(longest_s, time.perf_counter() - began)
    _wait_until(lambda: log.dropped == 10)
    left = sorted(path.name for path in (folder / "log").iterdir())
    filling.unlink()
    for number in range(10, 15):
        log(request(number))
    log.close()
    kept = read_requests(folder / "log").column("id").to_pylist()
    told = {"left": left, "kept": kept, "written": log.written, "dropped": log.dropped, "longest_s": longest_s}
    sys.stdout.write(json.dumps(told))


def _wait_until(holds: Callable[[], bool], *, within_s: float = 30.0) -> None:
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "the writer has not come so far"
        time.sleep(0.01)


if __name__ == "__main__":
    {"without-end": log_without_end, "small-disk": log_on_a_small_disk}[sys.argv[1]](Path(sys.argv[2]))
