"""A pipeline file is read into records, and every mistake in one is told with its line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.errors import InvalidPipelineError
from registry.policy import Comparison, IncumbentRule, MetricRequirement, PromotionPolicy
from registry.stages import ModelStage
from tasks.pipeline import load_pipeline
from tasks.training import run_trainer

RIGHT = """\
name: digits
data:
  entry_point: own_parts:data
trainer:
  entry_point: own_parts:train
  parameters:
    epochs: 3
deploy:
  endpoint_name: digits
"""
Writer = Callable[[str], Path]


def mistakes(path: Path | str) -> list[str]:
    with pytest.raises(InvalidPipelineError) as refusal:
        load_pipeline(path)
    lines = str(refusal.value).splitlines()
    return [line.strip() for line in (lines[1:] if len(lines) > 1 else lines)]


def test_a_file_with_only_what_is_needed_has_defaults_for_the_rest(write: Writer) -> None:
    config = load_pipeline(write(RIGHT))
    assert config.trainer.parameters == {"epochs": 3}
    assert config.evaluation.entry_point == "tasks.evaluation:classification"
    assert config.evaluation.metric == "accuracy"
    assert config.registry.guard is None
    assert config.approval.required
    assert config.optimize.engines == ("onnxruntime", "tensorrt")


def test_every_section_is_read(write: Writer) -> None:
    config = load_pipeline(
        write(
            RIGHT
            + """\
