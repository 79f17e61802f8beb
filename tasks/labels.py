"""Labels on a flow run that waits for an answer: by them it is found again, and says what it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    from tasks.gate import Question

MODEL: Final = "modelway.model"
VERSION: Final = "modelway.version"
STAGE: Final = "modelway.stage"
REQUEST: Final = "modelway.request"
REGISTRY: Final = "modelway.registry"
EXPIRES_AT: Final = "modelway.expires_at"


def label_flow_run(question: Question, registry_url: str) -> None:
    """Write on the flow run, for lists and command lines, what it is about to ask.

    Raises:
        PrefectException, httpx.HTTPError: Prefect's server did not take them.
    """
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    request, run_id = question.request, flow_run.get_id()
    if run_id is None:
        return
    labels: dict[str, bool | int | float | str] = {
        MODEL: request.model,
        VERSION: request.version,
        STAGE: request.stage.value,
        REQUEST: request.id,
        REGISTRY: registry_url,
        EXPIRES_AT: "" if request.expires_at is None else request.expires_at.isoformat(),
    }
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(UUID(run_id), labels)
