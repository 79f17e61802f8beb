"""The verbs that look: versions, stages, history, comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from registry.compare import VersionComparison
from registry.core import RegistryCore
from registry.errors import InvalidInputError, NotFoundError
from registry.events import Moved, RolledBack, parse_event
from registry.log import Snapshot
from registry.plan import check_policy
from registry.policy import PolicyResult, PromotionPolicy
from registry.records import ModelVersion, RegisteredModel, Sidecar, StageTransition
from registry.stages import ModelStage
from registry.state import ModelState
from registry.version_state import collector_paused
from registry.versions import VersionRef
from registry.views import transitions


class Reading(RegistryCore):
    """The verbs that look and change nothing."""

    def list_models(self, *, stage: ModelStage | str | None = None) -> list[str]:
        """Return the models' names, sorted; with ``stage``, of those that have a version there."""
        names = sorted(self._root.read().state.models)
        if stage is None:
            return names
        wanted = ModelStage.parse(stage)
        return [name for name, known in self._snapshots(names).items() if next(_in_stage(known.state, wanted), None)]

    def list_versions(self, name: str) -> list[ModelVersion]:
        """Return a model's versions in order of registration.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        known = self._read(name)
        with collector_paused(len(known.state.versions)):
            return list(self._versions(name, known, known.state.registered()))

    def get_model(self, name: str) -> RegisteredModel:
        """Return a model with all its versions.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        return RegisteredModel(name=name, versions=tuple(self.list_versions(name)))

    def get_version(self, name: str, version: VersionRef) -> ModelVersion:
        """Return one version, asked for by number, label or alias.

        Raises:
            ModelNotFoundError: There is no such model.
            VersionNotFoundError: There is no such version.
        """
        known = self._read(name)
        return self._version(name, known, known.state.find(name, version))

    def get_model_metadata(
        self, model_name: str, version: VersionRef | None = None, stage: ModelStage | str | None = None
    ) -> ModelVersion:
        """Return the version asked for by label, alias (``name@alias``) or stage; the latest when by none.

        Raises:
            ModelNotFoundError: There is no such model.
            VersionNotFoundError: There is no such version.
            NotFoundError: No version is in that stage.
            InvalidInputError: Asked by more than one of them.
        """
        known, key = self._resolve(model_name, version, stage)
        return self._version(model_name.partition("@")[0], known, key)

    def get_by_stage(self, stage: ModelStage | str) -> list[ModelVersion]:
        """Return all versions in ``stage``, by model and order of registration."""
        wanted = ModelStage.parse(stage)
        names = sorted(self._root.read().state.models)
        return [
            version
            for name, known in self._snapshots(names).items()
            for version in self._versions(name, known, reversed([*_in_stage(known.state, wanted)]))
        ]

    def get_latest_in_stage(self, name: str, stage: ModelStage | str) -> ModelVersion | None:
        """Return the version in ``stage`` that was registered last, None where there is none.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        known = self._read(name)
        key = next(_in_stage(known.state, ModelStage.parse(stage)), None)
        return None if key is None else self._version(name, known, key)

    def get_production_model(self, name: str, *, at: datetime | None = None) -> ModelVersion | None:
        """Return the version in production, now or at a time in the past; None where nothing was.

        Args:
            name: The model.
            at: An aware time; None for now.

        Raises:
            ModelNotFoundError: There is no such model.
            InvalidInputError: A naive time, which could mean any of 24 hours.
        """
        known = self._read(name)
        key = known.state.production if at is None else self._holder_at(name, at)
        return None if key is None else self._version(name, known, key)

    def get_transitions(self, name: str, version: VersionRef | None = None) -> list[StageTransition]:
        """Return the changes of stage, the oldest first; of one version or of all.

        Raises:
            ModelNotFoundError: There is no such model.
            VersionNotFoundError: There is no such version.
        """
        state = self._read(name).state
        wanted = None if version is None else state.find(name, version)
        labels = {key: one.label for key, one in state.versions.items()}
        return [moved for key, moved in transitions(self._log(name).history(), labels) if wanted in {None, key}]

    def compare_versions(self, name: str, *versions: VersionRef | Sequence[VersionRef]) -> VersionComparison:
        """Return how versions differ: ``(name, a, b)`` or ``(name, [a, b, ...])``.

        Raises:
            ModelNotFoundError: There is no such model.
            VersionNotFoundError: There is no such version.
            InvalidInputError: Fewer than two versions.
        """
        flat = [one for given in versions for one in ([given] if isinstance(given, int | str) else given)]
        if len(flat) < 2:  # noqa: PLR2004 - a comparison has two sides
            raise InvalidInputError(
                f"comparing needs two versions or more, found {len(flat)}: compare_versions({name!r}, 1, 2)."
            )
        known = self._read(name)
        return VersionComparison(
            versions=tuple(self._version(name, known, known.state.find(name, one)) for one in flat)
        )

    def check_promotion_policy(self, name: str, version: VersionRef, policy: PromotionPolicy) -> PolicyResult:
        """Hold a policy against a version and the one in production; moves nothing.

        Raises:
            ModelNotFoundError: There is no such model.
            VersionNotFoundError: There is no such version.
        """
        return check_policy(self._read(name).state, name, version, policy)

    def get_sidecar(self, name: str, version: VersionRef) -> Sidecar:
        """Return what was registered, from ``metadata.json``, verified against the log.

        Raises:
            IntegrityError: The sidecar was changed or is gone.
        """
        known, key = self._resolve(name, version, None)
        return self._sidecar(name.partition("@")[0], known, key)

    def _sidecar(self, name: str, known: Snapshot[ModelState], key: str) -> Sidecar:
        version = known.state.versions[key]
        return self._read_recorded(Sidecar, f"models/{name}/{version.path}/metadata.json", version.metadata_digest)

    def _resolve(
        self, name: str, version: VersionRef | None, stage: ModelStage | str | None
    ) -> tuple[Snapshot[ModelState], str]:
        name, _, alias = name.partition("@")
        asked = [way for way in (version, stage, alias or None) if way is not None]
        if len(asked) > 1:
            raise InvalidInputError(f"{name}: ask by version, stage or alias, not by more than one of them.")
        known = self._read(name)
        if stage is not None:
            return known, _latest_in(known.state, name, ModelStage.parse(stage))
        if alias and alias not in known.state.aliases:
            raise NotFoundError(
                f"{name} has no alias {alias!r}. It has: {', '.join(sorted(known.state.aliases)) or 'none'}."
            )
        if asked:
            return known, known.state.find(name, asked[0])
        return known, known.state.latest() or ""

    def _holder_at(self, name: str, at: datetime) -> str | None:
        if at.tzinfo is None:
            raise InvalidInputError(
                f"{at.isoformat()} has no time zone and could mean any of 24 hours: give an aware datetime."
            )
        holder: str | None = None
        for record in self._log(name).history():
            if record.time > at:
                break
            event = parse_event(record.event)
            if isinstance(event, RolledBack) or (isinstance(event, Moved) and event.to_stage is ModelStage.PRODUCTION):
                holder = event.version
            elif isinstance(event, Moved) and event.from_stage is ModelStage.PRODUCTION:
                holder = None
        return holder


def _in_stage(state: ModelState, stage: ModelStage) -> Iterator[str]:
    """Yield the canonical labels of the versions in a stage, the last registered first."""
    if stage is ModelStage.PRODUCTION:
        return iter(() if state.production is None else (state.production,))
    return (key for key, version in state.newest_first() if version.stage is stage)


def _latest_in(state: ModelState, name: str, stage: ModelStage) -> str:
    found = next(_in_stage(state, stage), None)
    if found is None:
        stands = ", ".join(f"{version.label} in {version.stage}" for version in list(state.registered().values())[-5:])
        raise NotFoundError(f"{name} has no version in {stage}. It has: {stands}.")
    return found
