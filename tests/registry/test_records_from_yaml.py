"""An optimise spec from a file or a mapping; what is wrong in a file, as records beside the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry import ModelRegistry, PromotionPolicy
from registry.errors import InvalidInputError, InvalidPipelineError, Mistake, ModelNotFoundError
from registry.names import check_name
from registry.yaml_files.record import read_record


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a file that is yet to be written."""
    return tmp_path / "given.yaml"


def test_a_refusal_holds_each_mistake_as_a_record_in_the_order_of_lines(file: Path) -> None:
    file.write_text("requirements:\n  - name: accuracy\nrequirement: []\n", encoding="utf-8")
    with pytest.raises(InvalidPipelineError) as refused:
        read_record(file, "policy", PromotionPolicy)
    first, second = refused.value.problems
    assert (first.file, first.line, first.key) == (str(file), 2, "requirements.0.threshold")
    assert (second.line, second.key) == (3, "requirement")
    assert "Did you mean requirements?" in second.words
    assert str(refused.value) == f"{file} has 2 mistakes:\n  {first}\n  {second}"


def test_a_file_that_is_not_there_is_a_mistake_without_line_and_key(file: Path) -> None:
    with pytest.raises(InvalidPipelineError) as refused:
        read_record(file, "policy", PromotionPolicy)
    (mistake,) = refused.value.problems
    assert mistake == Mistake(str(file), None, "", mistake.words)
    assert str(refused.value) == f"{file}: {mistake.words}"


def test_only_the_section_that_is_asked_for_must_hold(file: Path) -> None:
    file.write_text("data: {since: 2026-01-01, rate: .nan}\npolicy: {requirements: []}\n", encoding="utf-8")
    assert read_record(file, "policy", PromotionPolicy) == PromotionPolicy()


def test_an_alias_bomb_in_a_policy_is_refused_in_no_time(file: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    file.write_text("\n".join([*lines, "policy: *a8"]), encoding="utf-8")
    with pytest.raises(InvalidPipelineError, match="too many values"):
        read_record(file, "policy", PromotionPolicy)


@pytest.mark.parametrize("text", ["engines: [onnxruntime]\natol: 0\n", "name: x\noptimize:\n  atol: 0\n"])
def test_a_spec_in_a_file_is_read_alone_or_as_a_section(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ModelNotFoundError):  # the spec held: the model is what is missing
        ModelRegistry("memory://specs").optimize("digits", 1, spec=file)


def test_a_mistake_in_a_spec_is_told_with_its_line_before_anything_is_looked_up(file: Path) -> None:
    file.write_text("engines: [onnxruntime]\nbatch:\n  min: 9\n  opt: 8\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"given\.yaml:2: batch: a batch range needs min <= opt <= max"):
        ModelRegistry("memory://specs").optimize("digits", 1, spec=file)


@pytest.mark.parametrize(
    ("spec", "mistake"),
    [
        ({"engines": ("cuda",)}, r"the spec: engines\.0: must be 'onnxruntime', .* or 'tensorrt-fp8'; found 'cuda'"),
        ({"threads": [1, 0]}, r"the spec: threads: .*must be 1 or more, or a list of such numbers; found \[1, 0\]"),
        ({"engine": []}, r"the spec: engine: there is no such key: engine\. Did you mean engines\?"),
        ({"batch": {"min": 9, "opt": 8}}, "the spec: batch: a batch range needs"),
    ],
)
def test_a_mistake_in_a_mapping_is_told_with_its_key(spec: dict[str, Any], mistake: str) -> None:
    with pytest.raises(InvalidInputError, match=mistake):
        ModelRegistry("memory://specs").optimize("digits", 1, spec=spec)


@pytest.mark.parametrize(("kind", "words"), [("model", "a model"), ("alias", "an alias"), ("endpoint", "an endpoint")])
@pytest.mark.parametrize("name", ["Digits!", "v2"])
def test_a_name_is_refused_with_the_article_of_its_kind(name: str, kind: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=f"cannot be {words} name: "):
        check_name(name, kind=kind)
