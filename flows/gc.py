"""Collect garbage: what a registry holds and nothing refers to."""

from __future__ import annotations

from prefect import flow

from registry.reports import GcReport
from tasks import steps


@flow(name="gc", flow_run_name="{url}", validate_parameters=False)
def gc(*, url: str, apply: bool = False, grace_hours: float = 24.0) -> GcReport:
    """List what nothing refers to and is older than ``grace_hours``, and remove it if ``apply`` is set.

    Args:
        url: The registry.
        apply: Remove it; otherwise it is only listed.
        grace_hours: Younger things are left alone: somebody may be writing them.
    """
    report: GcReport = steps.collect(url, apply=apply, grace_hours=grace_hours)
    return report
