"""Registering: reserve a label, upload and hash, write the sidecar, and only then say that the version exists."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry import artifacts
from registry.drafting import Draft, Given, bump_of, describe, drafted
from registry.encoding import digest_of, parse_record, readable_json
from registry.errors import ConflictError, VersionExistsError
from registry.events import Abandoned, Registered, Reserved
from registry.frameworks.kinds import ModelFramework
from registry.guard import plan_name
from registry.log import Snapshot
from registry.metrics import ModelMetrics
from registry.names import check_name
from registry.plan import plan_reserve
from registry.reading import Reading
from registry.records import Manifest, ModelVersion, Sidecar
from registry.signature import Signature
from registry.state import ModelState
from registry.store import AlreadyExistsError
from registry.version_state import VersionState
from registry.versions import Bump, Strategy, VersionRef
from registry.wishes import Wish

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Registering(Reading):
    """The verbs that bring new versions."""

    def register(  # noqa: PLR0913 - the public interface
        self,
        name: str,
        artifact: bytes | str | os.PathLike[str] | None = None,
        *,
        model: object | None = None,
        artifact_path: str | os.PathLike[str] | None = None,
        version: VersionRef | None = None,
        bump: Bump | str | None = None,
        framework: ModelFramework | str | None = None,
        metrics: ModelMetrics | Mapping[str, float] | None = None,
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | Iterable[str] | None = None,
        description: str = "",
        signature: Signature | None = None,
        lineage: Mapping[str, Any] | None = None,
        samples: NDArray[Any] | None = None,
        allow_pickle: AbstractSet[str] | None = None,
        idempotency_key: str | None = None,
        actor: str | None = None,
    ) -> ModelVersion:
        """Register a new version; readers see it when all of it is in place, or never.

        Args:
            name: The model; the first version makes it.
            artifact: Bytes, or the path of a file or folder. At most one of ``artifact``, ``artifact_path`` and
                ``model``.
            model: An object that its framework can save: a torch module or program, a scikit-learn estimator, a Keras
                model, an ONNX model, a dict of tensors or arrays, or what a Saver takes.
            artifact_path: The path of a file or folder.
            version: A label (``1``, ``"v1"``, ``"1.2.0"``); None for the next one.
            bump: Which part of the greatest semantic version to count up: ``major``, ``minor`` or ``patch``.
            framework: What made it; guessed from the object or the file name when left out.
            metrics: Numbers by name; NaN is kept as missing.
            parameters: The training's parameters, anything that JSON can hold.
            tags: Pairs, or plain words.
            description: Words for people.
            signature: Inputs and outputs, where the framework cannot tell.
            lineage: Where it comes from: data digests, code revision, run id; anything that JSON can hold.
            samples: Real inputs, first axis the batch; with ``model``, kept beside it with the model's own outputs.
            allow_pickle: Names (``module.name``) that a pickle, or a scikit-learn estimator, may use beside those that
                are known to be safe; the same must be given to load it. None takes no pickle of an object.
            idempotency_key: The same key gives the same version, however often the call is repeated.
            actor: Who is recorded as registering.

        Returns:
            The new version, in stage development.

        Raises:
            InvalidInputError: Something given cannot be; nothing was written.
            ArtifactNotFoundError: There is nothing at the path.
            VersionExistsError: The label is taken; nothing was written.
            StoreError: The storage failed; repeating with the same idempotency key goes on where it stopped.
        """
        check_name(name)
        if not self._is_named(name):
            plan_name(self._root.read().state, name)
        described = describe(
            framework=framework,
            metrics=metrics,
            parameters=parameters,
            tags=tags,
            description=description,
            signature=signature,
            lineage=lineage,
        )
        wish = Wish(name, version, None if bump is None else bump_of(bump), idempotency_key, actor or self.actor)
        with drafted(described, Given(artifact, model, artifact_path, samples, allow_pickle)) as draft:
            return self._register(wish, draft)

    def register_model(
        self,
        model_name: str,
        version: VersionRef | None = None,
        metrics: ModelMetrics | Mapping[str, float] | None = None,
        artifact_path: str | os.PathLike[str] | None = None,
        **same: Any,
    ) -> ModelVersion:
        """Register a new version; ``register`` with the argument order of document 002 and the keywords of 000."""
        return self.register(model_name, version=version, metrics=metrics, artifact_path=artifact_path, **same)

    def _register(self, wish: Wish, draft: Draft) -> ModelVersion:
        for _ in range(2):
            place = self._reserve(wish)
            if place.version.status == "registered":
                return self._version(wish.name, place.known, place.key)
            if place.version.status == "deleted":
                raise VersionExistsError(
                    f"{wish.name}:{place.version.label}, which the key {wish.key!r} registered, has been deleted "
                    f"since. To register it again, use another key."
                )
            try:
                manifest = self._upload(place, draft)
                sidecar, digest = self._write_sidecar(place, draft, manifest)
            except AlreadyExistsError:
                # An earlier try under this key left other bytes: give its label up, and begin anew.
                self._append(wish.name, place.abandon, actor=wish.actor)
                continue
            return self._commit(place, sidecar, digest)
        raise ConflictError(
            f"{wish.name}: another registration with the key {wish.key!r} is writing other bytes at this moment."
        )

    def _is_named(self, name: str) -> bool:
        """Return whether the name is known to be taken already: for good, so that what was read before is enough."""
        return self._root.known is not None and name in self._root.known.state.models

    def _reserve(self, wish: Wish) -> _Place:
        reserved: Reserved | None = None

        def decide(known: Snapshot[ModelState]) -> Reserved | None:
            nonlocal reserved
            bump = wish.bump
            if known.state.strategy is None and self.config.versioning is Strategy.SEMANTIC and wish.version is None:
                bump = bump or Bump.PATCH
            asked = dataclasses.replace(wish, bump=bump)
            reserved = plan_reserve(known.state, asked, record_number=known.number + 1)
            return reserved

        if self._identity is None:
            # A wish that is refused leaves an empty place empty: registry.json is made once it is known to be granted.
            decide(self._log(wish.name).read())
            _ = self.identity
        known = self._append(wish.name, decide, actor=wish.actor)
        key = known.state.recall("reserved", wish.key) if reserved is None else reserved.version
        return _Place(wish, known, key or "")

    def _upload(self, place: _Place, draft: Draft) -> Manifest | None:
        if not draft.sources:
            return None
        title = f"uploading {place.wish.name}:{place.version.label}"
        return artifacts.upload(self.store, place.folder, draft.sources, title=title)

    def _write_sidecar(self, place: _Place, draft: Draft, manifest: Manifest | None) -> tuple[Sidecar, str]:
        sidecar = Sidecar(
            model=place.wish.name,
            version=place.version.label,
            created_at=place.version.created_at,
            created_by=place.version.created_by,
            described=draft.described,
            measured_on=draft.measured_on,
            form=draft.form,
            framework_info=draft.framework_info,
            manifest=manifest,
        ).model_copy(update=draft.more)
        file, data = f"{place.folder}/metadata.json", readable_json(sidecar)
        try:
            self.store.create(file, data)
        except AlreadyExistsError:
            # An earlier try wrote it. It cannot be changed any more, so what it says is what the log will say.
            data = self.store.read(file)
            sidecar = parse_record(Sidecar, data, self.store.address(file))
            if (sidecar.model, sidecar.version, sidecar.manifest) != (
                place.wish.name,
                place.version.label,
                manifest,
            ):
                raise
        return sidecar, digest_of(data)

    def _commit(self, place: _Place, sidecar: Sidecar, digest: str) -> ModelVersion:
        name, key = place.wish.name, place.key

        def decide(known: Snapshot[ModelState]) -> Registered | None:
            version = known.state.versions[key]
            if version.status == "registered" and version.metadata_digest == digest:
                return None
            if not place.is_ours(known):
                raise VersionExistsError(
                    f"{name}:{version.label} was given up or taken while it was uploading; register it again."
                )
            return Registered(
                version=key,
                metadata_digest=digest,
                described=sidecar.described,
                measured_on=sidecar.measured_on,
                artifact=artifacts.summary(sidecar.manifest),
                guard=root.guard_number,
            )

        if not self._is_named(name):
            self._root.append(lambda known: plan_name(known.state, name), actor=place.wish.actor)
        root = (self._root.known or self._root.read()).state
        return self._version(name, self._append(name, decide, actor=place.wish.actor), key)


@dataclass(frozen=True)
class _Place:
    """A label that was set aside for a wish, and the state in which it was."""

    wish: Wish
    known: Snapshot[ModelState]
    key: str

    @property
    def version(self) -> VersionState:
        return self.known.state.versions[self.key]

    @property
    def folder(self) -> str:
        return f"models/{self.wish.name}/{self.version.path}"

    def is_ours(self, known: Snapshot[ModelState]) -> bool:
        """Return whether the label is still set aside for this wish: given up and taken anew, it has another folder."""
        now = known.state.versions[self.key]
        return now.status == "reserved" and now.path == self.version.path

    def abandon(self, known: Snapshot[ModelState]) -> Abandoned | None:
        """Give the label up, unless another try with the same key has finished or given up meanwhile."""
        return Abandoned(version=self.key, reason="retried with other bytes") if self.is_ours(known) else None
