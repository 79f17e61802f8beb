"""A process that mounts a disk of 1 MB at a folder, for itself alone, and tells what a store does on it.

Run under ``unshare --mount``: the mount is seen by nobody else and is gone with the process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from registry import FileModelStore
from registry.errors import StoreError


def main(folder: str) -> None:
    """Fill the disk, make it read-only, and print each refusal with what lies there afterwards."""
    told: dict[str, str] = {}
    _mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
    store = FileModelStore(Path(folder) / "registry")
    store.create("log/1", b"first")
    large = bytes(2 << 20)

    _note(told, "create", lambda: store.create("log/2", large))
    _note(told, "upload", lambda: store.upload("weights", iter([large[: 1 << 19]] * 4)))
    _note(told, "replace", lambda: store.replace("log/1", large))
    told["after a full disk"] = json.dumps(_everything(folder))
    store.create("log/2", b"there is room again")

    _mount("-o", "remount,ro", folder)
    for name, write in {
        "create, read-only": lambda: store.create("log/3", b"x"),
        "replace, read-only": lambda: store.replace("log/1", b"x"),
        "delete, read-only": lambda: store.delete("log/1"),
        "new folder, read-only": lambda: store.create("elsewhere/1", b"x"),
    }.items():
        _note(told, name, write)
    told["after a read-only disk"] = json.dumps(_everything(folder))
    told["read"] = store.read("log/1").decode()
    sys.stdout.write(json.dumps(told))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)  # noqa: S607 - from PATH


def _note(told: dict[str, str], name: str, write: Callable[[], None]) -> None:
    try:
        write()
    except StoreError as error:
        told[name] = f"{type(error).__name__}: {error}"


def _everything(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


if __name__ == "__main__":
    main(sys.argv[1])
