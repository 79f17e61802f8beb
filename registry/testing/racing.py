"""Racers for one key, as threads and as processes, and other things done at the same moment."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from registry.store import AlreadyExistsError, ModelStore

PATIENCE_S = 120.0
"""How long a racer waits for the others; a process that cannot start is told after it."""


def payload(racer: int) -> bytes:
    """Return what a racer writes: its number, over and over, so that a torn or mixed object shows."""
    return b"%06d" % racer * 3000


def race_threads(store: ModelStore, *, racers: int, rounds: int) -> list[str]:
    """Return what went wrong in ``rounds`` races of threads; empty when each had exactly one winner."""
    start = threading.Barrier(racers)
    with ThreadPoolExecutor(racers) as pool:
        runs = [pool.submit(_run, store, start, racer, rounds) for racer in range(racers)]
        won = [pair for run in runs for pair in run.result()]
    return judge(store, won, rounds)


def race_processes(store: ModelStore, *, processes: int, threads: int, rounds: int) -> list[str]:
    """Return what went wrong in ``rounds`` races of ``processes`` with ``threads`` racers each."""
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(processes * threads), context.Queue()
    firsts = [number * threads for number in range(processes)]
    children = [
        context.Process(target=_run_process, args=(store, start, answers, range(first, first + threads), rounds))
        for first in firsts
    ]
    for child in children:
        child.start()
    try:
        said = [answers.get(timeout=PATIENCE_S * 1.5) for _ in children]
    finally:
        for child in children:
            child.join(5)
            child.kill()
    troubles = [trouble for trouble, _ in said if trouble]
    return troubles or judge(store, [pair for _, won in said for pair in won], rounds)


def judge(store: ModelStore, won: list[tuple[int, int]], rounds: int) -> list[str]:
    """Return what is wrong with the (round, racer) pairs that won, given what the store holds."""
    winners = Counter(number for number, _ in won)
    wrong = [f"round {number} had {winners[number]} winners" for number in range(rounds) if winners[number] != 1]
    return wrong or [
        f"round {number} was won by racer {racer}, and the bytes are another's"
        for number, racer in won
        if store.read(_key(number)) != payload(racer)
    ]


@contextmanager
def nothing_changes(store: ModelStore) -> Iterator[None]:
    """Fail if a byte of ``store`` is another afterwards."""
    before = {key: store.read(key) for key in store.list("")}
    yield
    assert {key: store.read(key) for key in store.list("")} == before


def in_pieces(data: bytes, size_bytes: int) -> Iterator[bytes]:
    """Yield ``data`` in pieces of this size."""
    return (data[start : start + size_bytes] for start in range(0, len(data), size_bytes))


def together(works: list[Callable[[], None]]) -> list[int]:
    """Run all at the same moment; return which of them were not refused because the key was taken."""
    start = threading.Barrier(len(works))
    done: list[int] = []
    failed: list[BaseException] = []

    def run(number: int) -> None:
        start.wait()
        try:
            works[number]()
        except AlreadyExistsError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            failed.append(error)
        else:
            done.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return sorted(done)


def _run(store: ModelStore, start: Any, racer: int, rounds: int) -> list[tuple[int, int]]:
    won = []
    try:
        for number in range(rounds):
            start.wait(PATIENCE_S)
            try:
                store.create(_key(number), payload(racer))
            except AlreadyExistsError:
                seen = store.read(_key(number))
                assert seen == payload(int(seen[:6] or -1)), f"a loser of round {number} saw a torn object"
            else:
                won.append((number, racer))
    except BaseException:
        start.abort()
        raise
    return won


def _run_process(store: ModelStore, start: Any, answers: Any, racers: range, rounds: int) -> None:
    run: Callable[[int], list[tuple[int, int]]] = lambda racer: _run(store, start, racer, rounds)  # noqa: E731
    try:
        with ThreadPoolExecutor(len(racers)) as pool:
            answers.put(("", [pair for won in pool.map(run, racers) for pair in won]))
    except BaseException as error:  # noqa: BLE001 - told by the parent
        answers.put((f"a racing process failed: {type(error).__name__}: {error}", []))


def _key(number: int) -> str:
    return f"race/{number}"
