"""The records that only the command line makes: what ``--json`` prints where the registry has no record of its own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from registry.base import Record
from registry.compare import VersionComparison
from registry.drifting import Drift
from registry.endpoints.settings import TargetKind, TargetSettings, settings_of
from registry.engines.judgement import Judgement
from registry.errors import EndpointNotFoundError, ModelNotFoundError
from registry.records import EngineChoice, FileEntry, ModelVersion, Run, Variant
from registry.registry import ModelRegistry
from registry.serving import Endpoint
from registry.stages import ModelStage
from registry.versions import VersionRef, canonical


class InProduction(Record):
    """Which version holds production, and since when."""

    version: str
    since: datetime


class ModelSummary(Record):
    """One model in a list; ``stages`` counts its versions by stage, without the stages that have none."""

    name: str
    versions: int
    latest: str
    production: InProduction | None
    stages: dict[str, int]


class VersionPage(Record):
    """Everything of one version; ``files`` is empty for one that was registered without an artifact."""

    version: ModelVersion
    files: tuple[FileEntry, ...]
    engine: EngineChoice
    variants: tuple[Variant, ...]
    judgement: Judgement | None = None


class MetricChange(Record):
    """A metric's change from the first to the last version; percent is missing where it has no finite value."""

    first: float | None
    last: float | None
    difference: float | None
    percent_change: float | None
    improved: bool | None


class ComparisonPage(Record):
    """Versions side by side."""

    versions: tuple[ModelVersion, ...]
    metrics: dict[str, MetricChange]


class EndpointPage(Record):
    """An endpoint and where it answers; no url where nothing runs on this machine."""

    endpoint: Endpoint
    url: str | None


class EndpointDetails(EndpointPage):
    """An endpoint with the version that it serves, its approvals and numbers, and the way back.

    ``way_back`` is the command that serves what was in production before; None where there was nothing.
    """

    version: ModelVersion | None
    drift: tuple[Drift, ...]
    way_back: str | None


class Reconciled(Record):
    """An endpoint brought to what is wanted of it: ``mended`` says what was not so, ``error`` why it still is not."""

    endpoint: str
    mended: tuple[str, ...]
    error: str | None = None

    def lines(self) -> list[str]:
        """Return what was done in sentences."""
        if self.error is not None:
            return [f"{self.endpoint}: {self.error}"]
        return [f"mended: {words}" for words in self.mended] or [f"{self.endpoint} is as wanted"]


class AliasGone(Record):
    """An alias that was taken away; it stands for no version now."""

    name: str
    alias: str
    version: None = None


class VersionGone(Record):
    """A version that was deleted; its history stays, and its label is never given again."""

    name: str
    version: str
    deleted: bool


class DownloadPage(Record):
    """A version whose files were copied, and the folder that they are in."""

    version: ModelVersion
    path: str


class OptimizePage(Record):
    """The engines that were built from a version, which of them is to serve it, and the evidence."""

    engine: EngineChoice
    variants: tuple[Variant, ...]
    judgement: Judgement | None = None


def summarize(registry: ModelRegistry, *, stage: str | None) -> list[ModelSummary]:
    """Return a summary of each model, by name; with ``stage``, of those that have a version there."""
    found = (_summary(registry, name) for name in registry.list_models(stage=stage))
    return [summary for summary in found if summary is not None]


def _summary(registry: ModelRegistry, name: str) -> ModelSummary | None:
    try:
        versions = registry.list_versions(name)
    except ModelNotFoundError:  # its name is taken, its first version not there yet
        return None
    holder = next((version for version in versions if version.stage == "production"), None)
    return ModelSummary(
        name=name,
        versions=len(versions),
        latest=versions[-1].version,
        production=None if holder is None else InProduction(version=holder.version, since=holder.stage_since),
        stages=dict(Counter(version.stage.value for version in versions)),
    )


def runs_of(registry: ModelRegistry, name: str, version: VersionRef | None) -> list[Run]:
    """Return the runs of a model, or those about one version, the oldest first; versions as their labels say."""
    labels = {canonical(one.version): one.version for one in registry.list_versions(name)}
    wanted = None if version is None else canonical(registry.get_version(name, version).version)
    return [
        run.model_copy(update={"version": labels.get(run.version or "", run.version)})
        for run in registry.get_runs(name)
        if wanted in {None, run.version}
    ]


def page_of(registry: ModelRegistry, version: ModelVersion) -> VersionPage:
    """Return everything of a version, its sidecars verified.

    Raises:
        IntegrityError: A sidecar is not what was recorded.
    """
    manifest = registry.get_sidecar(version.name, version.version).manifest
    return VersionPage(
        version=version,
        files=() if manifest is None else manifest.files,
        engine=registry.get_choice(version.name, version.version),
        variants=tuple(registry.get_variants(version.name, version.version)),
        judgement=registry.find_judgement(version.name, version.version),
    )


def page_of_comparison(comparison: VersionComparison) -> ComparisonPage:
    """Return a comparison with its differences worked out."""
    return ComparisonPage(
        versions=comparison.versions,
        metrics={
            name: MetricChange(
                first=diff.value_a,
                last=diff.value_b,
                difference=diff.difference,
                percent_change=diff.percent_change if math.isfinite(diff.percent_change) else None,
                improved=diff.improved,
            )
            for name, diff in comparison.metric_diffs.items()
        },
    )


def page_of_endpoint(endpoint: Endpoint) -> EndpointPage:
    """Return an endpoint with its address."""
    return EndpointPage(endpoint=endpoint, url=endpoint.url)


def details_of_endpoint(registry: ModelRegistry, name: str) -> EndpointDetails:
    """Return everything that whoever is called at night needs to know of an endpoint.

    Raises:
        EndpointNotFoundError: There is none of that name.
    """
    endpoint = registry.get_endpoint(name)
    desired = endpoint.desired
    version = None if desired is None else registry.get_version(desired.model, desired.version)
    return EndpointDetails(
        endpoint=endpoint,
        url=endpoint.url,
        version=version,
        drift=tuple(registry.get_drift(name)),
        way_back=None if version is None else _way_back(registry, version, name),
    )


def _way_back(registry: ModelRegistry, version: ModelVersion, endpoint: str) -> str | None:
    before = registry.find_way_back(version.name)
    if before is None or version.stage is not ModelStage.PRODUCTION:
        return None
    return f"modelway models rollback {version.name} --endpoint-name {endpoint}  (to {before.version})"


def settings_for(
    registry: ModelRegistry, name: str, endpoint: str | None, kind: TargetKind | None, given: Mapping[str, Any]
) -> TargetSettings | TargetKind | None:
    """Return the settings that a command line gives, over those that the endpoint has; None where it gives none."""
    if not given:
        return kind
    try:
        current = registry.get_endpoint(endpoint or name.partition("@")[0]).desired
    except EndpointNotFoundError:
        current = None
    place = None if current is None else current.place
    wanted = kind or ("local" if place is None else place.kind)
    return settings_of(wanted, given, registry.config.vertex if place is None else place)
