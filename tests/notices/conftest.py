"""Where notices arrive, and one that has something in each of its fields."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sinks

from registry import ApprovalRequest, ModelStage
from tasks import notices
from tasks.markdown import table
from tasks.notices import Notice

RUN = "http://127.0.0.1:4200/runs/flow-run/0001"


@pytest.fixture
def mailbox() -> Iterator[sinks.Mailbox]:
    """A mail server that is running."""
    with sinks.mailbox() as box:
        yield box


@pytest.fixture
def hook() -> Iterator[sinks.Hook]:
    """A web server that is running."""
    with sinks.hook() as server:
        yield server


@pytest.fixture
def request_() -> ApprovalRequest:
    """A question that is open."""
    return ApprovalRequest(
        id="a1b2",
        model="digits",
        version="v2",
        stage=ModelStage.PRODUCTION,
        artifact_digest="sha256:aa",
        policy_digest="sha256:bb",
        incumbent="v1",
        requested_by="ann@example.com",
        requested_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        expires_at=datetime(2026, 3, 4, 12, tzinfo=UTC),
    )


@pytest.fixture
def notice(request_: ApprovalRequest) -> Notice:
    """The notice that it is pending."""
    evidence = "## digits:v2 to production?\n\n" + table(("metric", "v2"), [("accuracy", "0.98"), ("a|b <i>", "1")])
    asked = notices.of_question(request_, evidence, url="gs://models/registry")
    return asked.model_copy(update={"link": RUN})
