"""The verbs that bring bytes back: every one of them verifies the digests before anything is used."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import artifacts, frameworks, local_files
from registry.errors import ArtifactNotFoundError, InvalidInputError
from registry.frameworks.files import SAMPLES_NAME
from registry.frameworks.kinds import ModelFramework
from registry.reading import Reading
from registry.records import Manifest, ModelVersion, Sidecar
from registry.stages import ModelStage
from registry.store import ModelStore
from registry.versions import VersionRef

if TYPE_CHECKING:
    from numpy.typing import NDArray


class LoadedModel:
    """A loaded model and its version: unpacks to ``(model, metadata)``, and for the rest is used like the model.

    Calls, attributes, items, ``in`` and ``len`` are the model's own. Iterating is not: it gives the model, then the
    metadata. A loaded model is true, also one of length 0. It is no instance of the model's class: give ``.model`` to
    what asks for one.
    """

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

    def __contains__(self, item: object) -> bool:
        return item in self.model

    def __len__(self) -> int:
        return len(self.model)

    def __bool__(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        if name == "__deepcopy__":  # looked for on the object: the model's own would lose the version
            raise AttributeError(name)
        return getattr(self.model, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.model)})

    def __reduce__(self) -> tuple[type[LoadedModel], tuple[Any, ModelVersion]]:
        """Copy and pickle it as the two things that it holds."""
        return type(self), (self.model, self.metadata)

    def __repr__(self) -> str:
        return f"LoadedModel({self.metadata.full_name}, {type(self.model).__name__})"


class Loading(Reading):
    """The verbs that bring bytes back."""

    def load(
        self,
        name: str,
        version: VersionRef | None = None,
        stage: ModelStage | str | None = None,
        *,
        allow_pickle: AbstractSet[str] | None = None,
        check_signature: bool = False,
    ) -> Any:
        """Return the object that was registered, its bytes verified: the latest version when asked by nothing else.

        A model comes back as its framework gives it (a torch module in evaluation mode, an estimator, a Keras model,
        ...); an artifact of bytes, or of a file that no framework reads, as bytes; a folder of no framework as the path
        of a verified copy below the user's cache folder, from which what others add is removed.

        Where the registry lies on this machine a model is read from the registry's own files, verified there, without a
        copy. Whoever may write to that folder could change a file after it was verified and before it is read:
        ``download`` to a folder of your own where that is not good enough.

        Args:
            name: The model, or ``name@alias``.
            version: Number, label or alias.
            stage: Of the versions in this stage the one registered last.
            allow_pickle: The opt-in to pickles, and to what is no plain data in other files: names of classes and
                functions (``module.name``) that the model may use beside those known to be safe. Loading may run them:
                allow what you trust. An empty set takes pickles that use the safe ones alone.
            check_signature: Whether to refuse a model that does not take and give what was recorded of it.

        Raises:
            ModelNotFoundError, VersionNotFoundError, NotFoundError: There is no such version.
            ArtifactNotFoundError: It was registered without an artifact.
            IntegrityError: A byte is not what was recorded; names the file, the digest expected and the one found.
            InvalidInputError: There is no signature to check, or no model to check it on.
            RefusedError: The file asks for more than is safe, or the model does not fit its signature.
            MissingExtraError: What reads such models is not installed.
        """
        return self.load_model(name, version, stage, allow_pickle=allow_pickle, check_signature=check_signature).model

    def load_model(
        self,
        model_name: str,
        version: VersionRef | None = None,
        stage: ModelStage | str | None = None,
        *,
        allow_pickle: AbstractSet[str] | None = None,
        check_signature: bool = False,
    ) -> LoadedModel:
        """Return the object that was registered with its version; ``load`` says what it can be and what it raises."""
        stored = self._stored(model_name, version, stage)
        model = stored.load(allow_pickle, check_signature=check_signature)
        return LoadedModel(model, stored.metadata)

    def map_artifact(
        self, name: str, version: VersionRef | None = None, stage: ModelStage | str | None = None
    ) -> memoryview:
        """Return the bytes of an artifact of one file, read-only, mapped into memory; the mapped file is verified once.

        On local disk the file in the registry is mapped; from other stores a verified copy below the user's cache
        folder. Pages are read when they are touched and given back under pressure, so the file may be larger than
        memory.

        The map lasts as long as the view or anything that looks into it (a slice, ``numpy.frombuffer``) is referred to;
        ``release()`` ends it earlier where nothing else does. Deleting the version does not disturb it. modelway never
        writes to the file; if somebody else did, the bytes under the view would change, or end with SIGBUS.

        Raises:
            ModelNotFoundError, VersionNotFoundError, NotFoundError: There is no such version.
            ArtifactNotFoundError: It was registered without an artifact.
            InvalidInputError: The artifact has more than one file.
            IntegrityError: A byte is not what was recorded.
        """
        stored = self._stored(name, version, stage)
        return local_files.mapped(self.store, stored.folder, stored.manifest, _cache(), title=stored.title)

    def load_artifact(self, name: str, version: VersionRef) -> bytes:
        """Return the bytes of an artifact of one file, verified.

        Raises:
            VersionNotFoundError: There is no such version.
            ArtifactNotFoundError: It was registered without an artifact.
            InvalidInputError: The artifact has more than one file.
            IntegrityError: A byte is not what was recorded.
        """
        stored = self._stored(name, version)
        return artifacts.read_one(self.store, stored.folder, stored.manifest)

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
        stored = self._stored(name, version)
        title = f"downloading {stored.metadata.full_name}" if progress else ""
        return artifacts.fetch(self.store, stored.folder, stored.manifest, Path(to), title=title)

    def load_samples(self, name: str, version: VersionRef) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Return the samples that were kept with a version and the outputs the model gave for them; None without.

        Returns:
            Inputs, shape (n, ...), and outputs, shape (n, ...), n at most 64.

        Raises:
            IntegrityError: A byte is not what was recorded.
        """
        stored = self._stored(name, version)
        with stored.at_hand(title="") as folder:
            return stored.samples(folder)

    @contextmanager
    def _fetched(self, name: str, version: VersionRef) -> Iterator[Path]:
        """Give a folder with the version's files and no others, verified, for as long as the context lasts."""
        with tempfile.TemporaryDirectory(prefix="modelway-") as scratch:
            yield self.download(name, version, scratch, progress=False)

    def _stored(self, name: str, version: VersionRef | None, stage: ModelStage | str | None = None) -> _Stored:
        known, key = self._resolve(name, version, stage)
        name = name.partition("@")[0]
        folder = f"models/{name}/{known.state.versions[key].path}"
        return _Stored(self.store, folder, self._version(name, known, key), self._sidecar(name, known, key))


