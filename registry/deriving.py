"""Optimising: build engines from a version, hold them against it, keep them beside it with their evidence."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import artifacts
from registry.encoding import digest_of, readable_json
from registry.engines.records import OnnxModel, VariantReport
from registry.engines.spec import OptimizeSpec
from registry.errors import EngineError, InvalidInputError
from registry.events import VariantAdded, VariantChosen
from registry.frameworks.kinds import ModelFramework
from registry.frameworks.predict import predictor_of
from registry.loading import Loading
from registry.log import Snapshot
from registry.moving import Moving
from registry.records import EngineChoice, Manifest, ModelVersion, Variant
from registry.state import ModelState
from registry.store import AlreadyExistsError
from registry.versions import VersionRef

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.engines.optimize import BuiltVariant

Score = Callable[["NDArray[Any]"], float]


@dataclass(frozen=True)
class _Original:
    """The model as it was registered: how to call it, and the ONNX that engines are built from."""

    call: Callable[[NDArray[Any]], NDArray[Any]]
    onnx: OnnxModel


class Deriving(Loading, Moving):
    """The verbs that derive engines from a version."""

    def optimize(  # noqa: PLR0913 - the public interface
        self,
        name: str,
        version: VersionRef,
        *,
        spec: OptimizeSpec | Mapping[str, Any] | str | os.PathLike[str],
        samples: NDArray[Any] | None = None,
        score: Score | None = None,
        report: Callable[[str], None] = lambda _line: None,
        actor: str | None = None,
        idempotency_key: str | None = None,
    ) -> list[Variant]:
        """Build the engines that ``spec`` asks for, check and measure them, keep those that were built, choose one.

        Args:
            name: The model.
            version: Number, label or alias.
            spec: What to build and how far it may fall behind; a record, a mapping, or the path of a YAML file.
            samples: Real inputs, shape (n, ...); those kept with the version by default.
            score: Gives the pipeline's own metric for outputs of shape (n, ...), higher is better.
            report: Is told one line at a time what is going on.
            actor: Who is recorded.
            idempotency_key: The same key chooses once: called again, it only returns the variants that are kept.

        Returns:
            One variant for each engine asked for, those that could not be built too, with the reason.

        Raises:
            EngineError: The model cannot be exported; the version is as it was.
            InvalidInputError: No samples, or a spec that cannot be.
        """
        spec = _spec(spec)
        found = self.get_version(name, version)
        if self._read(name).state.recall("variant_chosen", idempotency_key):
            return self.get_variants(name, version)
        with tempfile.TemporaryDirectory(prefix="modelway-") as scratch, self._fetched(name, version) as folder:
            samples = self._samples(found, folder, samples)
            original = self._original(found, folder, samples, Path(scratch, "onnx", "model.onnx"), spec)
            candidates = _Candidates(original, samples, spec, Path(scratch, "engines"), score)
            built, choice = _judge(candidates, report)
            for variant in built:
                if variant.folder is not None:
                    self._keep(found, variant, actor=actor)
        self._change(
            name, version, lambda known: _plan_choice(known.state, name, version, choice, idempotency_key), actor
        )
        report(choice.reason)
        kept = {variant.key: variant for variant in self.get_variants(name, version)}
        return [kept.get(variant.key) or Variant(report=_plain(variant)) for variant in built]

    def get_variants(self, name: str, version: VersionRef) -> list[Variant]:
        """Return the engines that are kept beside a version, verified against the log, the chosen one marked.

        Raises:
            IntegrityError: A variant's metadata was changed or is gone.
        """
        known, key = self._resolve(name, version, None)
        state = known.state.versions[key]
        found = [
            self._variant(f"models/{name}/{state.path}/variants/{one}", digest)
            for one, digest in state.variants.items()
        ]
        return [
            variant.model_copy(update={"chosen": True, "reason": state.choice.reason})
            if state.choice is not None and variant.key == state.choice.key
            else variant
            for variant in found
        ]

    def get_choice(self, name: str, version: VersionRef) -> EngineChoice:
        """Return which engine was chosen to serve a version, and why; no key where the original stays."""
        known, key = self._resolve(name, version, None)
        return known.state.versions[key].choice or EngineChoice(key=None, reason="it was not optimised")

    def download_variant(self, name: str, version: VersionRef, key: str, to: Path) -> Manifest:
        """Copy a variant's files into the folder ``to``, verified, and return what they are.

        Raises:
            InvalidInputError: The version has no such variant.
            IntegrityError: A byte is not what was recorded.
        """
        known, canonical = self._resolve(name, version, None)
        state = known.state.versions[canonical]
        if key not in state.variants:
            raise InvalidInputError(
                f"{name}:{state.label} has no variant {key[:12]}. "
                f"It has: {', '.join(one[:12] for one in state.variants) or 'none'}."
            )
        folder = f"models/{name}/{state.path}/variants/{key}"
        variant = self._variant(folder, state.variants[key])
        if variant.manifest is None:
            raise EngineError(f"the variant {key[:12]} of {name}:{state.label} has no files.")
        artifacts.fetch(self.store, folder, variant.manifest, to, title=f"fetching {variant.report.engine}")
        return variant.manifest

    def _variant(self, folder: str, digest: str) -> Variant:
        return self._read_recorded(Variant, f"{folder}/metadata.json", digest)

    def _keep(self, version: ModelVersion, built: BuiltVariant, *, actor: str | None) -> None:
        known, key = self._resolve(version.name, version.version, None)
        if built.key in known.state.versions[key].variants or built.folder is None:
            return
        folder = f"models/{version.name}/{known.state.versions[key].path}/variants/{built.key}"
        manifest = artifacts.upload(
            self.store, folder, artifacts.from_path(built.folder), title=f"keeping {built.engine}"
        )
        data = readable_json(Variant(report=_plain(built), manifest=manifest))
        try:
            self.store.create(f"{folder}/metadata.json", data)
        except AlreadyExistsError:  # another builder, or a try that died before it could say so
            data = self.store.read(f"{folder}/metadata.json")
        added = VariantAdded(version=key, key=built.key, digest=digest_of(data))

        def decide(known: Snapshot[ModelState]) -> VariantAdded | None:
            known.state.find(version.name, key)  # it may have been deleted while the engine was built
            return None if built.key in known.state.versions[key].variants else added

        self._append_existing(version.name, decide, actor=actor)

    def _samples(self, version: ModelVersion, folder: Path, samples: NDArray[Any] | None) -> NDArray[Any]:
        from registry import frameworks

        if samples is not None:
            return samples
        kept = frameworks.read_samples(folder)
        if kept is None:
            raise InvalidInputError(
                f"{version.full_name} was registered without samples, and engines are checked on real ones: "
                f"give samples=."
            )
        return kept[0]

    def _original(
        self, version: ModelVersion, folder: Path, samples: NDArray[Any], path: Path, spec: OptimizeSpec
    ) -> _Original:
        loaded = self.load_model(version.name, version.version).model
        if version.framework is ModelFramework.PYTORCH and callable(loaded):
            from registry.engines.export import export_torch

            onnx = export_torch(loaded, samples, path, spec=spec)
            return _Original(predictor_of(loaded, version.full_name), onnx)
        if version.framework is ModelFramework.ONNX:
            from registry.engines.onnx_file import check_onnx

            return _Original(predictor_of(loaded, version.full_name), check_onnx(next(folder.rglob("*.onnx"))))
        raise EngineError(
            f"{version.full_name} is a {version.framework or 'unknown'} artifact; engines are built from torch modules "
            f"and ONNX models."
        )


@dataclass(frozen=True)
class _Candidates:
    """What engines are built from, what they are held against, and where they are put."""

    original: _Original
    samples: NDArray[Any]
    spec: OptimizeSpec
    folder: Path
    score: Score | None


def _judge(asked: _Candidates, report: Callable[[str], None]) -> tuple[list[BuiltVariant], EngineChoice]:
    from registry.engines.optimize import build_variants, choose, measure_original

    original, samples, spec, score = asked.original, asked.samples, asked.spec, asked.score
    reference = original.call(samples)
    built = build_variants(
        original.onnx, samples, reference, spec=spec, folder=asked.folder, score=score, report=report
    )
    baseline = measure_original(original.call, samples, spec=spec)
    baseline_score = None if score is None else score(reference)
    choice = choose(built, spec=spec, baseline=baseline, baseline_score=baseline_score)
    return built, EngineChoice(
        key=choice.key, reason=choice.reason, speedup=choice.speedup, baseline=baseline, baseline_score=baseline_score
    )


def _plan_choice(
    state: ModelState, name: str, version: VersionRef, choice: EngineChoice, key: str | None
) -> VariantChosen | None:
    found = state.find(name, version)
    if state.recall("variant_chosen", key):
        return None
    # With a key it is written even if nothing changes: a run that goes on must find that this step is done.
    unchanged = key is None and state.versions[found].choice == choice
    return None if unchanged else VariantChosen(version=found, choice=choice, key=key)


def _plain(built: BuiltVariant) -> VariantReport:
    return VariantReport.model_validate(built.model_dump())


def _spec(spec: OptimizeSpec | Mapping[str, Any] | str | os.PathLike[str]) -> OptimizeSpec:
    from registry.yaml_files.record import from_mapping, read_record

    if isinstance(spec, OptimizeSpec):
        return spec
    if isinstance(spec, Mapping):
        return from_mapping(spec, OptimizeSpec, what="the spec")
    return read_record(Path(spec), "optimize", OptimizeSpec)
