"""Copying versions to another registry: the same bytes, verified on their way, under the same label."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from registry import artifacts
from registry.config import RegistryConfig
from registry.drafting import Draft
from registry.encoding import digest_of
from registry.errors import IntegrityError, ModelNotFoundError, VersionExistsError, VersionNotFoundError
from registry.events import VariantAdded
from registry.guard import plan_name
from registry.log import Snapshot
from registry.records import FileEntry, Manifest, ModelVersion, Variant
from registry.registering import Registering
from registry.state import ModelState
from registry.store import AlreadyExistsError, ModelStore
from registry.versions import VersionRef
from registry.wishes import Wish


@dataclass(frozen=True)
class _Engine:
    """A derived engine on its way: its key, its metadata as it stands, and its files."""

    key: str
    metadata: bytes
    sources: list[artifacts.Source]


@dataclass(frozen=True)
class _Parcel:
    """A version on its way to another registry."""

    version: ModelVersion
    draft: Draft
    engines: list[_Engine]


class Copying(Registering):
    """The verb that hands versions to other registries."""

    def copy(
        self,
        name: str,
        version: VersionRef,
        *,
        to: str | os.PathLike[str] | RegistryConfig | Copying,
        variants: bool = True,
        actor: str | None = None,
    ) -> ModelVersion:
        """Register a version in another registry: the same files with the same digests, under the same label.

        What is said of it by now goes with it, annotations and what metrics were measured on too, and its lineage says
        where it came from. Stage, aliases, approvals and deployments do not: it begins in development, and the other
        registry's gate is its own. Repeating the call gives the same version, and goes on where a first one stopped.

        Args:
            name: The model, or ``name@alias``.
            version: Number, label or alias.
            to: The other registry, or where it lies; it is made if need be.
            variants: Copy the engines that are kept beside it too.
            actor: Who is recorded as registering it there.

        Returns:
            The version there; the one that holds the label already, if it has the same files.

        Raises:
            ModelNotFoundError, VersionNotFoundError: There is no such version.
            IntegrityError: A byte is not what was recorded; the version is not registered there.
            VersionExistsError: The label is taken there by something else.
            InvalidVersionError, InvalidNameError: The model there numbers its versions otherwise, or has a look-alike.
        """
        target = to if isinstance(to, Copying) else Copying(to, actor=self.actor)
        known, key = self._resolve(name, version, None)
        parcel = self._pack(name.partition("@")[0], known, key, variants=variants)
        return target._receive(parcel, actor)  # noqa: SLF001 - a registry as this one

    def _pack(self, name: str, known: Snapshot[ModelState], key: str, *, variants: bool) -> _Parcel:
        state, version = known.state.versions[key], self._version(name, known, key)
        folder, sidecar = f"models/{name}/{state.path}", self._sidecar(name, known, key)
        came_from = {
            "registry": self.identity.id,
            "version": version.full_name,
            "metadata_digest": state.metadata_digest,
        }
        if (before := version.described.lineage.get("copied_from")) is not None:
            came_from["copied_from"] = before
        described = version.described.model_copy(
            update={"lineage": {**version.described.lineage, "copied_from": came_from}}
        )
        draft = Draft(
            described,
            _sources(self.store, folder, sidecar.manifest),
            sidecar.form,
            dict(sidecar.framework_info),
            measured_on=dict(version.measured_on),
            more=dict(sidecar.model_extra or {}),
        )
        engines = state.variants.items() if variants else ()
        return _Parcel(
            version, draft, [self._engine(f"{folder}/variants/{one}", one, digest) for one, digest in engines]
        )

    def _engine(self, folder: str, key: str, digest: str) -> _Engine:
        file = f"{folder}/metadata.json"
        variant = self._read_recorded(Variant, file, digest)
        data = self.store.read(file)
        if digest_of(data) != digest:
            raise IntegrityError(self.store.address(file), digest, digest_of(data))
        return _Engine(key, data, _sources(self.store, folder, variant.manifest))

    def _receive(self, parcel: _Parcel, actor: str | None) -> ModelVersion:
        sent = parcel.version
        plan_name(self._root.read().state, sent.name)  # refused before anything is written
        wish = Wish(sent.name, sent.version, None, f"copied from {sent.metadata_digest}", actor or self.actor)
        try:
            copied = self._register(wish, parcel.draft)
        except VersionExistsError:
            there = self._the_same(sent)
            if there is None:
                raise
            copied = there
        for engine in parcel.engines:
            self._receive_engine(copied, engine, actor)
        return self.get_version(copied.name, copied.version) if parcel.engines else copied

    def _the_same(self, sent: ModelVersion) -> ModelVersion | None:
        """Return the version that holds the label here, if it has the same files; None for any other."""
        try:
            there = self.get_version(sent.name, sent.version)
        except (VersionNotFoundError, ModelNotFoundError):  # reserved by another, or deleted
            return None
        return there if sent.artifact is not None and there.artifact == sent.artifact else None

    def _receive_engine(self, copied: ModelVersion, engine: _Engine, actor: str | None) -> None:
        known, key = self._resolve(copied.name, copied.version, None)
        state = known.state.versions[key]
        if engine.key in state.variants:
            return
        folder = f"models/{copied.name}/{state.path}/variants/{engine.key}"
        artifacts.upload(self.store, folder, engine.sources, title=f"copying an engine of {copied.full_name}")
        try:
            self.store.create(f"{folder}/metadata.json", engine.metadata)
        except AlreadyExistsError:  # an earlier try
            if self.store.read(f"{folder}/metadata.json") != engine.metadata:
                raise
        added = VariantAdded(version=key, key=engine.key, digest=digest_of(engine.metadata))

        def decide(known: Snapshot[ModelState]) -> VariantAdded | None:
            return None if engine.key in known.state.versions[key].variants else added

        self._append_existing(copied.name, decide, actor=actor)


def _sources(store: ModelStore, folder: str, manifest: Manifest | None) -> list[artifacts.Source]:
    return [
        artifacts.Source(entry.path, entry.size_bytes, partial(_verified, store, f"{folder}/{entry.path}", entry))
        for entry in (() if manifest is None else manifest.files)
    ]


def _verified(store: ModelStore, key: str, entry: FileEntry) -> Iterator[bytes]:
    """Yield a file's bytes; what takes them keeps nothing, because the error comes before the stream has ended."""
    sha256, size_bytes = hashlib.sha256(), 0
    try:
        for piece in store.chunks(key):
            sha256.update(piece)
            size_bytes += len(piece)
            if size_bytes > entry.size_bytes:
                break
            yield piece
    except FileNotFoundError:
        raise IntegrityError(store.address(key), entry.sha256, "no such file") from None
    if size_bytes != entry.size_bytes:
        more = "more than " if size_bytes > entry.size_bytes else ""
        found = f"{more}{min(size_bytes, entry.size_bytes)} bytes"
        raise IntegrityError(store.address(key), f"{entry.size_bytes} bytes", found)
    if (found := f"sha256:{sha256.hexdigest()}") != entry.sha256:
        raise IntegrityError(store.address(key), entry.sha256, found)
