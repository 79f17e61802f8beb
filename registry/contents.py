"""Holding what lies in a version's folder against the log: sidecar, files, derived engines, and what else is there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from registry import artifacts
from registry.base import StoredRecord
from registry.encoding import digest_of
from registry.engines.judgement import JUDGED, JUDGEMENT_NAME, Judgement, judgement_name
from registry.errors import ModelwayError, StoreUnreachableError
from registry.findings import RESTORE, Findings, first_bad_byte
from registry.parallel import each
from registry.progress import Advance, track
from registry.records import Artifact, FileEntry, Manifest, Sidecar, Variant
from registry.store import ModelStore
from registry.version_state import VersionState

_Recorded = TypeVar("_Recorded", bound=StoredRecord)


@dataclass
class Contents:
    """The contents of versions, checked one after the other; counts what it has seen.

    ``deep`` reads every byte; without it files are only asked for by name.
    """

    findings: Findings
    deep: bool
    versions: int = 0
    files: int = 0
    size_bytes: int = 0
    _listed: set[str] = field(default_factory=set)

    def check(self, full_name: str, folder: str, version: VersionState, listed: Iterable[str]) -> None:
        """Check one registered version; ``listed`` are the keys below ``folder``, listed before the log was read."""
        self._listed = set(listed)
        self.versions += 1
        known = {f"{folder}/metadata.json", f"{folder}/status.json"}
        total = version.artifact.size_bytes if version.artifact is not None and self.deep else 0
        with track(f"verifying {full_name}", total, "bytes") as advance:
            sidecar = self._recorded(Sidecar, f"{folder}/metadata.json", version.metadata_digest)
            manifest = None if sidecar is None else self._manifest(full_name, folder, sidecar, version)
            known.update(self._files(folder, manifest, advance))
            for key, digest in version.variants.items():
                known.update(self._variant(f"{folder}/variants/{key}", digest))
            for digest in self._judged(f"{folder}/variants/{JUDGED}", version):
                known.update(self._judgement(f"{folder}/variants", digest))
        if sidecar is not None:  # without it nobody can tell which files are the version's own
            self._extra(folder, known)

    def _manifest(self, full_name: str, folder: str, sidecar: Sidecar, version: VersionState) -> Manifest | None:
        manifest, key = sidecar.manifest, f"{folder}/metadata.json"
        if full_name != f"{sidecar.model}:{sidecar.version}":
            self.findings.add("contradiction", key, f"it is of {sidecar.model}:{sidecar.version}, not of {full_name}")
        # By their own fields: a later release may have put others beside them.
        said, held = (_measures(one) for one in (artifacts.summary(manifest), version.artifact))
        if said != held:
            self.findings.add("contradiction", key, "its list of files is not the one that the log has a digest of")
        if manifest is not None and artifacts.manifest_of(manifest.files).digest != manifest.digest:
            self.findings.add("contradiction", key, f"the digest of its list of files is not {manifest.digest}")
        return manifest

    def _variant(self, folder: str, digest: str) -> Iterator[str]:
        yield f"{folder}/metadata.json"
        variant = self._recorded(Variant, f"{folder}/metadata.json", digest)
        if variant is not None:
            yield from self._files(folder, variant.manifest, lambda _amount: None)
        else:
            yield from (key for key in self._listed if key.startswith(f"{folder}/"))

    def _judged(self, start: str, version: VersionState) -> set[str]:
        """Return the digests of a version's judgements: the one that the log names, and those before it."""
        named = {key.removeprefix(start).partition("/")[0] for key in self._listed if key.startswith(start)}
        last = None if version.choice is None else version.choice.judgement
        # Each stands in a folder that is named by its own digest, so that nothing else need tell what it was.
        return {f"sha256:{name}" for name in named} | ({last} if last else set())

    def _judgement(self, folder: str, digest: str) -> Iterator[str]:
        place = f"{folder}/{judgement_name(digest)}"
        yield f"{place}/{JUDGEMENT_NAME}"
        judgement = self._recorded(Judgement, f"{place}/{JUDGEMENT_NAME}", digest)
        if judgement is not None:
            yield from self._files(place, judgement.manifest, lambda _amount: None)

    def _recorded(self, kind: type[_Recorded], key: str, digest: str) -> _Recorded | None:
        data = self.findings.read(key, missing="it is gone, so that its files cannot be held against it")
        if data is None:
            return None
        if digest_of(data) != digest:
            problem = f"it is {digest_of(data)}, and {digest} was recorded: its files cannot be held against it"
            self.findings.add("changed", key, problem, offset=first_bad_byte(data))
            return None
        return self.findings.parse(kind, key, data)

    def _files(self, folder: str, manifest: Manifest | None, advance: Advance) -> list[str]:
        """Check files and return their keys."""
        entries = () if manifest is None else manifest.files
        keys = [f"{folder}/{entry.path}" for entry in entries]
        for key, entry, seen in zip(keys, entries, self._look(keys, advance), strict=True):
            self.files += 1
            if isinstance(seen, _Seen):
                self.size_bytes += seen.size_bytes
                self._judge(key, entry, seen)
            elif isinstance(seen, FileNotFoundError):
                self.findings.add("missing", key, f"it is gone; {entry.sha256} was recorded")
            else:
                self.findings.add("unreadable", key, str(seen), mend="Mend what the storage says, and verify again.")
        return keys

    def _look(self, keys: Sequence[str], advance: Advance) -> list[_Seen | Exception]:
        store, deep = self.findings.store, self.deep

        def look(key: str, advance: Advance) -> _Seen | Exception:
            return _look(store, key, advance) if deep else _ask(store, key, listed=key in self._listed)

        return each(look, keys, advance, at_once=store.parallel)

    def _judge(self, key: str, entry: FileEntry, seen: _Seen) -> None:
        if seen.digest is None or (seen.digest, seen.size_bytes) == (entry.sha256, entry.size_bytes):
            return
        if seen.size_bytes != entry.size_bytes:
            problem = f"it has {seen.size_bytes} bytes, and {entry.size_bytes} were recorded"
        else:
            problem = f"it is {seen.digest}, and {entry.sha256} was recorded"
        self.findings.add("changed", key, problem, mend=f"Do not use it. {RESTORE}")

    def _extra(self, folder: str, known: set[str]) -> None:
        for key in sorted(self._listed - known):
            if key.startswith(f"{folder}/variants/"):
                mend = "`modelway models gc` removes it, unless it is being written at this moment."
                self.findings.remark("extra", key, "it is of an engine that was never finished", mend=mend)
            else:
                mend = "See who put it there; a program that is pointed at the folder may use it. Remove it."
                self.findings.add("extra", key, "it does not belong to the version", mend=mend)


@dataclass(frozen=True)
class _Seen:
    """What was seen of a file; without a digest only that it is there."""

    digest: str | None = None
    size_bytes: int = 0


def _look(store: ModelStore, key: str, advance: Advance) -> _Seen | Exception:
    sha256, size_bytes = hashlib.sha256(), 0
    try:
        for piece in store.chunks(key):
            sha256.update(piece)
            size_bytes += len(piece)
            advance(len(piece))
    except StoreUnreachableError:
        raise
    except (FileNotFoundError, ModelwayError) as error:
        return error
    return _Seen(f"sha256:{sha256.hexdigest()}", size_bytes)


def _ask(store: ModelStore, key: str, *, listed: bool) -> _Seen | Exception:
    if listed:
        return _Seen()
    try:
        for _ in store.chunks(key):  # it may have come after the list was made
            break
    except StoreUnreachableError:
        raise
    except (FileNotFoundError, ModelwayError) as error:
        return error
    return _Seen()


def _measures(artifact: Artifact | None) -> tuple[str, int, int] | None:
    return None if artifact is None else (artifact.digest, artifact.size_bytes, artifact.files)
