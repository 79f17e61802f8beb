"""A process that races others for the same keys of one folder; it prints the numbers of the rounds that it won."""

from __future__ import annotations

import json
import sys
import time

from registry import FileModelStore
from registry.store import AlreadyExistsError


def main(folder: str, name: str, rounds: str) -> None:
    """Create one key after the other; say so when ready, and begin when told."""
    store = FileModelStore(folder)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    starts_at = float(sys.stdin.readline())
    while time.time() < starts_at:
        pass
    won = []
    for number in range(int(rounds)):
        try:
            store.create(f"race/{number}", name.encode() * 20_000)
        except AlreadyExistsError:
            # What refused us is whole: a torn file would be seen here first, and end this process with a status.
            seen = store.read(f"race/{number}")
            assert seen == seen[:1] * 20_000
        else:
            won.append(number)
    sys.stdout.write(json.dumps(won))


if __name__ == "__main__":
    main(*sys.argv[1:])
