"""A folder for what is built on the way: gone when the work is done, and swept when whoever made it was killed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_PREFIX = "modelway-work-"
_NAMED = re.compile(rf"{_PREFIX}(\d+)-.+")


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder of this process's own below the system's temporary folder (``TMPDIR``), and remove it at the end.

    Folders that processes of this user have left behind, which are not running any more, are removed first: engines are
    large, and a process that is killed removes nothing.
    """
    _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        yield Path(folder)


def _sweep(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        named = _NAMED.fullmatch(folder.name)
        if named and not psutil.pid_exists(int(named[1])) and _is_ours(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        seen = folder.lstat()
    except FileNotFoundError:  # another process sweeps as well
        return False
    return not hasattr(os, "getuid") or seen.st_uid == os.getuid()
