"""Outside of a run nothing is shown anywhere, and no server is started for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import psutil
import pytest
import sinks
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings
from pydantic import SecretStr

from registry import ModelRegistry
from registry.policy import PromotionPolicy
from registry.progress import listen, track
from tasks import notices
from tasks.notices import NoticeSettings
from tasks.notifying import notify, run_link
from tasks.prefect_events import emit
from tasks.progress_artifacts import PrefectProgress
from tasks.publishing import publish_engines, publish_evaluation, publish_version


@pytest.fixture(autouse=True)
def no_server(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Have no Prefect server, and none that may be started: what asks for one fails, and would be told."""
    caplog.set_level(logging.INFO)
    processes = psutil.Process().children(recursive=True)
    with temporary_settings({PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}, restore_defaults={PREFECT_API_URL}):
        yield
    assert caplog.messages == []
    assert psutil.Process().children(recursive=True) == processes, "Prefect starts a server for events even so"


def test_artifacts_progress_and_events_are_silent(models: ModelRegistry) -> None:
    version = models.get_version("hand_digits", 2)
    threads = threading.active_count()

    publish_evaluation(models, version, models.check_promotion_policy("hand_digits", 2, PromotionPolicy()))
    publish_engines(models, version)
    publish_version(models, version)
    emit("version.promoted", "hand_digits", labels={"version": "v2"}, key="r1")
    with listen(PrefectProgress()), track("uploading hand_digits:v2", 10, "bytes") as advance:
        advance(10)
        assert threading.active_count() == threads


def test_a_notice_is_sent_without_a_link() -> None:
    failure = notices.of_failure("digits", "it failed", url="gs://models")
    with sinks.hook() as hook:
        notify(NoticeSettings(channels=(SecretStr(f"http://{hook.place}/"),)), failure, key="1")

    assert [(posted.json["words"], posted.json["link"]) for posted in hook.received] == [("it failed", "")]
    assert run_link(None) == ""
