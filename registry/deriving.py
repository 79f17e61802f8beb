"""Optimising: build engines from a version, hold them against it, keep them beside it with their evidence."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import artifacts, clock
from registry.encoding import digest_of, readable_json
from registry.engines.judgement import JUDGEMENT_NAME, PLOT_NAME, judgement_name
from registry.engines.records import VariantReport
from registry.engines.signatures import EngineSigner, engine_signer, signed
from registry.engines.spec import OptimizeSpec
from registry.errors import EngineError
from registry.events import VariantAdded, VariantChosen
from registry.log import Snapshot
from registry.moving import Moving
from registry.records import EngineChoice, ModelVersion, Variant
from registry.scratch import scratch_folder
from registry.state import ModelState
from registry.store import AlreadyExistsError
from registry.variants import Variants
from registry.versions import VersionRef

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.engines.judging import Judged
    from registry.engines.optimize import BuiltVariant, KeptEngines
    from registry.engines.scoring import Score

_OTHER_IS_WRITING_S = 60.0
_LOOK_EVERY_S = 0.5


class Deriving(Variants, Moving):
    """The verb that derives engines from a version."""

    def optimize(  # noqa: PLR0913 - the public interface
        self,
        name: str,
        version: VersionRef,
        *,
        spec: OptimizeSpec | Mapping[str, Any] | str | os.PathLike[str],
        samples: NDArray[Any] | None = None,
        labels: NDArray[Any] | None = None,
        score: Score | None = None,
        calibration: NDArray[Any] | None = None,
        signing_key: bytes | None = None,
        report: Callable[[str], None] = lambda _line: None,
        actor: str | None = None,
        idempotency_key: str | None = None,
    ) -> list[Variant]:
        """Build the engines that ``spec`` asks for, check and measure them, keep those that were built, choose one.

        An engine that is kept already, by its whole key, is not built again; it is measured beside the others.

        Args:
            name: The model.
            version: Number, label or alias.
            spec: What to build and how far it may fall behind; a record, a mapping, or the path of a YAML file.
            samples: Real inputs, shape (n, ...); by default those kept with the version, or some that are made up from
                its signature, which the judgement says.
            labels: What is right for each sample, shape (n, ...); ``score`` then takes outputs and labels, and its
                confidence interval is known.
            score: Gives the pipeline's own metric for outputs of shape (n, ...), higher is better.
            calibration: Real inputs, shape (m, ...), that the ranges of int8 come from; better none of the samples.
                Without any, the samples.
            signing_key: The private key, PEM, of one of the registry's ``signers``, to sign engines with; by default
                the file that MODELWAY_SIGNING_KEY names.
            report: Is told one line at a time what is going on.
            actor: Who is recorded.
            idempotency_key: The same key chooses once: called again, it only returns the variants that are kept.

        Returns:
            One variant for each engine asked for, those that could not be built too, with the reason.

        Raises:
            EngineError: The model cannot be exported; the version is as it was.
            InvalidInputError: No samples, a spec that cannot be, or a key that is none of the registry's signers.
            RefusedError: The registry takes only signed engines, and no key was given.
        """
        from registry.engines.judging import Original, judge
        from registry.engines.scoring import Scorer

        spec = _spec(spec)
        found = self.get_version(name, version)
        if self._read(name).state.recall("variant_chosen", idempotency_key):
            return self.get_variants(name, version)
        signer = engine_signer(self.guard, signing_key)
        with scratch_folder() as scratch, _room_in(scratch, found):
            folder = self.download(name, found.version, scratch / "version", progress=False)
            loaded = self.load_model(name, found.version).model
            original = Original.of(loaded, found, folder, samples=samples, scratch=scratch, spec=spec)
            judged = judge(
                original,
                spec,
                scratch / "engines",
                scorer=None if score is None else Scorer(score, labels),
                calibration=calibration,
                kept=self._kept(found),
                report=report,
            )
            variants = [self._keep(found, variant, signer, actor=actor, report=report) for variant in judged.variants]
            choice = self._keep_judgement(found, judged, spec, actor=actor)
        self._change(
            name, version, lambda known: _plan_choice(known.state, name, version, choice, idempotency_key), actor
        )
        report(choice.reason)
        return variants

    def _kept(self, version: ModelVersion) -> KeptEngines:
        """Return the engines that are kept beside a version, to be fetched where they are asked for."""
        from registry.engines.optimize import KeptEngines

        kept = {
            one.key: one.report
            for one in self.get_variants(version.name, version.version)
            if one.manifest is not None and one.report.file is not None
        }

        def bring(key: str, to: Path) -> VariantReport:
            self.download_variant(version.name, version.version, key, to)
            return kept[key]

        return KeptEngines(frozenset(kept), bring)

    def _keep(
        self,
        version: ModelVersion,
        built: BuiltVariant,
        signer: EngineSigner | None,
        *,
        actor: str | None,
        report: Callable[[str], None],
    ) -> Variant:
        """Keep an engine beside its version and return it; a candidate without files is returned as it is."""
        if built.folder is None:
            return Variant(report=_plain(built))
        place, state = self._derived(version.name, version.version)
        if built.key not in state.variants:
            try:
                self._write(version, f"{place}/{built.key}", built, signer, actor=actor)
            except AlreadyExistsError:
                self._wait_for_other(version, built)
                report(f"{built.engine}: another builder was first, and its engine is kept")
        _, state = self._derived(version.name, version.version)
        return self._variant(f"{place}/{built.key}", state.variants[built.key])

    def _write(
        self, version: ModelVersion, folder: str, built: BuiltVariant, signer: EngineSigner | None, *, actor: str | None
    ) -> None:
        title, sources = f"keeping {built.engine}", artifacts.from_path(built.folder or "")
        manifest = artifacts.upload(self.store, folder, sources, title=title)
        variant = Variant(report=_plain(built), manifest=manifest)
        data = readable_json(signed(variant, version.name, version.version, signer))
        try:
            self.store.create(f"{folder}/metadata.json", data)
        except AlreadyExistsError:  # another builder, or a try that died before it could say so
            data = self.store.read(f"{folder}/metadata.json")

        def decide(known: Snapshot[ModelState]) -> VariantAdded | None:
            key = known.state.find(version.name, version.version)  # it may have been deleted while the engine was built
            has = built.key in known.state.versions[key].variants
            return None if has else VariantAdded(version=key, key=built.key, digest=digest_of(data))

        self._append_existing(version.name, decide, actor=actor)

    def _wait_for_other(self, version: ModelVersion, built: BuiltVariant) -> None:
        """Wait until whoever writes other bytes of the same engine has kept them.

        Raises:
            EngineError: Nobody did.
        """
        give_up_at = time.monotonic() + _OTHER_IS_WRITING_S
        while built.key not in self._derived(version.name, version.version)[1].variants:
            if time.monotonic() > give_up_at:
                raise EngineError(
                    f"the {built.engine} engine of {version.full_name} could not be kept: files of another builder are "
                    f"in its place, and that builder did not finish. `modelway models gc` removes them a day later."
                )
            time.sleep(_LOOK_EVERY_S)

    def _keep_judgement(
        self, version: ModelVersion, judged: Judged, spec: OptimizeSpec, *, actor: str | None
    ) -> EngineChoice:
        """Keep the evidence with its picture, and return the choice that names it."""
        from registry.engines.judging import picture_of

        variants, _ = self._derived(version.name, version.version)
        judgement = judged.evidence(version, spec, by=actor or self.actor, at=clock.now())
        picture = picture_of(judgement)
        manifest = artifacts.manifest_of([artifacts.entry_of(PLOT_NAME, picture)])
        judgement = judgement.model_copy(update={"manifest": manifest})
        data = readable_json(judgement)
        folder = f"{variants}/{judgement_name(digest_of(data))}"
        # The evidence last: what a log names is whole.
        for file, content in ((PLOT_NAME, picture), (JUDGEMENT_NAME, data)):
            try:
                self.store.create(f"{folder}/{file}", content)
            except AlreadyExistsError:  # an earlier try, of the very same evidence
                continue
        return judged.choice.model_copy(update={"judgement": digest_of(data)})


@contextmanager
def _room_in(scratch: Path, version: ModelVersion) -> Iterator[None]:
    """Tell in words that this machine's disk is full; what the store refuses is told by the store."""
    try:
        yield
    except OSError as error:
        if error.errno not in {None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:  # numpy gives no number
            raise
        raise EngineError(
            f"the engines of {version.full_name} could not be built: {error.strerror or error}, in {scratch.parent}. "
            "Make room there, or name another folder in TMPDIR. The version is as it was."
        ) from error


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
