"""A process with a store of its own: it promotes against others, streams a large file, or forks."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator

from registry import ModelRegistry, ModelStore
from registry.store import open_store

PIECE = bytes(range(256)) * 4096


def promote(store: ModelStore, actor: str, times: str) -> None:
    """Register a version and promote it to production, again and again."""
    models = ModelRegistry(store=store, actor=actor)
    for number in range(int(times)):
        version = models.register("digits", metrics={"accuracy": number / int(times)})
        models.promote("digits", version.version, "production", reason=f"{actor} {number}")


def stream(store: ModelStore, size_mb: str) -> None:
    """Upload and download a large object; print by how many MB memory grew at its peak, each way."""
    store.upload("small", iter([PIECE[:10]]))
    list(store.chunks("small"))
    before = _peak_mb()
    store.upload("large", _pieces(int(size_mb)))
    up = _peak_mb()
    seen = sum(len(piece) for piece in store.chunks("large"))
    assert seen == int(size_mb) << 20
    sys.stdout.write(json.dumps({"up_mb": up - before, "both_mb": _peak_mb() - before}))


def fork(store: ModelStore) -> None:
    """Use the store, then use it in a child; print the child's status."""
    store.create("before", b"parent")
    child = os.fork()
    if not child:
        assert store.read("before") == b"parent"
        store.create("after", b"child")
        sys.exit(0)  # with all that runs at exit: clients of the parent must not wait there for threads of the parent
    assert store.read("before") == b"parent"
    status = os.waitpid(child, 0)[1]
    sys.stdout.write(json.dumps({"status": status, "after": store.read("after").decode()}))


def _pieces(size_mb: int) -> Iterator[bytes]:
    for number in range(size_mb):
        yield b"%08d" % number + PIECE[8:]


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    opened = open_store(sys.argv[2], storage_options=json.loads(sys.argv[3]))
    verbs: dict[str, Callable[..., None]] = {"promote": promote, "stream": stream, "fork": fork}
    verbs[sys.argv[1]](opened, *sys.argv[4:])
