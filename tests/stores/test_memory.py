"""What a store in memory adds: names, and that it is of one process."""

from __future__ import annotations

from registry import InMemoryModelStore
from registry.store import open_store


def test_one_name_in_memory_is_one_store_and_unnamed_ones_are_apart() -> None:
    open_store("memory://shared-by-name").create("a", b"x")

    assert open_store("memory://shared-by-name/").read("a") == b"x"
    assert InMemoryModelStore().list("") == []
    assert InMemoryModelStore().url != InMemoryModelStore().url
