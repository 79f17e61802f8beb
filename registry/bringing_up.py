"""What a generation is made of: the target that serves it, and each of its versions with the engine that is opened."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from registry.deriving import Deriving
from registry.endpoints.desired import Desired, Share
from registry.endpoints.settings import LocalSettings, TargetSettings, TritonSettings, VertexSettings
from registry.endpoints.target import Part, Role, Rollout, Target
from registry.errors import EndpointError, IntegrityError, VersionNotFoundError
from registry.frameworks.kinds import ModelFramework
from registry.loading import manifest_in
from registry.records import FileEntry, ModelVersion, Variant

if TYPE_CHECKING:
    from registry.engines.fitting import Fitting
    from registry.signature import Signature

_OWN = "onnxruntime"
"""What opens a version's own ONNX file."""


class BringingUp(Deriving):
    """What the verbs that make versions serve have in common."""

    def _target(self, endpoint: str, settings: TargetSettings) -> Target:
        """Return the place that settings describe; its packages are imported when it is used."""
        match settings:
            case TritonSettings():
                from registry.endpoints.triton.target import TritonTarget

                options = self.config.client_options
                return TritonTarget(settings, endpoint=endpoint, registry=self.identity.id, storage_options=options)
            case VertexSettings():
                from registry.endpoints.vertex.target import VertexTarget

                options = self.config.client_options
                return VertexTarget(settings, endpoint=endpoint, registry=self.identity.id, storage_options=options)
            case LocalSettings():
                from registry.endpoints.local import LocalTarget

                return LocalTarget(settings, endpoint=endpoint, folder=self._local_folder(endpoint))

    def _local_folder(self, endpoint: str) -> Path:
        import platformdirs

        return platformdirs.user_state_path("modelway") / self.identity.id / endpoint

    def _servable(self, version: ModelVersion, target: Target, kind: str) -> Fitting:
        """Return the engine to serve, with no key for the version's own ONNX.

        Raises:
            EndpointError: It has none that this target opens.
        """
        own = version.framework is ModelFramework.ONNX and target.objection(_OWN, {}) is None
        fitting = self.fit_engine(version.name, version.version, objection=target.objection, needed=not own)
        if fitting.key is None and not own:
            where = "a local endpoint runs on this machine" if kind == "local" else f"{kind} runs with these settings"
            raise EndpointError(
                f"{version.full_name} has no engine that {where}: {fitting.words}; "
                f"run `modelway models optimize {version.name} {version.version} --spec FILE` first."
            )
        return fitting

    def _rollout(
        self, endpoint: str, generation: int, desired: Desired, target: Target, before: Desired | None
    ) -> Rollout:
        parts = tuple(self._part(desired, role, share, target) for role, share in desired.shares())
        return Rollout(
            registry=self.identity.id,
            endpoint=endpoint,
            generation=generation,
            parts=parts,
            keep=() if before is None or before.model != desired.model else tuple(self._ordinals(before)),
        )

    def _ordinals(self, desired: Desired) -> dict[int, float]:
        """Return the share that each version should have, by its ordinal; those that were deleted have none."""
        found = {}
        for _, share in desired.shares():
            with suppress(VersionNotFoundError):
                found[self.get_version(desired.model, share.version).ordinal] = share.share
        return found

    def _part(self, desired: Desired, role: Role, share: Share, target: Target) -> Part:
        version = self.get_version(desired.model, share.version)
        if version.metadata_digest != share.metadata_digest:
            address = self.store.address(f"models/{version.name}/versions/{version.version}/metadata.json")
            raise IntegrityError(address, share.metadata_digest, version.metadata_digest)
        variant = self._wanted_variant(version, share, target)
        engine = _OWN if variant is None else variant.report.engine
        return Part(
            model=version.name,
            version=version.version,
            number=version.ordinal,
            role=role,
            share=share.share,
            metadata_digest=share.metadata_digest,
            variant=share.variant,
            engine=engine,
            key_fields={} if variant is None else variant.report.key_fields,
            signature=None if desired.target == "local" else self._signature_served(version),
            fetch=lambda folder: self._fetch_engine(version, variant, folder),
            samples=self.load_samples(version.name, version.version),
        )

    def _wanted_variant(self, version: ModelVersion, share: Share, target: Target) -> Variant | None:
        """Return the engine that a generation names, None for the version's own file.

        Raises:
            EndpointError: It is not kept any more, or its key does not match the target.
        """
        if share.variant is None:
            return None
        variants = self.get_variants(version.name, version.version)
        variant = next((one for one in variants if one.key == share.variant), None)
        again = f"Run `modelway models deploy {version.name} --version {version.version}` to have one chosen that does."
        if variant is None:
            raise EndpointError(f"the engine {share.variant[:12]} of {version.full_name} is not kept any more. {again}")
        # The plain ONNX opens in every release of onnxruntime: another one only means that nobody has measured it.
        plain = variant.report.engine == _OWN and target.objection(_OWN, {}) is None
        if not plain and (why := target.objection(variant.report.engine, variant.report.key_fields)) is not None:
            raise EndpointError(
                f"the engine {variant.report.engine} of {version.full_name} does not fit: {why}. {again}"
            )
        return variant

    def _fetch_engine(self, version: ModelVersion, variant: Variant | None, to: Path) -> FileEntry:
        if variant is not None:
            manifest = self.download_variant(version.name, version.version, variant.key, to)
            return next(entry for entry in manifest.files if entry.path == variant.report.file)
        self.download(version.name, version.version, to, progress=False)
        manifest = manifest_in(self.get_sidecar(version.name, version.version))
        found = [entry for entry in manifest.files if entry.path.endswith(".onnx")]
        if len(found) != 1:
            names = ", ".join(entry.path for entry in manifest.files[:5])
            raise EndpointError(
                f"{version.full_name} has {len(found)} .onnx files where one is served (it has: {names})."
            )
        # The server compares the file with the digest that was recorded, once more, before it opens it.
        return found[0]

    def _signature_served(self, version: ModelVersion) -> Signature:
        """Return inputs and outputs under the names that every engine has from the ONNX it was built from."""
        from registry.engines.onnx_file import check_onnx

        plain = next((one for one in self.get_variants(version.name, version.version) if _is_plain(one)), None)
        with tempfile.TemporaryDirectory(prefix="modelway-") as scratch:
            file = self._fetch_engine(version, plain, Path(scratch))
            return check_onnx(Path(scratch) / file.path).signature


def _is_plain(variant: Variant) -> bool:
    return variant.report.engine == _OWN and variant.manifest is not None
