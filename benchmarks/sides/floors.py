"""The floors: what the plainest loop takes that has to do the same to the bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.sides.answering import Job, Steps, answer

PIECE_BYTES = 1 << 20


def register_large(job: Job) -> Steps:
    """Read, sha256, write and fsync, in one pass."""
    yield from _copies(job, durable=True)


def download_large(job: Job) -> Steps:
    """Read, sha256 and write."""
    yield from _copies(job, durable=False)


def _copies(job: Job, *, durable: bool) -> Steps:
    target = job.folder / "copied.bin"
    job.folder.mkdir(exist_ok=True)
    while True:
        target.unlink(missing_ok=True)
        os.sync()  # nobody pays for what was written before
        yield None
        digest = hashlib.sha256()
        with target.open("xb", buffering=0) as out:
            for piece in _pieces(job.large_file):
                digest.update(piece)
                out.write(piece)
            if durable:
                os.fsync(out.fileno())
        yield None
        target.unlink()


def map_large(job: Job) -> Steps:
    """Read and sha256; nothing is kept."""
    while True:
        yield None
        digest = hashlib.sha256()
        for piece in _pieces(job.large_file):
            digest.update(piece)
        yield None


def load_large(job: Job) -> Steps:
    """Read into memory and sha256; all of it is kept."""
    while True:
        yield None
        digest, whole, read = hashlib.sha256(), memoryview(bytearray(job.sizes.large_bytes)), 0
        with job.large_file.open("rb", buffering=0) as file:
            while count := file.readinto(whole[read : read + PIECE_BYTES]):
                digest.update(whole[read : read + count])
                read += count
        yield None
        del whole


def _pieces(path: Path) -> Iterator[memoryview]:
    piece = memoryview(bytearray(PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            yield piece[:count]


if __name__ == "__main__":
    answer({each.__name__: each for each in (register_large, download_large, map_large, load_large)})