@dataclass(frozen=True)
class _Stored:
    """A version's artifact: where it is, what it is, and how it becomes an object again."""

    store: ModelStore
    folder: str
    metadata: ModelVersion
    sidecar: Sidecar

    @property
    def manifest(self) -> Manifest:
        return manifest_in(self.sidecar)

    @property
    def title(self) -> str:
        return f"loading {self.metadata.full_name}"

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(entry.path for entry in self.manifest.files)

    def load(self, allow_pickle: AbstractSet[str] | None, *, check_signature: bool) -> Any:
        signature = self.metadata.signature
        if check_signature and signature is None:
            raise InvalidInputError(f"{self.metadata.full_name} has no signature: load it without check_signature.")
        framework = self.metadata.framework or ModelFramework.CUSTOM
        plain = framework is ModelFramework.CUSTOM and self.sidecar.form != "model" and allow_pickle is None
        if self.sidecar.form == "bytes" or (plain and self.sidecar.form == "file"):
            loaded = artifacts.read_one(self.store, self.folder, self.manifest)
            if check_signature and signature is not None:
                frameworks.check_signature(loaded, signature)
            return loaded
        if plain and not check_signature:
            return self._cached(self.title)
        with self.at_hand(title=self.title) as folder:
            loaded = frameworks.load(
                folder,
                files=self.files,
                framework=framework,
                info=self.sidecar.framework_info,
                allow_pickle=allow_pickle,
            )
            if check_signature and signature is not None:
                frameworks.check_signature(loaded, signature, samples=self._sample_inputs(folder))
            if isinstance(loaded, Path):  # nothing but the files: those of the registry stay the registry's own
                return self._cached("")
            return loaded

    @contextmanager
    def at_hand(self, *, title: str) -> Iterator[Path]:
        """Give a folder with the files, verified, and perhaps others; it may be the registry's own, to read only."""
        here = local_files.in_place(self.store, self.folder, self.manifest, title=title)
        if here is not None:
            yield here
        elif self.sidecar.form == "folder":  # its framework may go on reading from it
            yield self._cached(title)
        else:
            with tempfile.TemporaryDirectory(prefix="modelway-") as scratch:
                yield artifacts.fetch(self.store, self.folder, self.manifest, Path(scratch), title=title)

    def samples(self, folder: Path) -> tuple[NDArray[Any], NDArray[Any]] | None:
        return frameworks.read_samples(folder) if SAMPLES_NAME in self.files else None

    def _sample_inputs(self, folder: Path) -> NDArray[Any] | None:
        kept = self.samples(folder)
        return None if kept is None else kept[0]

    def _cached(self, title: str) -> Path:
        return local_files.cached(self.store, self.folder, self.manifest, _cache(), title=title)


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


def _cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("modelway")
