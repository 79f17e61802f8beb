"""A process that shares one registry with others: it promotes, or looks on until it is told to stop."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from registry import ModelRegistry
from registry.errors import ModelNotFoundError

MODEL = "digits"


def promote(folder: str, actor: str, times: str) -> None:
    """Register a version and promote it to production, again and again."""
    models = ModelRegistry(folder, actor=actor)
    for number in range(int(times)):
        version = models.register(MODEL, metrics={"accuracy": number / int(times)})
        models.promote(MODEL, version.version, "production", reason=f"{actor} {number}")


def watch(folder: str, stop: str) -> None:
    """Look at the versions until the file ``stop`` is there; print what was seen as JSON."""
    models = ModelRegistry(folder)
    looks, most, backward, last = 0, 0, 0, (0, 0)
    while not Path(stop).exists():
        try:
            # Every other look by an object that knows nothing: the way of a process that has just started.
            seen = (models if looks % 2 else ModelRegistry(folder)).list_versions(MODEL)
        except ModelNotFoundError:
            time.sleep(0.01)
            continue
        looks += 1
        most = max(most, sum(version.stage == "production" for version in seen))
        now = (len(seen), seen[-1].as_of)
        backward += now[0] < last[0] or now[1] < last[1]
        last = now
        time.sleep(0.02)  # a reader in earnest does something with what it saw; one that spins only slows the others
    sys.stdout.write(json.dumps({"looks": looks, "most_in_production": most, "went_backward": backward}))


if __name__ == "__main__":
    if sys.argv[1] == "promote":
        promote(*sys.argv[2:])
    else:
        watch(*sys.argv[2:])