description: a test
tags: [one, two]
registry: {url: memory://x, guard: {require_approval: [prod, staging], accept_asserted: true, approvers: ["*@a.org"]}}
evaluation: {entry_point: own_parts:measure, metric: f1_score}
policy:
  requirements:
    - {name: accuracy, comparison: gte, threshold: 1}
  against_incumbent:
    - {metric: accuracy, may_drop: 0.005}
optimize: {engines: [onnxruntime], batch_sizes: [1, 2], max_score_drop: 0}
approval: {required: false, expires_in_hours: 1, timeout_s: 5}
"""
        )
    )
    assert config.tags == {"one": "", "two": ""}
    assert config.policy == PromotionPolicy(
        requirements=(MetricRequirement("accuracy", comparison=Comparison.GTE, threshold=1.0),),
        against_incumbent=(IncumbentRule(metric="accuracy", may_drop=0.005),),
    )
    assert config.optimize.batch_sizes == (1, 2)
    assert config.registry.guard is not None
    guard = config.registry.guard.to_guard()
    assert set(guard.require_approval) == {ModelStage.PRODUCTION, ModelStage.STAGING}
    assert guard.accept_asserted
    assert guard.lists("me@A.org")


def test_the_pipeline_that_comes_with_modelway_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    config = load_pipeline("configs/digits.yaml")
    assert config.name == config.deploy.endpoint_name == "digits"
    assert config.policy.requirements == (MetricRequirement("accuracy", threshold=0.97),)
    assert config.policy.against_incumbent[0].may_drop == 0.005
    assert config.registry.guard is not None
    guard = config.registry.guard.to_guard()
    assert guard.require_approval == (ModelStage.PRODUCTION,)
    assert guard.lists("you@example.com")


def test_reading_a_pipeline_module_brings_neither_torch_nor_prefect() -> None:
    program = "import sys, tasks.pipeline; print({'torch', 'prefect', 'sklearn', 'onnxruntime'} & set(sys.modules))"
    root = str(Path(__file__).parents[2])
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert ran.stdout.strip() == "set()"


def changed(old: str, new: str) -> str:
    assert RIGHT.count(old) == 1
    return RIGHT.replace(old, new)


MISTAKES = {
    "an unknown key": (RIGHT + "descripton: x\n", r":10: descripton: .*Did you mean description\?"),
    "an unknown key in a section": (
        changed("  endpoint_name", "  endpont_name: x\n  endpoint_name"),
        r":9: deploy\.endpont_name: .*Did you mean endpoint_name\?",
    ),
    "an unknown key in a list": (
        RIGHT + "policy:\n  requirements:\n    - name: a\n      treshold: 1\n      threshold: 1\n",
        r":13: policy\.requirements\.0\.treshold: .*threshold",
    ),
    "an unknown key of the guard": (
        RIGHT + "registry:\n  guard:\n    acept_asserted: true\n",
        r":12: registry\.guard\.acept_asserted: .*accept_asserted",
    ),
    "a missing key": (
        changed("  endpoint_name: digits\n", "  target: local\n"),
        r":8: deploy\.endpoint_name: this key is missing",
    ),
    "a missing section": (changed("deploy:\n  endpoint_name: digits\n", ""), r":1: deploy: this key is missing"),
    "text for a number": (
        RIGHT + "approval:\n  timeout_s: '5'\n",
        r":11: approval\.timeout_s: .*'5' \(text\).*without quotes",
    ),
    "a word for a truth": (
        RIGHT + "approval: {\n  required: yes}\n",
        r":11: approval\.required: .*'yes'.*true or false",
    ),
    "a number for text": (RIGHT + "description: 5\n", r":10: description: .*5 \(a whole number\).*in quotes"),
    "a truth for a number": (
        RIGHT + "policy: {requirements: [\n  {name: a, threshold: true}]}\n",
        r":11: policy\.requirements\.0\.threshold: .*True",
    ),
    "a value for a section": (
        changed("deploy:\n  endpoint_name: digits", "deploy: digits"),
        r":8: deploy: .*'digits' \(text\)",
    ),
    "an empty section": (changed("  endpoint_name: digits\n", ""), r":8: deploy: .*found nothing"),
    "an unknown stage": (
        RIGHT + "registry:\n  guard:\n    require_approval:\n      - prodution\n",
        r":13: .*require_approval\.0: 'prodution' is no stage.*production",
    ),
    "an unknown comparison": (
        RIGHT + "policy:\n  requirements:\n    - {name: a, comparison: more, threshold: 1}\n",
        r":12: policy\.requirements\.0\.comparison: must be one of 'gte', 'gt', 'lte', 'lt', 'eq'; found 'more'",
    ),
    "an unknown engine": (
        RIGHT + "optimize:\n  engines: [onnxruntime,\n    tensort]\n",
        r":12: optimize\.engines\.1: .*'tensorrt'.*found 'tensort'",
    ),
    "batches out of order": (RIGHT + "optimize:\n  batch: {min: 9, opt: 2}\n", r":11: optimize\.batch: .*min <= opt"),
    "an unknown target": (
        changed("endpoint_name: digits", "endpoint_name: digits\n  target: moon"),
        r":10: deploy\.target: must be .*'local'.*'vertex'.*; found 'moon'",
    ),
    "a name that cannot be": (
        changed("name: digits\nd", "name: Digits!\nd"),
        r":1: name: 'Digits!' cannot be a model name",
    ),
    "an endpoint name that cannot be": (
        changed("endpoint_name: digits", "endpoint_name: v2"),
        r":9: deploy\.endpoint_name: 'v2' cannot be an? endpoint name",
    ),
    "a negative time": (
        RIGHT + "approval:\n  timeout_s: -1\n",
        r":11: approval\.timeout_s: must be greater than 0; found -1",
    ),
    "an infinity": (RIGHT + "approval:\n  timeout_s: .inf\n", r":11: approval\.timeout_s: inf is no number"),
    "NaN as a parameter": (
        changed("epochs: 3", "epochs: 3\n    rate: .nan"),
        r":8: trainer\.parameters\.rate: nan is no number",
    ),
    "an entry point without a colon": (
        changed("own_parts:data", "own_parts.data"),
        r":3: data\.entry_point: .*write module:function",
    ),
    "no such module": (
        changed("own_parts:data", "own_part:data"),
        r":3: data\.entry_point: there is no module own_part\. Did you mean own_parts\b",
    ),
    "no such function": (
        changed("own_parts:train", "own_parts:tain"),
        r":5: trainer\.entry_point: the module own_parts has no 'tain'\. Did you mean train",
    ),
    "nothing that can be called": (
        changed("own_parts:train", "own_parts:TABLE"),
        r":5: trainer\.entry_point: .*cannot be called",
    ),
    "an unknown parameter": (
        changed("epochs: 3", "epochs: 3\n    rte: 1"),
        r":8: trainer\.parameters\.rte: .*Did you mean rate\?",
    ),
    "a missing parameter": (
        changed("  parameters:\n    epochs: 3\n", ""),
        r":4: trainer\.parameters\.epochs: the function needs this parameter",
    ),
    "a parameter of another type": (
        changed("epochs: 3", "epochs: ten"),
        r":7: trainer\.parameters\.epochs: .*integer; found 'ten' \(text\)",
    ),
    "a quoted number": (changed("epochs: 3", "epochs: '3'"), r":7: trainer\.parameters\.epochs: .*without quotes"),
    "a parameter's item of another type": (
        changed("epochs: 3", "epochs: 3\n    sizes:\n      - 1\n      - x"),
        r":10: trainer\.parameters\.sizes\.1: .*'x'",
    ),
    "a parameter that the caller gives": (
        changed("epochs: 3", "epochs: 3\n    progress: 1"),
        r":8: trainer\.parameters\.progress: .*from modelway itself",
    ),
    "an evaluation that takes too little": (
        RIGHT + "evaluation:\n  entry_point: own_parts:nothing_by_position\n",
        r":11: evaluation\.entry_point: .*0 arguments by position",
    ),
    "a key twice": (changed("deploy:", "name: again\ndeploy:"), r":8: found duplicate key \"name\".*Keep one"),
    "a parameter twice": (changed("epochs: 3", "epochs: 3\n    epochs: 4"), r":8: found duplicate key \"epochs\""),
    "broken YAML": (RIGHT + "tags: [a\npolicy: {}\n", r":11: is not YAML: "),
    "a tab": (RIGHT + "policy:\n\trequirements: []\n", r":11: is not YAML: "),
    "two documents": (RIGHT + "---\nname: other\n", r":10: is not YAML: "),
    "a control character": (RIGHT + "description: a\x07b\n", r":10: is not YAML: "),
    "an unknown alias": (RIGHT + "tags: *nobody\n", r":10: is not YAML: .*nobody"),
    "a tag": (
        RIGHT + "description: !!python/object/apply:os.mkdir [marker]\n",
        r":10: description: the tag .*os\.mkdir is not read",
    ),
    "a date": (
        changed("epochs: 3", "epochs: 3\n    limit: 2026-01-01"),
        r":8: trainer\.parameters\.limit: a date is not read; put it in quotes",
    ),
    "a key that is a number": (RIGHT + "tags: {1: a}\n", r":10: tags: the key 1 is not text"),
    "a list at the top": ("- name: digits\n", r":1: a pipeline file is made of keys and values; found .*list"),
    "nothing": ("# only a comment\n", r":1: a pipeline file is made of keys and values; found nothing"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_file_line_and_key(write: Writer, mistake: str) -> None:
    text, expected = MISTAKES[mistake]
    told = mistakes(write(text))
    assert len(told) == 1
    assert re.fullmatch(r"configs/own\.yaml" + expected + ".*", told[0]), told[0]
    assert not Path("marker").exists()


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines(write: Writer) -> None:
    text = changed("epochs: 3", "epochs: ten\n    rte: 1").replace("own_parts:data", "own_parts:dat")
    told = mistakes(write(text + "colour: red\n"))
    assert [line.split(": ")[:2] for line in told] == [
        ["configs/own.yaml:3", "data.entry_point"],
        ["configs/own.yaml:7", "trainer.parameters.epochs"],
        ["configs/own.yaml:8", "trainer.parameters.rte"],
        ["configs/own.yaml:11", "colour"],
    ]


def test_an_alias_bomb_is_refused_in_no_time(write: Writer) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    told = mistakes(write(RIGHT + "\n".join(lines) + "\n"))
    assert len(told) == 1
    assert "too many values" in told[0]


def test_merged_and_aliased_values_are_read(write: Writer) -> None:
    text = changed("  parameters:\n", "  parameters:\n    <<: *shared\n").replace("name:", "tags: &t {a: b}\nname:", 1)
    shared = text.replace(
        "data:\n  entry_point: own_parts:data\n", "data:\n  entry_point: own_parts:data\n  parameters: &shared {}\n"
    )
    assert load_pipeline(write(shared)).trainer.parameters == {"epochs": 3}


def test_a_file_that_is_not_there_is_told_with_one_that_is_close(write: Writer) -> None:
    write(RIGHT)
    assert mistakes("configs/onw.yaml")[0].startswith("configs/onw.yaml: there is no such file")
    assert mistakes("configs/onw.yaml")[0].endswith("Did you mean configs/own.yaml?")
    assert "no such file" in mistakes("nowhere/at/all.yaml")[0]


def test_a_folder_or_another_kind_of_file_is_no_pipeline_file(write: Writer, tmp_path: Path) -> None:
    write(RIGHT)
    assert re.match(r"configs: cannot be read: .*directory", mistakes("configs")[0])
    (tmp_path / "latin.yaml").write_bytes("name: digits\ndescription: é\n".encode("latin-1"))
    assert mistakes("latin.yaml")[0].startswith("latin.yaml:2: is not UTF-8 text")
    (tmp_path / "large.yaml").write_bytes(b"#" * (1024 * 1024 + 1))
    assert "larger than" in mistakes("large.yaml")[0]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import no_such_package_here\n", r"own_broken is there, and importing it failed: .*no_such_package_here"),
        ("def train(:\n", r"own_broken is there, and importing it failed: SyntaxError"),
        ("raise RuntimeError('not today')\n", r"own_broken is there, and importing it failed: RuntimeError: not today"),
    ],
)
def test_an_error_inside_a_module_is_not_taken_for_a_missing_one(
    write: Writer, tmp_path: Path, source: str, expected: str
) -> None:
    (tmp_path / "own_broken.py").write_text(source, encoding="utf-8")
    told = mistakes(write(changed("own_parts:train", "own_broken:train")))
    assert re.search(r":5: trainer\.entry_point: the module " + expected, told[0])


def test_a_trainer_that_has_registered_its_model_itself_is_refused(own_parts: Path, write: Writer) -> None:
    with own_parts.open("a", encoding="utf-8") as file:
        file.write(
            "\n\ndef train_and_register(splits, **settings):\n"
            "    model = Model(data=b'weights', name='digits', register=True)\n"
            "    from registry import InMemoryRegistry\n"
            "    return model.become(model.register_in(InMemoryRegistry()))\n"
        )
    pipeline = load_pipeline(write(RIGHT.replace("own_parts:train", "own_parts:train_and_register")))

    with pytest.raises(InvalidPipelineError, match="own_parts:train_and_register has registered digits:v1 itself"):
        run_trainer(pipeline)
