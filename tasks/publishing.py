"""What a run shows in Prefect's UI as artifacts: metrics, the comparison, the engines, the model card, the files.

Best effort, and one artifact of each for a run, however often it goes from the top. Outside of a run nothing happens,
and no server is started.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.utilities.context import get_flow_run_id, get_task_run_id

from registry import ModelRegistry, ModelVersion, PolicyResult
from registry.compare import VersionComparison
from registry.engines.table import engine_table
from tasks.best_effort import best_effort
from tasks.markdown import code, escaped
from tasks.model_card import Table, metric_rows, model_card

Row = Mapping[str, Any]


def publish_evaluation(registry: ModelRegistry, version: ModelVersion, result: PolicyResult) -> None:
    """Show a version's metrics with the data that they were measured on, what its policy says, and the incumbent's."""
    if get_flow_run_id() is None:
        return
    with best_effort("publish", "the evaluation could not be shown"):
        version = registry.get_version(version.name, version.version)  # as it stands now
        verdict = "Policy passed." if result.passed else "Policy failed: " + "; ".join(map(escaped, result.failures))
        head, rows = metric_rows(version)
        _put(version, "evaluation", "table", _rows(head, rows), f"Metrics of {escaped(version.full_name)}. {verdict}")
        incumbent = registry.get_production_model(version.name)
        if incumbent is not None and incumbent.version != version.version:
            head, rows = comparison_rows(version, incumbent)
            words = f"{escaped(version.full_name)} beside {escaped(incumbent.full_name)}, which is in production"
            _put(version, "comparison", "table", _rows(head, rows), words)


def publish_engines(registry: ModelRegistry, version: ModelVersion) -> None:
    """Show the engines that were built from a version: how fast, how accurate, and which one was chosen."""
    if get_flow_run_id() is None:
        return
    with best_effort("publish", "the engines could not be shown"):
        version = registry.get_version(version.name, version.version)  # as it stands now
        choice = registry.get_choice(version.name, version.version)
        variants = registry.get_variants(version.name, version.version)
        judgement = registry.find_judgement(version.name, version.version)
        head, rows = engine_table(variants, choice, judgement)
        words = f"Engines of {escaped(version.full_name)}. {escaped(choice.reason)}"
        _put(version, "engines", "table", _rows(head, rows), words)
        if judgement is not None:
            picture = base64.b64encode(registry.get_judgement_plot(version.name, version.version)).decode()
            _put(version, "engines-plot", "image", f"data:image/png;base64,{picture}", words)


def publish_version(registry: ModelRegistry, version: ModelVersion) -> None:
    """Show the model card of a version as it stands now, and where its files are."""
    if get_flow_run_id() is None:
        return
    with best_effort("publish", "the model card could not be shown"):
        version = registry.get_version(version.name, version.version)  # as it stands now
        full_name = escaped(version.full_name)
        card = model_card(registry, version)
        _put(version, "model-card", "markdown", card, f"Model card of {full_name}")
        _put(version, "files", "markdown", files_link(version), f"Files of {full_name}")


def files_link(version: ModelVersion) -> str:
    """Return Markdown that leads to a version's files: their address, and a link where a browser can follow one.

    Prefect's UI makes no link of gs, s3 or file. So a bucket of GCS or S3 gets the page of its console, and every
    other place its address alone, to be copied.
    """
    address = version.artifact_path
    scheme, _, path = address.partition("://")
    bucket, _, folder = path.partition("/")
    pages = {
        "gs": f"https://console.cloud.google.com/storage/browser/{quote(bucket)}/{quote(folder)}",
        "s3": f"https://s3.console.aws.amazon.com/s3/buckets/{quote(bucket)}?prefix={quote(folder, safe='')}/",
        "http": address,
        "https": address,
    }
    link = f"\n\n[Open the folder](<{pages[scheme]}>)" if scheme in pages else ""
    return f"{code(address)}{link}"


def comparison_rows(version: ModelVersion, incumbent: ModelVersion) -> Table:
    """Return the head and the rows of a version's metrics beside those of the one in production."""
    diffs = VersionComparison(versions=(incumbent, version)).metric_diffs

    def shown(value: float | None, sign: str = "") -> str:
        return "-" if value is None else f"{value:{sign}.6g}"

    rows = [
        (name, shown(diff.value_b), shown(diff.value_a), shown(diff.difference, "+"), diff.verdict)
        for name, diff in diffs.items()
    ]
    return ("metric", version.full_name, f"{incumbent.full_name} (incumbent)", "difference", "verdict"), rows


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    # Cells of a table artifact are shown as they are: no Markdown is read in them.
    return json.dumps([dict(zip(head, row, strict=True)) for row in rows])


def _put(
    version: ModelVersion, what: str, kind: Literal["table", "markdown", "image"], data: str, description: str
) -> None:
    """Create the run's artifact, or bring the one that the run has up to date."""
    run_id, key = get_flow_run_id(), f"{version.name.replace('_', '-')}-{what}"
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(
                key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(str(run_id))])
            )
        )
        if found:
            client.update_artifact(found[0].id, ArtifactUpdate(data=data, description=description))
            return
        client.create_artifact(
            ArtifactCreate(
                key=key,
                type=kind,
                data=data,
                description=description,
                flow_run_id=run_id,
                task_run_id=get_task_run_id(),
            )
        )
