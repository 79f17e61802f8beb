"""What is kept beside a version: its engines, which of them was chosen, on what evidence, and opening the best one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import artifacts
from registry.encoding import digest_of
from registry.engines.judgement import JUDGEMENT_NAME, PLOT_NAME, Judgement, judgement_name
from registry.engines.signatures import check_signature
from registry.errors import EngineError, IntegrityError, InvalidInputError, NotFoundError
from registry.loading import Loading
from registry.records import EngineChoice, Manifest, ModelVersion, Variant
from registry.stages import ModelStage
from registry.version_state import VersionState
from registry.versions import VersionRef

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.engines.backends import Call
    from registry.engines.fitting import Fitting, Objection

HERE = ("onnxruntime", "openvino", "aotinductor", "tensorrt")
"""The backends that this process can open engines of, where they are installed."""


@dataclass(frozen=True)
class LoadedEngine:
    """An open engine: called with a batch, shape (b, ...), it gives the outputs, shape (b, ...).

    ``name`` and ``key`` are the engine's, None for the model as it was registered; ``words`` say why it is this one.
    """

    call: Call
    name: str | None
    key: str | None
    words: str
    metadata: ModelVersion

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the outputs for a batch."""
        return self.call(batch)


class Variants(Loading):
    """The verbs that read what was derived from a version."""

    def get_variants(self, name: str, version: VersionRef) -> list[Variant]:
        """Return the engines that are kept beside a version, verified against the log, the chosen one marked.

        Raises:
            IntegrityError: A variant's metadata was changed or is gone.
        """
        folder, state = self._derived(name, version)
        found = [self._variant(f"{folder}/{one}", digest) for one, digest in state.variants.items()]
        return [
            variant.model_copy(update={"chosen": True, "reason": state.choice.reason})
            if state.choice is not None and variant.key == state.choice.key
            else variant
            for variant in found
        ]

    def get_choice(self, name: str, version: VersionRef) -> EngineChoice:
        """Return which engine was chosen to serve a version, and why; no key where the original stays."""
        _, state = self._derived(name, version)
        return state.choice or EngineChoice(key=None, reason="it was not optimised")

    def get_judgement(self, name: str, version: VersionRef) -> Judgement:
        """Return the whole evidence of the choice: every candidate beside the original, the failed ones too.

        Raises:
            NotFoundError: The version was not optimised, or before there were judgements.
            IntegrityError: It was changed or is gone.
        """
        folder, digest = self._judged(name, version)
        return self._read_recorded(Judgement, f"{folder}/{JUDGEMENT_NAME}", digest)

    def find_judgement(self, name: str, version: VersionRef) -> Judgement | None:
        """Return the whole evidence of the choice, None where there is none; as ``get_judgement`` for the rest."""
        _, state = self._derived(name, version)
        judged = state.choice is not None and state.choice.judgement is not None
        return self.get_judgement(name, version) if judged else None

    def get_judgement_plot(self, name: str, version: VersionRef) -> bytes:
        """Return the picture of the choice, accuracy against latency, as PNG.

        Raises:
            NotFoundError, IntegrityError: As for ``get_judgement``.
        """
        folder, digest = self._judged(name, version)
        judgement = self._read_recorded(Judgement, f"{folder}/{JUDGEMENT_NAME}", digest)
        entries = () if judgement.manifest is None else judgement.manifest.files
        entry = next((entry for entry in entries if entry.path == PLOT_NAME), None)
        if entry is None:
            raise NotFoundError(f"the choice of an engine for {name}:{version} has no picture.")
        data = self.store.read(f"{folder}/{PLOT_NAME}")
        if digest_of(data) != entry.sha256:
            raise IntegrityError(self.store.address(f"{folder}/{PLOT_NAME}"), entry.sha256, digest_of(data))
        return data

    def download_variant(self, name: str, version: VersionRef, key: str, to: Path) -> Manifest:
        """Copy a variant's files into the folder ``to``, verified, and return what they are.

        Raises:
            InvalidInputError: The version has no such variant.
            IntegrityError: A byte is not what was recorded.
            RefusedError: The registry takes only signed engines, and no signature of this one holds.
        """
        folder, state = self._derived(name, version)
        if key not in state.variants:
            raise InvalidInputError(
                f"{name}:{state.label} has no variant {key[:12]}. "
                f"It has: {', '.join(one[:12] for one in state.variants) or 'none'}."
            )
        variant = self._variant(f"{folder}/{key}", state.variants[key])
        if variant.manifest is None:
            raise EngineError(f"the variant {key[:12]} of {name}:{state.label} has no files.")
        if self.guard.signed_engines:
            check_signature(self.guard, variant, name, state.label)
        artifacts.fetch(self.store, f"{folder}/{key}", variant.manifest, to, title=f"fetching {variant.report.engine}")
        return variant.manifest

    def fit_engine(
        self, name: str, version: VersionRef, *, objection: Objection | None = None, needed: bool = False
    ) -> Fitting:
        """Return which engine of a version serves, and why: the best one whose key matches where it is to run.

        Args:
            name: The model.
            version: Number, label or alias.
            objection: What says whether an engine can be opened there; None for this process.
            needed: Whether the model cannot serve as it was registered.
        """
        from registry.engines.fitting import fit_engine, objection_here

        try:
            judgement = self.find_judgement(name, version)
        except IntegrityError:  # `verify` tells of it; evidence that is lost must not keep a version from serving
            judgement = None
        judged = {} if judgement is None else {one.key: one for one in judgement.candidates if one.file is not None}
        # As they were judged last: a variant keeps what was found of it when it was built.
        variants = [
            one.model_copy(update={"report": judged.get(one.key, one.report)})
            for one in self.get_variants(name, version)
        ]
        choice = self.get_choice(name, version)
        return fit_engine(variants, choice, objection=objection or objection_here(HERE), needed=needed)

    def load_engine(
        self, name: str, version: VersionRef | None = None, stage: ModelStage | str | None = None, *, threads: int = 1
    ) -> LoadedEngine:
        """Return the best engine of a version for this machine, open; where none fits the model as it was registered.

        Nothing is opened before its digest was checked, and its signature where the registry asks for one.

        Args:
            name: The model, or ``name@alias``.
            version: Number, label or alias; the latest when asked by nothing else.
            stage: Of the versions in this stage the one registered last.
            threads: How many threads an engine on the CPU may use, >= 1.

        Raises:
            IntegrityError: A byte is not what was recorded.
            RefusedError: The registry takes only signed engines, and no signature of this one holds.
            EngineError: It cannot be opened.
        """
        found = self.get_model_metadata(name, version, stage)
        fitting = self.fit_engine(found.name, found.version)
        if fitting.key is None:
            from registry.frameworks.predict import predictor_of

            call = predictor_of(self.load(found.name, found.version), found.full_name)
            return LoadedEngine(call, None, None, fitting.words, found)
        with self._engine_files(found, fitting.key) as (variant, folder):
            from registry.engines.backends import backend_of
            from registry.engines.key import parse_key

            report = variant.report
            call = backend_of(report.engine).open_engine(
                folder / str(report.file), parse_key(report.key_fields), threads=threads
            )
        return LoadedEngine(call, report.engine, report.key, fitting.words, found)

    @contextmanager
    def _engine_files(self, version: ModelVersion, key: str) -> Iterator[tuple[Variant, Path]]:
        """Give an engine and a folder with its files, verified, for as long as the context lasts."""
        variant = next(one for one in self.get_variants(version.name, version.version) if one.key == key)
        with tempfile.TemporaryDirectory(prefix="modelway-", ignore_cleanup_errors=True) as folder:
            self.download_variant(version.name, version.version, key, Path(folder))
            yield variant, Path(folder)

    def _derived(self, name: str, version: VersionRef) -> tuple[str, VersionState]:
        """Return the folder of a version's variants, and its state."""
        known, key = self._resolve(name, version, None)
        state = known.state.versions[key]
        return f"models/{name.partition('@')[0]}/{state.path}/variants", state

    def _judged(self, name: str, version: VersionRef) -> tuple[str, str]:
        folder, state = self._derived(name, version)
        if state.choice is None or state.choice.judgement is None:
            raise NotFoundError(
                f"{name}:{state.label} has no judgement of engines: `modelway models optimize` makes one."
            )
        return f"{folder}/{judgement_name(state.choice.judgement)}", state.choice.judgement

    def _variant(self, folder: str, digest: str) -> Variant:
        return self._read_recorded(Variant, f"{folder}/metadata.json", digest)
