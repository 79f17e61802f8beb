"""Rollback: give production back to a version that has held it, and serve it again."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run

from registry import ModelVersion
from tasks import steps


@flow(name="rollback", flow_run_name="{name}", validate_parameters=False)
def rollback(
    name: str, *, url: str, version: str | None = None, endpoint_name: str | None = None, reason: str = ""
) -> ModelVersion:
    """Go back to a version that has held production; it needs no new approval, because it had one.

    Args:
        name: The model.
        url: The registry.
        version: Which one; the holder before this one by default.
        endpoint_name: An endpoint that is to serve it again.
        reason: Why; recorded.

    Raises:
        IllegalTransitionError: It has never held production, or there was no holder before.
    """
    key = f"{flow_run.get_id()}:rollback"
    back: ModelVersion = steps.roll_back(
        url, name, version, endpoint_name=endpoint_name, reason=reason, idempotency_key=key
    )
    return back
