"""A version on its way into a Triton repository: its files under the names that they have there, and their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from registry.base import StoredRecord
from registry.encoding import FORMAT
from registry.endpoints.triton.config import backend_of, warmup_file, warmup_samples
from registry.engines.job import GOLDEN_OUTPUTS
from registry.store.contract import CHUNK_BYTES

if TYPE_CHECKING:
    from registry.endpoints.target import Part


class Staged(StoredRecord):
    """A version in a model's folder: what it is, and the sha256 of its files by their path in that folder.

    ``opened`` is the path of the file that Triton opens.
    """

    version: str
    engine: str
    metadata_digest: str
    variant: str | None
    opened: str
    files: dict[str, str]

    @property
    def digest(self) -> str:
        """The sha256 of the opened file, 64 hexadecimal digits."""
        return self.files[self.opened]

    def is_of(self, part: Part) -> bool:
        """Return whether it is what a part wants."""
        wanted = (part.metadata_digest, part.variant, part.engine)
        return (self.metadata_digest, self.variant, self.engine) == wanted


class Marker(StoredRecord):
    """``modelway.json`` in a model's folder: whose it is and what is there, by version number.

    ``shares`` are those of the generation that was routed last, as ``WeightedClient`` takes them; ``place`` tells by
    which settings it was, the server's address and the model's name there, and is empty before.
    """

    format: int = FORMAT
    registry: str
    endpoint: str
    generation: int = 0
    place: str = ""
    versions: dict[str, Staged] = Field(default_factory=dict)
    shares: dict[str, float] = Field(default_factory=dict)


def fetch_part(part: Part, folder: Path) -> tuple[Staged, dict[str, Path]]:
    """Fetch a part's files, and return what they will be in a repository, with where they lie now."""
    entry = part.fetch(folder / "engine")
    opened = folder / "engine" / entry.path
    inside, golden = opened.parent, folder / "engine" / GOLDEN_OUTPUTS
    name = f"{part.number}/{backend_of(part.engine).file}"
    paths = {
        f"{part.number}/{file.relative_to(inside).as_posix()}": file
        for file in sorted(inside.rglob("*"))
        if file.is_file() and file not in {opened, golden}
    }
    paths[name] = opened
    if golden.is_file():
        paths[golden_file(part.number)] = golden
    if (samples := warmup_samples(part)) is not None:
        file = folder / "warmup"
        file.write_bytes(samples.astype(samples.dtype.newbyteorder("<"), copy=False).tobytes())
        paths[f"warmup/{warmup_file(part.number)}"] = file
    staged = Staged(
        version=part.version,
        engine=part.engine,
        metadata_digest=part.metadata_digest,
        variant=part.variant,
        opened=name,
        files={path: digest_of_pieces(pieces_of(file)) for path, file in paths.items()},
    )
    return staged, paths


def golden_file(number: int) -> str:
    """Return the path, in a model's folder, of a version's own outputs for the golden samples."""
    return f"golden/{number}.npy"


def pieces_of(file: Path) -> Iterator[bytes]:
    """Yield a file's bytes, 1 MiB at a time."""
    with file.open("rb") as opened:
        while piece := opened.read(CHUNK_BYTES):
            yield piece


def digest_of_pieces(chunks: Iterator[bytes]) -> str:
    """Return the sha256 of bytes that come in pieces, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for piece in chunks:
        digest.update(piece)
    return digest.hexdigest()
