"""What a pipeline file may ask of an optimisation."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from registry.engines.spec import BatchRange, OptimizeSpec


def test_the_defaults_ask_for_both_engines_and_measure_two_batch_sizes() -> None:
    spec = OptimizeSpec()
    assert spec.engines == ("onnxruntime", "tensorrt")
    assert spec.batch_sizes == (1, 32)
    assert spec.batch == BatchRange(min=1, opt=8, max=64)


def test_what_a_yaml_file_gives_is_read_lists_and_whole_numbers_included() -> None:
    text = {"engines": ["onnxruntime"], "batch": {"max": 16}, "batch_sizes": [1, 16], "time_limit_s": 30, "atol": 0}
    spec = OptimizeSpec.model_validate(text)
    assert spec.engines == ("onnxruntime",)
    assert spec.batch_sizes == (1, 16)
    assert spec.batch == BatchRange(min=1, opt=8, max=16)
    assert (spec.time_limit_s, spec.atol) == (30.0, 0.0)
    assert OptimizeSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"batch": {"min": 9, "opt": 8}}, "min 9, opt 8, max 64"),
        ({"batch": {"opt": 65}}, "Put the three in order"),
        ({"batch": {"min": 0}}, "batch.min"),
        ({"batch_sizes": [1, 65]}, r"\[65\] lie outside the batch range 1 to 64"),
        ({"batch_sizes": []}, "batch_sizes"),
        ({"engines": ["onnxruntime", "onnxruntime"]}, "names one twice"),
        ({"engines": ["cuda"]}, "engines"),
        ({"repetitions": 0}, "repetitions"),
        ({"time_limit_s": 0}, "time_limit_s"),
        ({"threads": "two"}, "threads"),
        ({"max_score_drop": float("nan")}, "max_score_drop"),
        ({"time_limit": 3}, "time_limit"),
    ],
)
def test_a_spec_that_cannot_be_met_is_refused_in_words(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OptimizeSpec.model_validate(asked)
