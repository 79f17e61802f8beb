"""Roll-outs of small classifiers for a target of Vertex AI, built by hand: ``v3`` has weights drawn from the seed 3."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from small_network import CLASSES, FEATURES, answers, network, samples

from registry.endpoints.target import Part, Role, Rollout
from registry.records import FileEntry
from registry.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from registry.endpoints.target import Samples, Target

REGISTRY = "0f" * 16
SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, FEATURES)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(-1, CLASSES)),),
)
GOLDEN = samples(20)


def part(  # noqa: PLR0913 - what differs between the parts of these tests
    number: int,
    role: Role = "stable",
    share: float = 1.0,
    *,
    seed: int | None = None,
    engine: str = "onnxruntime",
    key_fields: Mapping[str, Any] | None = None,
    golden: Samples | None = None,
    own: NDArray[Any] | None = None,
) -> Part:
    """Return version ``v{number}`` of ``digits``: a network with weights of its own, or those of ``seed``.

    ``own`` are outputs that the engine is held to instead of the model's.
    """
    data = network(number).SerializeToString() if seed is None else network(seed).SerializeToString()

    def fetch(folder: Path) -> FileEntry:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(data)
        if own is not None:
            np.save(folder / "golden.npy", own)
        return FileEntry(path="model.onnx", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))

    return Part(
        model="digits",
        version=f"v{number}",
        number=number,
        role=role,
        share=share,
        metadata_digest=f"sha256:{number:064x}" if seed is None else f"sha256:{seed:032x}{number:032x}",
        variant=None,
        engine=engine,
        key_fields=key_fields or {},
        signature=SIGNATURE,
        fetch=fetch,
        samples=golden or (GOLDEN, answers(GOLDEN, number)),
    )


def rollout(generation: int, *parts: Part, keep: tuple[int, ...] = ()) -> Rollout:
    """Return a generation of ``digits``."""
    return Rollout(registry=REGISTRY, endpoint="digits", generation=generation, parts=parts, keep=keep)


def bring_up(target: Target, wanted: Rollout) -> None:
    """Do all that a roll-out does, in its order."""
    for step in (target.check, target.stage, target.configure, target.load, target.probe, target.route, target.collect):
        step(wanted)
