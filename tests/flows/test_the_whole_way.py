"""`modelway run` on the real digits, against a real Prefect server, as a person, a name or Prefect's UI answers it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from working_folder import CONFIG, MODELWAY, Ended, House, house_in, kill_tree

from registry import ModelRegistry, ModelStage

pytestmark = pytest.mark.heavy

ANN = "ann@example.com"


def versions(house: House) -> dict[str, str]:
    registry = ModelRegistry(house.registry)
    return {version.version: version.stage.value for version in registry.list_versions("digits")}


def wait_for_pause(api_url: str, house: House) -> str:
    """Return the id of the house's run once it waits for an answer."""
    asked = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
    give_up_at = time.monotonic() + 120
    while time.monotonic() < give_up_at:
        for run in httpx.post(f"{api_url}/flow_runs/filter", json=asked).json():
            if run["parameters"].get("url") == str(house.registry):
                return str(run["id"])
        assert house.started[-1].poll() is None, house.started[-1].communicate()[0]
        time.sleep(0.3)
    pytest.fail("the run did not pause")


def answer(api_url: str, run_id: str, **fields: str) -> httpx.Response:
    """Answer as Prefect's UI does when a person presses Resume."""
    return httpx.post(f"{api_url}/flow_runs/{run_id}/resume", json={"run_input": fields})


def run_here(house: House, *more: str) -> Ended:
    return house.run("--url", str(house.registry), "run", str(CONFIG), *more)


def test_two_runs_give_v1_then_v2_and_rollback_brings_v1_back(house: House) -> None:
    first = run_here(house, "--approve-as", ANN)
    assert first.code == 0, first.output
    assert versions(house) == {"v1": "production"}
    second = run_here(house, "--approve-as", ANN)
    assert second.code == 0, second.output
    assert versions(house) == {"v1": "archived", "v2": "production"}
    assert "digits:v1 (incumbent)" in second.output
    assert "digits:v2 is in production, v1 is archived" in second.output

    registry = ModelRegistry(house.registry)
    promoted = [moved for moved in registry.get_transitions("digits") if moved.version == "v2"][-1]
    demoted = [moved for moved in registry.get_transitions("digits") if moved.version == "v1"][-1]
    assert promoted.number == demoted.number, "v1 is archived by the very event that promotes v2"
    assert promoted.approval is not None
    assert (promoted.approval.approver, promoted.approval.method) == (ANN, "form")
    version = registry.get_version("digits", "v2")
    assert version.metrics["accuracy"] >= 0.97
    variants = {variant.report.engine: variant for variant in registry.get_variants("digits", "v2")}
    assert variants["onnxruntime"].report.latency
    assert (variants["onnxruntime"].report.score or 0.0) >= 0.97
    if sys.platform == "linux" and os.uname().machine == "x86_64":  # where the wheel exists, the engine is real
        tensorrt = variants["tensorrt"]
        assert tensorrt.report.key_fields["package"] == "tensorrt_rtx"
        assert tensorrt.manifest is not None
        assert tensorrt.manifest.size_bytes > 10_000

    back = house.run("--url", str(house.registry), "models", "rollback", "digits")
    assert back.code == 0, back.output
    assert versions(house) == {"v1": "production", "v2": "archived"}


def test_prefects_ui_answers_a_run_and_wrong_forms_are_refused(house: House, api_url: str) -> None:
    process = house.start("--url", str(house.registry), "run", str(CONFIG), "--keep-serving")
    run_id = wait_for_pause(api_url, house)
    time.sleep(1)  # Prefect saves the form a moment after it pauses the run
    assert answer(api_url, run_id).json()["status"] != "ACCEPT", "an empty form must not count as an answer"
    assert answer(api_url, run_id, decision="maybe", approver=ANN, reason="x").json()["status"] != "ACCEPT"
    assert answer(api_url, run_id, decision="approve", approver=" ", reason="x").json()["status"] != "ACCEPT"
    assert versions(house) == {"v1": "staging"}
    answer(api_url, run_id, decision="approve", approver=ANN, reason="it is better")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert f"/runs/flow-run/{run_id}" in output, "the run says where Prefect's UI shows it"
    assert versions(house) == {"v1": "production"}

    curl = re.search(r"ask it: +(curl .*)", output)
    assert curl is not None, output
    answered = subprocess.run(["/bin/sh", "-c", curl.group(1)], capture_output=True, text=True, check=True)
    assert '"model_name":"digits"' in answered.stdout
    stopped = house.run("--url", str(house.registry), "endpoints", "stop", "digits")
    assert stopped.code == 0, stopped.output
    assert ModelRegistry(house.registry).get_endpoint("digits").desired is None


def test_rejecting_ends_the_run_cleanly_with_the_version_in_staging(house: House, api_url: str) -> None:
    process = house.start("--url", str(house.registry), "run", str(CONFIG))
    run_id = wait_for_pause(api_url, house)
    time.sleep(1)
    answer(api_url, run_id, decision="reject", approver=ANN, reason="not on a Friday")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "was rejected by ann@example.com: not on a Friday. It stays in staging." in output
    assert versions(house) == {"v1": "staging"}
    state = httpx.get(f"{api_url}/flow_runs/{run_id}").json()["state"]
    assert state["type"] == "COMPLETED"


