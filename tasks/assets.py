"""Registered versions as assets in Prefect, named by where they are stored."""

from __future__ import annotations

from prefect.assets import Asset, AssetProperties
from prefect.assets.core import MAX_ASSET_DESCRIPTION_LENGTH
from prefect.context import AssetContext
from pydantic import ValidationError

from registry import ModelVersion
from tasks.telling import tell


def materialise(version: ModelVersion) -> None:
    """Have the task that runs say, when it ends, that it has materialised the version's folder; outside a task nothing.

    Prefect sends the event then, and knows what later tasks take from this one. It says ``failed`` where the task fails
    after all, and nothing where its result was kept. An address that Prefect does not take as a key (blanks, ``%`` and
    some others, more than 512 characters) is told in the log: a registration never fails by it.
    """
    context = AssetContext.get()
    if context is None:
        return
    try:
        asset = asset_of(version)
    except ValidationError as error:
        tell("register", f"{version.full_name} is no asset in Prefect: {error.errors()[0]['msg']}")
        return
    context.downstream_assets.add(asset)
    context.materialized_by = context.materialized_by or "modelway"
    context.add_asset_metadata(
        asset.key,
        {
            "model": version.name,
            "version": version.version,
            "digest": version.artifact.digest if version.artifact else None,
            "metrics": version.metrics.as_dict(),
        },
    )
    context.update_tracked_assets()


def asset_of(version: ModelVersion) -> Asset:
    """Return the asset that a version is.

    Raises:
        ValidationError: Prefect does not take its address as a key.
    """
    where = version.artifact_path
    return Asset(
        key=where if "://" in where else f"file://{where}",
        properties=AssetProperties(
            name=version.full_name, description=version.description[:MAX_ASSET_DESCRIPTION_LENGTH] or None
        ),
    )
