"""A person approves in Prefect's own UI: a real server, a real worker, a real browser."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx
import pytest
from browser import BUSY, VIEWPORT, ApprovalDialog, log_in, open_dialog, open_page, open_run
from playwright.sync_api import Browser, Page, ViewportSize
from prefect_house import AUTH, PrefectHouse
from working_folder import ROOT

from registry import ModelRegistry, ModelStage
from tasks.pipeline import load_pipeline
from tasks.trial import try_endpoint

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

BEA, CARL = "bea@example.com", "carl@example.com"
PICTURE = ROOT / "docs" / "pictures" / "approval.png"


def stages(registry: ModelRegistry, name: str) -> dict[str, str]:
    return {version.version: version.stage.value for version in registry.list_versions(name)}


def promotions(registry: ModelRegistry, name: str, version: str) -> int:
    moves = registry.get_transitions(name)
    return sum(move.version == version and move.to_stage is ModelStage.PRODUCTION for move in moves)


def picture_of(dialog: ApprovalDialog, file: Path) -> None:
    """Keep what a person sees, the form filled, in a window that is high enough to show all of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    dialog.page.set_viewport_size(ViewportSize(width=1280, height=2600))
    dialog.root.screenshot(path=file, animations="disabled")
    dialog.page.set_viewport_size(VIEWPORT)


def test_the_ui_shows_nothing_before_it_was_given_the_servers_password(browser: Browser, house: PrefectHouse) -> None:
    assert httpx.get(f"{house.api_url}/admin/version").status_code == 401
    page = open_page(browser)
    page.goto(f"{house.url}/v2/runs")
    log_in(page, "admin:guessed")
    page.get_by_text("Invalid credentials").wait_for()
    assert page.get_by_role("link", name="Runs").count() == 0
    log_in(page, AUTH)
    page.get_by_role("link", name="Runs").wait_for()
    page.context.close()


def test_a_person_reads_the_evidence_and_approves_and_the_version_serves(
    house: PrefectHouse, registry: ModelRegistry, pipeline_file: Path, page: Page, tmp_path: Path
) -> None:
    deployment = house.apply("flows.lifecycle:lifecycle")
    run = house.run(deployment, config=pipeline_file.name, url=registry.url, requested_by="ann@example.com")
    house.wait_for(run, "PAUSED", within_s=240)
    assert stages(registry, "digits") == {"v1": "production", "v2": "staging"}
    open_run(page, house.url, run)
    dialog = open_dialog(page)

    dialog.root.get_by_role("heading", name="digits:v2 to production?").wait_for()
    dialog.root.get_by_text("Asked by ann@example.com").wait_for()
    assert_the_metrics_are_shown_beside_the_incumbents(dialog, registry)
    assert_the_engines_are_shown(dialog, registry)
    dialog.root.get_by_role("heading", name="Policy").locator("xpath=following-sibling::*[1]").get_by_text(
        "Passed"
    ).wait_for()
    dialog.root.get_by_text(f"modelway --url {registry.url} models show digits v2").wait_for()
    request = registry.get_approvals("digits")[-1].request
    bound = {what: cells["is"] for what, cells in dialog.columns("What the answer is bound to").items()}
    assert bound["request"] == request.id
    assert "".join(bound["artifact"].split()) == request.artifact_digest
    assert "".join(bound["policy"].split()) == request.policy_digest
    assert bound["incumbent"] == "digits:v1"
    assert dialog.cut() == []

    dialog.fill(decision="approve", approver=BEA, reason="better on every digit")
    picture_of(dialog, PICTURE if os.environ.get("MODELWAY_KEEP_PICTURES") else tmp_path / "approval.png")
    assert dialog.resume().json()["status"] == "ACCEPT"
    page.get_by_text("Completed", exact=True).first.wait_for()

    assert house.read(run).state_name == "Completed"
    assert stages(registry, "digits") == {"v1": "archived", "v2": "production"}
    approval = registry.get_version("digits", "v2").approvals[-1]
    assert (approval.approver, approval.reason, approval.method) == (BEA, "better on every digit", "form")
    endpoint = registry.get_endpoint("digits")
    assert httpx.get(f"{endpoint.url}/v2/models/digits/ready").json()
    assert try_endpoint(load_pipeline(pipeline_file), endpoint).metrics["accuracy"] == pytest.approx(
        registry.get_version("digits", "v2").metrics["accuracy"], abs=0.01
    )


def assert_the_metrics_are_shown_beside_the_incumbents(dialog: ApprovalDialog, registry: ModelRegistry) -> None:
    new, old = (registry.get_version("digits", version).metrics for version in ("v2", "v1"))
    shown = dialog.columns("Metrics")
    assert (
        {"accuracy", "precision", "recall", "f1_score", "validation_loss"} <= shown.keys() == new.keys() == old.keys()
    )
    for name, cells in shown.items():
        wanted = "lower" if name == "validation_loss" else "higher"
        better = (new[name] < old[name]) == (wanted == "lower")
        first, before, difference, *verdict = cells.values()
        assert list(cells)[:3] == ["digits:v2", "digits:v1 (incumbent)", "difference"]
        assert float(first) == pytest.approx(new[name], rel=1e-3)
        assert float(before) == pytest.approx(old[name], rel=1e-3)
        assert float(difference) == pytest.approx(new[name] - old[name], rel=1e-2, abs=1e-4)
        assert ("better" if better else "worse") in " ".join(verdict)
        assert wanted in " ".join(verdict)


