"""A deployments file and its pool files are checked whole, and every mistake is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from deployments_folder import DEPLOYMENTS, POOL, DeploymentsFolder

from deployments.settings import load_deployments
from registry.errors import InvalidPipelineError

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("old", "new", "line_of", "words"),
    [
        ("0 3 * * *", "0 25 * * *", "0 25", "'0 25 * * *' is no cron line. Write five fields"),
        ("Europe/Berlin", "Europe/Berln", "Berln", "no timezone 'Europe/Berln'. Did you mean Europe/Berlin"),
        ("timezone:", "timezon:", "timezon:", "there is no such key: timezon. Did you mean timezone?"),
        ("epochs: 2", "epoch: 2", "epoch: 2", "the function has no parameter 'epoch'. Did you mean epochs?"),
        ("epochs: 2", "epochs: two", "epochs: two", "must be a valid integer; found 'two' (text)"),
        ('reason: "{{', 'reasn: "{{', "reasn", "the flow has no parameter 'reasn'. Did you mean reason?"),
        ("tried_flows:note", "tried_flows:not", "tried_flows:not", "the module tried_flows has no 'not'"),
        ("tried_flows:note", "tried_flows:Answer", "tried_flows:Answer", "no flow: name a function that @flow"),
        ("tried_flows:ask", "tried_flow:ask", "tried_flow:ask", "there is no module tried_flow"),
        ("name: asked", "name: Asked!", "Asked!", "'Asked!' cannot be a name here"),
        (
            "    flow: tried_flows:ask\n",
            "    flow: tried_flows:ask\n    pool: gpu\n",
            "pool: gpu",
            "has the name 'gpu'",
        ),
        (
            "    flow: tried_flows:ask\n",
            "    flow: tried_flows:ask\n    job_variables: {working_directory: /}\n",
            "working_directory",
            "no variable 'working_directory'. Did you mean working_dir?",
        ),
        (
            "    flow: tried_flows:ask\n",
            "    flow: tried_flows:ask\n    schedules: [{name: hourly, cron: 0 * * * *}]\n",
            "hourly",
            "the flow ask needs 'config', and nobody is there to give it",
        ),
        ("{within_s: 60}", "{within_s: 59}", "within_s", "greater than or equal to 60"),
        ("[pool.yaml]", "[pol.yaml]", "pol.yaml", "there is no file"),
        ("name: asked\n    flow: tried_flows:ask", "name: digits\n    flow: tried_flows:note", "name: digits", "twice"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    deployments: DeploymentsFolder, old: str, new: str, line_of: str, words: str
) -> None:
    with pytest.raises(InvalidPipelineError) as refused:
        deployments.changed(old, new)
    assert words in str(refused.value)
    lines = deployments.file.read_text().splitlines()
    assert any(
        problem.line is not None and line_of in "".join(lines[problem.line - 1 : problem.line + 1])
        for problem in refused.value.problems
        if words in problem.words
    )


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines(deployments: DeploymentsFolder) -> None:
    wrong = DEPLOYMENTS.replace("tried_flows:ask", "nowhere:ask").replace("config: digits.yaml", "config: 3")
    with pytest.raises(InvalidPipelineError) as refused:
        deployments.write(wrong)
    assert [problem.key for problem in refused.value.problems] == [
        "deployments.0.parameters.config",
        "deployments.1.flow",
    ]


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ("type: process", "type: proces", "type", "must be 'process', 'docker' or 'kubernetes'"),
        ("working_dir: .", "working_folder: .", "variables.working_folder", "no variable 'working_folder'"),
        (
            "working_dir: .",
            "working_dir: [a]",
            "variables.working_dir",
            "the schema of the pool's jobs does not take it",
        ),
        ('"30"', '"5"', "variables.env.PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "whole seconds, 30 at least"),
        ("variables:", "job_configuration: {images: a}\nvariables:", "job_configuration.images", "has no 'images'"),
    ],
)
def test_a_mistake_in_a_pool_file_is_told_with_its_line(
    deployments: DeploymentsFolder, old: str, new: str, key: str, words: str
) -> None:
    with pytest.raises(InvalidPipelineError) as refused:
        deployments.write(pool=POOL.replace(old, new))
    (problem,) = refused.value.problems
    assert problem.file.endswith("pool.yaml")
    assert problem.key == key
    assert words in problem.words
    assert problem.line == 1 + next(
        n for n, line in enumerate(POOL.replace(old, new).splitlines()) if new.split("\n", maxsplit=1)[0] in line
    )


def test_a_run_may_lose_a_sign_of_life_before_it_counts_as_dead(deployments: DeploymentsFolder) -> None:
    with pytest.raises(InvalidPipelineError, match="give at least 360") as refused:
        deployments.write(pool=POOL.replace("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "OTHER"))
    assert [problem.key for problem in refused.value.problems] == ["zombies.within_s"]


def test_the_file_that_comes_with_modelway_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    wanted = load_deployments(CONFIGS / "deployments.yaml")
    assert {one.flow.name for one in wanted.deployments} == {
        "lifecycle",
        "promotion",
        "retraining",
        "rollback",
        "canary",
        "reconcile",
        "gc",
    }
