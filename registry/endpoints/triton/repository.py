"""A model repository of Triton, in a folder or a bucket: the models in it that are ours, and what we wrote for them.

Rules that are kept here:
- A folder without our marker, or with that of another registry or endpoint, is never written to nor removed.
- The marker is the first file of a model and the last to go; ``config.pbtxt``, without which Triton loads nothing, is
  written when all that it names is there, and goes first.
- A file is there whole or not at all: each is written beside its place and put there in one step.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.encoding import parse_record, readable_json
from registry.endpoints.triton.staging import Marker, Staged, digest_of_pieces, fetch_part, pieces_of
from registry.errors import EndpointError, IntegrityError, InvalidInputError, RefusedError
from registry.store.contract import AlreadyExistsError
from registry.store.open import open_store

if TYPE_CHECKING:
    from registry.endpoints.target import Part

MARKER, CONFIG = "modelway.json", "config.pbtxt"
_SCHEMES = ("file", "gs", "s3")


class TritonRepository:
    """The models of one endpoint in a repository."""

    def __init__(
        self, location: str, *, registry: str, endpoint: str, storage_options: Mapping[str, Any] | None = None
    ) -> None:
        """Take the repository's place as this machine reaches it; nothing is asked of it yet.

        Raises:
            InvalidInputError: No folder and no address with gs:// or s3://, which are what Triton reads.
            MissingExtraError: The client for this kind of bucket is not installed.
        """
        scheme, separator, _ = location.partition("://")
        if separator and scheme not in _SCHEMES:
            raise InvalidInputError(f"a Triton repository cannot be at {scheme}://: give a folder, gs:// or s3://.")
        self._store = open_store(location, storage_options=storage_options)
        self.url, self.registry, self.endpoint = self._store.url, registry, endpoint

    def markers(self) -> dict[str, Marker]:
        """Return the models that are this endpoint's, with what we wrote about them."""
        keys = [key for key in self._store.list("") if key.count("/") == 1 and key.endswith(f"/{MARKER}")]
        found = zip(keys, self._store.read_many(keys), strict=True)
        parsed = {key.partition("/")[0]: self._parse(key, data) for key, data in found if data is not None}
        return {name: marker for name, marker in parsed.items() if self._is_ours(marker)}

    def marker(self, name: str) -> Marker | None:
        """Return what we wrote about a model, None where nothing is under its name.

        Raises:
            RefusedError: It is another registry's or endpoint's, or there are files of somebody else.
        """
        [data] = self._store.read_many([f"{name}/{MARKER}"])
        if data is not None:
            marker = self._parse(f"{name}/{MARKER}", data)
            if not self._is_ours(marker):
                raise self._refusal(name, f"it belongs to endpoint {marker.endpoint} of registry {marker.registry}")
            return marker
        if self._store.list(name):
            raise self._refusal(name, f"it was not written by modelway: it has no {MARKER}")
        return None

    def claim(self, name: str) -> Marker:
        """Return what we wrote about a model, whose name is now ours if it was free.

        Raises:
            RefusedError: It is somebody else's.
        """
        if (marker := self.marker(name)) is not None:
            return marker
        marker = Marker(registry=self.registry, endpoint=self.endpoint)
        with contextlib.suppress(AlreadyExistsError):  # by somebody else just now: read again whose it is
            self._store.create(f"{name}/{MARKER}", readable_json(marker))
        return self.marker(name) or marker

    def note(self, name: str, marker: Marker) -> None:
        """Write about a model that is ours."""
        if self.claim(name) != marker:
            self._store.replace(f"{name}/{MARKER}", readable_json(marker))

    def put(self, name: str, part: Part, *, near: Iterable[str] = ()) -> Staged:
        """Put a part's files under a model's name; those that are there with the right bytes stay.

        Args:
            name: The model's.
            part: What is to be there.
            near: Models of ours in which the part's files may be already, which spares fetching them.

        Raises:
            RefusedError: The name is somebody else's.
        """
        for source in (name, *near):
            marker = self.marker(source)
            staged = marker.versions.get(str(part.number)) if marker else None
            if staged is not None and staged.is_of(part) and self._is_whole(source, staged):
                return self.copy(source, name, part.number)
        self.claim(name)
        with tempfile.TemporaryDirectory(prefix="modelway-") as folder:
            staged, paths = fetch_part(part, Path(folder))
            for path, file in paths.items():
                self._put(f"{name}/{path}", staged.files[path], pieces_of(file))
        return self._noted(name, part.number, staged)

    def copy(self, source: str, name: str, number: int) -> Staged:
        """Put a version of one of our models under the name of another one, or leave it there if they are the same.

        Raises:
            EndpointError: It is not there any more.
            IntegrityError: A file is not what it was when it was written; nothing of it is left under the name.
        """
        staged = self.staged(source, number)
        if source == name:
            return staged
        self.claim(name)
        for path, digest in staged.files.items():
            try:
                self._put(f"{name}/{path}", digest, self._store.chunks(f"{source}/{path}"))
            except FileNotFoundError:
                raise self._gone(source, number) from None
        return self._noted(name, number, staged)

    def staged(self, name: str, number: int) -> Staged:
        """Return what a version of a model is.

        Raises:
            EndpointError: It is not there any more.
        """
        marker = self.marker(name)
        if marker is None or str(number) not in marker.versions:
            raise self._gone(name, number)
        return marker.versions[str(number)]

    def _gone(self, name: str, number: int) -> EndpointError:
        return EndpointError(
            f"version {number} is not under {name} in {self.url} any more: another rollout of {self.endpoint} has "
            f"removed it. Begin this one again."
        )

    def _noted(self, name: str, number: int, staged: Staged) -> Staged:
        marker = self.claim(name)
        self.note(name, marker.model_copy(update={"versions": {**marker.versions, str(number): staged}}))
        return staged

    def read(self, name: str, path: str) -> bytes | None:
        """Return a file of a model, None if there is none."""
        [data] = self._store.read_many([f"{name}/{path}"])
        return data

    def configure(self, name: str, config: bytes | None) -> None:
        """Write a model's ``config.pbtxt`` if it differs, or remove it (None)."""
        self.claim(name)
        if config is None:
            self._store.delete(f"{name}/{CONFIG}")
        elif self.read(name, CONFIG) != config:
            self._store.replace(f"{name}/{CONFIG}", config)

    def remove_versions(self, name: str, *, keep: Iterable[int]) -> None:
        """Remove the versions of a model that are not to be kept."""
        kept = {str(number) for number in keep}
        marker = self.claim(name)
        staying = {number: staged for number, staged in marker.versions.items() if number in kept}
        files = {path for staged in staying.values() for path in staged.files}
        for key in self._store.list(name):
            path = key.removeprefix(f"{name}/")
            if path not in {MARKER, CONFIG, *files}:
                self._store.delete(key)
                self._remove_empty(key, name)
        self.note(name, marker.model_copy(update={"versions": staying}))

    def remove(self, name: str) -> None:
        """Remove a model; nothing if it is not there.

        Raises:
            RefusedError: It is somebody else's.
        """
        if self.marker(name) is None:
            return
        marker, config = f"{name}/{MARKER}", f"{name}/{CONFIG}"
        others = [key for key in self._store.list(name) if key not in {marker, config}]
        for key in (config, *others, marker):
            self._store.delete(key)
        if (folder := self._store.local_path(name)) is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _remove_empty(self, key: str, name: str) -> None:
        if (file := self._store.local_path(key)) is not None:
            folder = file.parent
            with contextlib.suppress(OSError):  # another file is in it
                while folder.name != name:
                    folder.rmdir()
                    folder = folder.parent

    def _put(self, key: str, digest: str, chunks: Iterator[bytes]) -> None:
        if (there := self._digest(key)) == digest:
            return
        if there is not None:
            self._store.delete(key)
        passing = hashlib.sha256()
        try:
            self._store.upload(key, _hashed(chunks, passing))
        except AlreadyExistsError:  # by another one who brings up the same generation
            return
        if (found := passing.hexdigest()) != digest:
            self._store.delete(key)
            raise IntegrityError(f"{self.url}/{key}", f"sha256:{digest}", f"sha256:{found}")

    def _is_whole(self, name: str, staged: Staged) -> bool:
        return all(self._digest(f"{name}/{path}") == digest for path, digest in staged.files.items())

    def _digest(self, key: str) -> str | None:
        try:
            return digest_of_pieces(self._store.chunks(key))
        except FileNotFoundError:
            return None

    def _parse(self, key: str, data: bytes) -> Marker:
        return parse_record(Marker, data, f"{self.url}/{key}")

    def _is_ours(self, marker: Marker) -> bool:
        return (marker.registry, marker.endpoint) == (self.registry, self.endpoint)

    def _refusal(self, name: str, why: str) -> RefusedError:
        return RefusedError(
            f"endpoint {self.endpoint} cannot use the model {name} in {self.url}: {why}. Nothing was changed. Give the "
            f"endpoint a model_name of its own, or remove that folder if nobody needs it."
        )


def _hashed(chunks: Iterator[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for piece in chunks:
        digest.update(piece)
        yield piece