def test_a_person_answers_at_the_prompt(house: House) -> None:
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [str(MODELWAY), "--url", str(house.registry), "run", str(CONFIG)],
        cwd=house.folder,
        env={**house.environment, "TERM": "xterm", "COLUMNS": "120"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        seen = _type_when_asked(
            main, {"approve or reject:": "approve", "approvers list it:": ANN, "Why:": "looks right"}, process
        )
    finally:
        kill_tree(process.pid)
        process.wait()
        os.close(main)
    assert process.returncode == 0, seen
    assert versions(house) == {"v1": "production"}
    approval = ModelRegistry(house.registry).get_version("digits", 1).approvals[-1]
    assert (approval.approver, approval.reason, approval.method) == (ANN, "looks right", "form")


def _type_when_asked(main: int, answers: dict[str, str], process: subprocess.Popen[bytes]) -> str:
    seen, waiting = "", dict(answers)
    give_up_at = time.monotonic() + 120
    while time.monotonic() < give_up_at:
        if select.select([main], [], [], 0.2)[0]:
            try:
                seen += os.read(main, 65536).decode(errors="replace")
            except OSError:  # the other end is closed: the command has ended
                process.wait(timeout=20)
                return seen
        question = next(iter(waiting), None)
        if question is not None and question in seen:
            os.write(main, f"{waiting.pop(question)}\n".encode())
    pytest.fail(f"the run did not end:\n{seen[-3000:]}")


def test_a_name_that_is_no_approver_leaves_the_version_in_staging(house: House, tmp_path: Path) -> None:
    config = tmp_path / "strict.yaml"
    config.write_text(CONFIG.read_text().replace('approvers: ["*"]', 'approvers: ["*@example.com"]'))
    ended = house.run("--url", str(house.registry), "run", str(config), "--approve-as", "mallory@example.org")
    assert ended.code == 4, ended.output
    assert (
        "'mallory@example.org' is no approver for production in this registry. Listed: *@example.com." in ended.output
    )
    assert versions(house) == {"v1": "staging"}


def test_a_run_that_nobody_answers_in_time_leaves_the_version_in_staging(house: House, tmp_path: Path) -> None:
    config = tmp_path / "impatient.yaml"
    config.write_text(CONFIG.read_text().replace("timeout_s: 3600", "timeout_s: 2"))
    house.environment["MODELWAY_URL"] = str(house.registry)
    ended = house.run("run", str(config))
    assert ended.code == 4, ended.output
    assert "Nobody answered within 2 s. It waits in staging." in ended.output
    assert versions(house) == {"v1": "staging"}


def test_a_version_that_fails_the_policy_ends_with_3_and_stays_where_it_is(house: House, tmp_path: Path) -> None:
    config = tmp_path / "hard.yaml"
    config.write_text(
        CONFIG.read_text().replace("threshold: 0.97", "threshold: 0.9999").replace("epochs: 30", "epochs: 2")
    )
    ended = house.run("--url", str(house.registry), "run", str(config), "--approve-as", ANN)
    assert ended.code == 3, ended.output
    assert "accuracy >= 0.9999 is required, found" in ended.output
    assert versions(house) == {"v1": "development"}


def test_a_mistake_in_the_file_names_its_line_before_anything_starts(house: House, tmp_path: Path) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text(CONFIG.read_text().replace("digits:train\n", "digits:trian\n"))
    line = next(n for n, text in enumerate(config.read_text().splitlines(), 1) if "trian" in text)
    ended = house.run("--url", str(house.registry), "run", str(config))
    assert ended.code == 2, ended.output
    assert f"wrong.yaml:{line}" in ended.output
    assert "train" in ended.output
    assert not house.registry.exists()


def test_with_nobody_to_answer_the_run_waits_in_staging_says_how_and_can_be_taken_up(tmp_path: Path) -> None:
    alone = house_in(tmp_path / "alone")  # no Prefect server, no terminal, no name
    try:
        waiting = alone.run("run", str(CONFIG))
        assert waiting.code == 4, waiting.output
        assert "--version v1 --approve-as you@example.com" in waiting.output
        assert versions(alone) == {"v1": "staging"}
        taken_up = alone.run("run", str(CONFIG), "--version", "v1", "--approve-as", ANN)
        assert taken_up.code == 0, taken_up.output
        assert versions(alone) == {"v1": "production"}
    finally:
        alone.kill_all()


@pytest.mark.parametrize("after", ["register", "approval", "deploy"])
def test_killed_at_a_step_and_run_again_it_ends_well(house: House, tmp_path: Path, after: str) -> None:
    config = tmp_path / "quick.yaml"
    config.write_text(
        CONFIG.read_text().replace("epochs: 30", "epochs: 3").replace("threshold: 0.97", "threshold: 0.5")
    )
    process = house.start("--url", str(house.registry), "run", str(config), "--approve-as", ANN)
    assert process.stdout is not None
    for line in process.stdout:
        if line.split()[:1] == [after]:
            break
    os.killpg(process.pid, signal.SIGKILL)
    kill_tree(process.pid)
    process.wait()

    registry = ModelRegistry(house.registry)
    left = {} if not registry.list_models() else versions(house)
    assert len(left) <= 1
    for label in left:
        registry.download("digits", label, house.folder / "left", progress=False)  # what is listed is whole
    again = house.run("--url", str(house.registry), "run", str(config), "--approve-as", ANN)
    assert again.code == 0, again.output
    now = versions(house)
    assert list(now.values()).count(ModelStage.PRODUCTION.value) == 1
    newest = max(now, key=lambda label: int(label[1:]))
    assert now[newest] == "production"
    assert not still_serving(house), "no process of the killed run is left"


def still_serving(house: House) -> list[list[str]]:
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [command for command in commands if any(str(house.folder) in word for word in command)]