def assert_the_engines_are_shown(dialog: ApprovalDialog, registry: ModelRegistry) -> None:
    (variant,) = registry.get_variants("digits", "v2")
    shown = dialog.columns("Engines")
    assert shown.keys() == {"as registered", "onnxruntime"}
    assert shown["onnxruntime"]["remark"] == "chosen"
    assert float(shown["onnxruntime"]["score"].partition(" ")[0]) == pytest.approx(variant.report.score, abs=1e-4)
    (latency, _) = variant.report.latency
    (times,) = [cell for head, cell in shown["onnxruntime"].items() if head.endswith(" @1")]
    p50_ms, p99_ms = (float(number) for number in times.split(" / "))
    assert (p50_ms, p99_ms) == pytest.approx((latency.p50_ms, latency.p99_ms), rel=0.01)


def test_wrong_input_is_refused_by_the_form_and_a_rejection_ends_the_run_with_nothing_moved(
    house: PrefectHouse, registry: ModelRegistry, page: Page
) -> None:
    run = house.run(house.apply("flows.promotion:promotion"), name="rejected", version="v2", url=registry.url)
    house.wait_for(run, "PAUSED")
    open_run(page, house.url, run)
    dialog = open_dialog(page)
    shown = {name: " ".join(cells.values()) for name, cells in dialog.columns("Metrics").items()}
    assert shown["loss"].startswith("0.25 0.5 -0.25 better")
    assert shown["accuracy"].startswith("0.875 0.9 -0.025 worse")

    assert dialog.resume().json()["status"] == "REJECT"
    dialog.says("'decision' is a required property")
    dialog.fill(decision="approve", approver=BEA)
    assert dialog.resume().json()["status"] == "REJECT"
    dialog.says("'reason' is a required property")
    dialog.fill(reason="   ")
    assert dialog.resume().json()["status"] == "REJECT"
    dialog.says("does not match")
    dialog.type_decision('"maybe"')
    dialog.fill(reason="who knows")
    assert dialog.resume().json()["status"] == "REJECT"
    dialog.says("'maybe' is not one of ['approve', 'reject']")
    assert house.read(run).state_name == "Suspended"
    (asked,) = registry.get_approvals("rejected")
    assert (asked.answers, asked.heard) == ((), 0)
    assert stages(registry, "rejected") == {"v1": "production", "v2": "development"}

    open_run(page, house.url, run)
    dialog = open_dialog(page)
    dialog.fill(decision="reject", approver=BEA, reason="not on a Friday")
    assert dialog.resume().json()["status"] == "ACCEPT"
    house.wait_for(run, "COMPLETED")
    (answer,) = registry.get_approvals("rejected")[0].answers
    assert (answer.decision, answer.approver, answer.reason) == ("reject", BEA, "not on a Friday")
    assert registry.get_runs("rejected")[-1].ending == "rejected"
    assert stages(registry, "rejected") == {"v1": "production", "v2": "development"}


def test_server_and_worker_are_killed_while_it_waits_and_of_two_who_approve_at_once_one_is_taken(
    house: PrefectHouse, registry: ModelRegistry, browser: Browser, page: Page
) -> None:
    run = house.run(house.apply("flows.promotion:promotion"), name="contested", version="v2", url=registry.url)
    house.wait_for(run, "PAUSED")
    house.until(lambda: not house.engines(run), lambda: "a suspended run still has a process")
    house.server.kill()
    house.workers["here"].kill()
    assert stages(registry, "contested") == {"v1": "production", "v2": "development"}
    house.start_server()
    house.start_worker()

    other = open_page(browser)
    open_run(other, house.url, run)
    log_in(other, AUTH)
    open_run(page, house.url, run)
    dialogs = {BEA: open_dialog(page), CARL: open_dialog(other)}
    for approver, dialog in dialogs.items():
        dialog.fill(decision="approve", approver=approver, reason="it is better")
    taken: list[str] = []
    while not taken:
        at_once = time.time() + 2
        with page.expect_response("**/resume") as first, other.expect_response("**/resume") as second:
            for dialog in dialogs.values():
                dialog.press_at(at_once)
        said = dict(zip(dialogs, (first.value, second.value), strict=True))
        taken = [approver for approver, answer in said.items() if answer.status == 201]
        assert taken or BUSY in [answer.status for answer in said.values()]
    other.context.close()

    house.wait_for(run, "COMPLETED")
    assert len(taken) == 1
    (asked,) = registry.get_approvals("contested")
    assert [answer.approver for answer in asked.answers] == taken
    assert stages(registry, "contested") == {"v1": "archived", "v2": "production"}
    assert promotions(registry, "contested", "v2") == 1
