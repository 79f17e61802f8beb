"""The verbs that bring bytes back: every one of them verifies the digests before anything is used."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import artifacts, frameworks
from registry.errors import ArtifactNotFoundError
from registry.frameworks.kinds import ModelFramework
from registry.log import Snapshot
from registry.reading import Reading
from registry.records import Manifest, ModelVersion, Sidecar
from registry.stages import ModelStage
from registry.state import ModelState
from registry.versions import VersionRef

if TYPE_CHECKING:
    from numpy.typing import NDArray


class LoadedModel:
    """A loaded model and its version: unpacks to ``(model, metadata)``, is called and read like the model."""

    def __init__(self, model: Any, metadata: ModelVersion) -> None:
        """Hold the object that was registered and the version it is."""
        self.model, self.metadata = model, metadata

    def __iter__(self) -> Iterator[Any]:
        return iter((self.model, self.metadata))

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the model."""
        return self.model(*arguments, **options)

    def __getitem__(self, key: Any) -> Any:
        return self.model[key]

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # asked for before it is set, by copy and pickle: without this they recurse for ever
            raise AttributeError(name)
        return getattr(self.model, name)

    def __repr__(self) -> str:
        return f"LoadedModel({self.metadata.full_name}, {type(self.model).__name__})"


class Loading(Reading):
    """The verbs that bring bytes back."""

    def load(self, name: str, version: VersionRef | None = None, stage: ModelStage | str | None = None) -> Any:
        """Return the object that was registered, its bytes verified: the latest version when asked by nothing else.

        A torch module comes back as one, in evaluation mode; an artifact of bytes, or of a file that no framework
        reads, as bytes; a folder as the path of a verified copy below the user's cache folder.

        Raises:
            ModelNotFoundError, VersionNotFoundError, NotFoundError: There is no such version.
            ArtifactNotFoundError: It was registered without an artifact.
            IntegrityError: A byte is not what was recorded; names the file, the digest expected and the one found.
        """
        return self.load_model(name, version, stage).model

    def load_model(
        self, model_name: str, version: VersionRef | None = None, stage: ModelStage | str | None = None
    ) -> LoadedModel:
        """Return the object that was registered with its version; ``load`` says what it can be and what it raises."""
        known, key = self._resolve(model_name, version, stage)
        name = model_name.partition("@")[0]
        metadata, sidecar = self._version(name, known, key), self._sidecar(name, known, key)
        return LoadedModel(self._load(metadata, sidecar, _folder(name, known, key)), metadata)

    def load_artifact(self, name: str, version: VersionRef) -> bytes:
        """Return the bytes of an artifact of one file, verified.

        Raises:
            VersionNotFoundError: There is no such version.
            ArtifactNotFoundError: It was registered without an artifact.
            InvalidInputError: The artifact has more than one file.
            IntegrityError: A byte is not what was recorded.
        """
        known, key = self._resolve(name, version, None)
        name = name.partition("@")[0]
        manifest = manifest_in(self._sidecar(name, known, key))
        return artifacts.read_one(self.store, _folder(name, known, key), manifest)

    def download(
        self, name: str, version: VersionRef | None, to: str | os.PathLike[str], *, progress: bool = True
    ) -> Path:
        """Copy a version's files into the folder ``to``, verified; files that are there with the same bytes stay.

        Args:
            name: The model, or ``name@alias``.
            version: Number, label or alias; None for the latest.
            to: The folder; it is made if need be.
            progress: Tell whoever listens to progress.

        Raises:
            ArtifactNotFoundError: It was registered without an artifact.
            InvalidInputError: A file of that name is there with other bytes; it is not overwritten.
            IntegrityError: A byte is not what was recorded; that file is not left in ``to``.
        """
        known, key = self._resolve(name, version, None)
        name = name.partition("@")[0]
        manifest = manifest_in(self._sidecar(name, known, key))
        title = f"downloading {name}:{known.state.versions[key].label}" if progress else ""
        return artifacts.fetch(self.store, _folder(name, known, key), manifest, Path(to), title=title)

    def load_samples(self, name: str, version: VersionRef) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Return the samples that were kept with a version and the outputs the model gave for them; None without.

        Returns:
            Inputs, shape (n, ...), and outputs, shape (n, ...), n at most 64.

        Raises:
            IntegrityError: A byte is not what was recorded.
        """
        with self._fetched(name, version) as folder:
            return frameworks.read_samples(folder)

    @contextmanager
    def _fetched(self, name: str, version: VersionRef) -> Iterator[Path]:
        """Give a folder of this machine with the version's files, verified, for as long as the context lasts."""
        with tempfile.TemporaryDirectory(prefix="modelway-") as scratch:
            yield self.download(name, version, scratch, progress=False)

    def _load(self, metadata: ModelVersion, sidecar: Sidecar, folder: str) -> Any:
        manifest = manifest_in(sidecar)
        framework = metadata.framework or ModelFramework.CUSTOM
        if sidecar.form == "folder":
            title = f"loading {metadata.full_name}"
            return artifacts.fetch(
                self.store, folder, manifest, _cache() / manifest.digest.removeprefix("sha256:"), title=title
            )
        if sidecar.form == "bytes" or (sidecar.form == "file" and framework is ModelFramework.CUSTOM):
            return artifacts.read_one(self.store, folder, manifest)
        with tempfile.TemporaryDirectory(prefix="modelway-") as scratch:
            artifacts.fetch(self.store, folder, manifest, Path(scratch), title=f"loading {metadata.full_name}")
            return frameworks.load(Path(scratch), framework=framework, info=sidecar.framework_info)


def manifest_in(sidecar: Sidecar) -> Manifest:
    """Return the files that a version was registered with.

    Raises:
        ArtifactNotFoundError: It was registered without an artifact.
    """
    if sidecar.manifest is None:
        raise ArtifactNotFoundError(
            f"{sidecar.model}:{sidecar.version} was registered without an artifact; there are no bytes to load."
        )
    return sidecar.manifest


def _folder(name: str, known: Snapshot[ModelState], key: str) -> str:
    return f"models/{name}/{known.state.versions[key].path}"


def _cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("modelway")
