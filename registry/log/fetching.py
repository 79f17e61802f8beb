"""Reads in steps: each step names the keys it needs next, and any number of reads share one batch per round trip."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeAlias, TypeVar

from registry.store import ModelStore

Result = TypeVar("Result")

Steps: TypeAlias = Generator[Sequence[str], list[bytes | None], Result]
"""Yields keys, is sent their bytes (None where there is no such key), and returns what it has made of them."""


def run(store: ModelStore, steps: Steps[Result]) -> Result:
    """Return what ``steps`` come to; as many round trips as they have."""
    return run_together(store, [steps])[0]  # type: ignore[no-any-return]


def run_together(store: ModelStore, reads: Sequence[Steps[Any]]) -> list[Any]:
    """Return what each of ``reads`` comes to; as many round trips as the longest of them has."""
    results: list[Any] = [None] * len(reads)
    answers: dict[int, list[bytes | None] | None] = dict.fromkeys(range(len(reads)))
    while answers:
        asked: dict[int, Sequence[str]] = {}
        for index, answer in answers.items():
            try:
                asked[index] = next(reads[index]) if answer is None else reads[index].send(answer)
            except StopIteration as ended:
                results[index] = ended.value
        found = iter(store.read_many([key for keys in asked.values() for key in keys])) if asked else iter(())
        answers = {index: [next(found) for _ in keys] for index, keys in asked.items()}
    return results
