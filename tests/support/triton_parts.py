"""Versions of a small network as a rollout has them, its seven calls, and users who ask all the time."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from small_network import CLASSES, FEATURES, answers, network, samples
from tritonclient.grpc import InferenceServerClient, InferInput

from registry.endpoints.target import Part, Reached, Role, Rollout, Target
from registry.records import FileEntry
from registry.signature import Signature, TensorSpec

REGISTRY = "7d9f0c2a"
STEPS = ("check", "stage", "configure", "load", "probe", "route", "collect")


def signature_of(output: str = "y") -> Signature:
    """Return the network's signature, with a name for its output."""
    return Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, FEATURES)),),
        outputs=(TensorSpec(name=output, dtype="float32", shape=(-1, CLASSES)),),
    )


ENGINE_OF_A_GPU = {
    "engine": "tensorrt",
    "package": "tensorrt",
    "version": "10.13.3.9",
    "compute_capabilities": ["8.0"],
    "profiles": [{"input": "x", "min": [1, FEATURES], "opt": [8, FEATURES], "max": [16, FEATURES]}],
}


def part_of(
    number: int,
    *,
    data: bytes | None = None,
    files: Mapping[str, bytes] | None = None,
    seed: int | None = None,
    samples_of: int | None = None,
    **more: Any,
) -> Part:
    """Return version ``number``: the network of that seed, or of another one.

    Args:
        number: The version's.
        data: The bytes of its file, where they are not the network's.
        files: What lies beside it.
        seed: Of the network, the number without it.
        samples_of: The seed of the network whose outputs are its golden ones, where they are not its own.
        more: Other fields of the part.
    """
    seed = number if seed is None else seed
    data = network(seed).SerializeToString() if data is None else data

    def fetch(folder: Path) -> FileEntry:
        for path, content in {"engine.bin": data, **(files or {})}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return FileEntry(path="engine.bin", sha256=f"sha256:{sha256(data)}", size_bytes=len(data))

    inputs = samples(40)
    given: dict[str, Any] = {
        "model": "digits",
        "version": f"v{number}",
        "role": "stable",
        "share": 1.0,
        "metadata_digest": f"sha256:{number:064}",
        "variant": None,
        "engine": "onnxruntime",
        "signature": signature_of(),
        "samples": (inputs, answers(inputs, seed if samples_of is None else samples_of)),
    }
    return Part(number=number, fetch=fetch, **{**given, **more})


def rollout_of(generation: int, *parts: Part, endpoint: str = "shop", keep: tuple[int, ...] = ()) -> Rollout:
    """Return a rollout of parts."""
    return Rollout(registry=REGISTRY, endpoint=endpoint, generation=generation, parts=parts, keep=keep)


def canary_of(number: int, share: float, **more: Any) -> Part:
    """Return version ``number`` as a canary."""
    role: Role = "canary"
    return part_of(number, role=role, share=share, **more)


def bring_up(target: Target, rollout: Rollout, *, until: str = "collect") -> Reached | None:
    """Make the calls of a rollout, up to and with one of them, and return what ``route`` gave."""
    reached = None
    for step in STEPS[: STEPS.index(until) + 1]:
        answer = getattr(target, step)(rollout)
        reached = answer if step == "route" else reached
    return reached


def sha256(data: bytes) -> str:
    """Return the digest as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_of_network(seed: int) -> str:
    """Return the digest of the network of a seed as ONNX."""
    return sha256(network(seed).SerializeToString())


def tree(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass
class Users:
    """People who ask one model without a break: how often each network answered, and what went wrong."""

    answered: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    errors: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    @property
    def requests(self) -> int:
        return self.answered.total() + self.wrong + len(self.errors)

    def wait_for(self, more: int, within_s: float = 60.0) -> None:
        """Wait until so many more requests came back."""
        wanted, deadline = self.requests + more, time.monotonic() + within_s
        while self.requests < wanted:
            assert time.monotonic() < deadline, f"{self.requests} requests, {self.errors[:3]}"
            time.sleep(0.01)


@contextlib.contextmanager
def users_of(address: str, model: str, *, seeds: tuple[int, ...], threads: int = 4) -> Iterator[Users]:
    """Let several people ask a model over gRPC, each over a connection of their own, until the end."""
    seen, end, lock = Users(), threading.Event(), threading.Lock()
    asked = samples(3, seed=11)
    right = {seed: answers(asked, seed) for seed in seeds}

    def ask() -> None:
        tensor = InferInput("x", list(asked.shape), "FP32").set_data_from_numpy(asked)
        with InferenceServerClient(address) as client:
            while not end.is_set():
                began = time.perf_counter()
                try:
                    found = client.infer(model, [tensor]).as_numpy("y")
                    by = [seed for seed in seeds if np.allclose(found, right[seed], atol=1e-3)]
                    error = ""
                except Exception as failure:  # noqa: BLE001 - whatever a user would see
                    by, error = [], str(failure)
                with lock:
                    seen.slowest_s = max(seen.slowest_s, time.perf_counter() - began)
                    if error:
                        seen.errors.append(error)
                    elif by:
                        seen.answered[by[0]] += 1
                    else:
                        seen.wrong += 1

    people = [threading.Thread(target=ask) for _ in range(threads)]
    for one in people:
        one.start()
    try:
        yield seen
    finally:
        end.set()
        for one in people:
            one.join()
