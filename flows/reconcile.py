"""Reconcile: find what died, expired, stopped serving or serves another version, and bring it to where it should be."""

from __future__ import annotations

from prefect import flow

from tasks import reconciling


@flow(name="reconcile", flow_run_name="{url}", validate_parameters=False)
def reconcile(*, url: str, config: str | None = None) -> dict[str, list[str]]:
    """Mend what is left over in a registry; run it on a schedule of some minutes.

    Args:
        url: The registry.
        config: A pipeline file, whose ``notify`` says whom to remind of questions that expire soon.

    Returns:
        ``expired``: flow runs whose approval expired; ``restarted``: runs whose process died; ``down``: endpoints that
        could not be brought up.
    """
    if config is not None:
        reconciling.remind_of_questions(url, config)
    return {
        "expired": reconciling.end_expired(url),
        "restarted": reconciling.restart_dead(url),
        "down": reconciling.reconcile_endpoints(url),
    }
