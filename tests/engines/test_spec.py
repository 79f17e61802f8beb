"""What a pipeline file may ask of an optimisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from registry.engines.spec import BatchRange, Calibration, EngineName, OptimizeSpec, TensorRtSpec
from registry.errors import InvalidPipelineError
from registry.yaml_files.document import read_yaml
from registry.yaml_files.record import read_record

SHIPPED = Path(__file__).parents[2] / "configs" / "optimize.yaml"


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


@pytest.mark.parametrize(("given", "threads"), [(2, (2,)), ([1, 2], (1, 2)), ((4,), (4,)), ([2, 1], (2, 1))])
def test_threads_are_one_number_or_several_and_the_first_serves(given: object, threads: tuple[int, ...]) -> None:
    assert OptimizeSpec.model_validate({"threads": given}).threads == threads


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (0, r"threads must be 1 or more, or a list of such numbers; found \[0\]"),
        ([1, 0], r"found \[1, 0\]"),
        ([], r"found \[\]"),
        (-1, r"found \[-1\]"),
        ([2, 2], "threads names one twice: 2, 2. Name each once"),
        (1.5, "threads"),
    ],
)
def test_threads_that_nothing_can_run_with_are_refused(given: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OptimizeSpec.model_validate({"threads": given})


def test_an_engine_or_a_batch_size_named_twice_is_refused_with_what_was_named() -> None:
    with pytest.raises(ValidationError, match=r"engines names one twice: openvino, onnxruntime, openvino\. Name each"):
        OptimizeSpec.model_validate({"engines": ["openvino", "onnxruntime", "openvino"]})
    with pytest.raises(ValidationError, match=r"batch_sizes names one twice: 8, 8\. Name each once"):
        OptimizeSpec.model_validate({"batch_sizes": [8, 8]})


@pytest.mark.parametrize("engine", ["openvino-int16", "onnxruntime-fp16", "tensorrt-int16", "OpenVINO", ""])
def test_an_engine_that_there_is_not_is_refused_with_those_that_there_are(engine: str) -> None:
    with pytest.raises(ValidationError) as refused:
        OptimizeSpec.model_validate({"engines": ["onnxruntime", engine]})
    assert all(repr(name) in str(refused.value) for name in get_args(EngineName))
    assert "engines.1" in str(refused.value)


def test_an_engine_that_there_is_not_is_refused_with_its_line_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "optimize.yaml"
    file.write_text("batch_sizes: [1]\nengines:\n  - onnxruntime\n  - openvino-int16\n", encoding="utf-8")
    with pytest.raises(InvalidPipelineError, match=r"optimize\.yaml:4") as refused:
        read_record(file, "optimize", OptimizeSpec)
    assert "openvino-int16" in str(refused.value)
    assert "openvino-int8" in str(refused.value)


def test_the_sections_of_a_file_are_read_with_their_own_defaults() -> None:
    spec = OptimizeSpec.model_validate(
        {
            "calibration": {"samples": 16, "method": "entropy"},
            "tensorrt": {"workspace_mib": 64, "hardware_compatibility": "ampere_plus", "targets": ["8.9", "9.0"]},
        }
    )
    assert spec.calibration == Calibration(samples=16, method="entropy")
    assert spec.tensorrt == TensorRtSpec(
        workspace_mib=64, optimization_level=3, hardware_compatibility="ampere_plus", targets=("8.9", "9.0")
    )
    assert OptimizeSpec.model_validate_json(spec.model_dump_json()) == spec
    assert OptimizeSpec.model_validate({"calibration": {}, "tensorrt": {}}) == OptimizeSpec()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"calibration": {"method": "kl"}}, "'minmax', 'entropy' or 'percentile'"),
        ({"calibration": {"samples": 0}}, "calibration.samples"),
        ({"tensorrt": {"optimization_level": 6}}, "tensorrt.optimization_level"),
        ({"tensorrt": {"workspace_mib": 0}}, "tensorrt.workspace_mib"),
        ({"tensorrt": {"hardware_compatibility": "all"}}, "'none', 'ampere_plus' or 'same_compute_capability'"),
        ({"tensorrt": {"targets": [8.9]}}, "tensorrt.targets"),
        ({"tensorrt": {"workspace": 1}}, "tensorrt.workspace"),
        ({"latency_budget_ms": 0}, "latency_budget_ms"),
        ({"memory_limit_gib": 0}, "memory_limit_gib"),
        ({"confidence": 1}, "confidence"),
        ({"min_agreement": 1.1}, "min_agreement"),
        ({"min_cosine": -1.1}, "min_cosine"),
        ({"resamples": -1}, "resamples"),
        ({"opset": 17}, "opset"),
    ],
)
def test_what_lies_outside_its_range_is_refused_where_it_stands(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OptimizeSpec.model_validate(asked)


def test_the_file_that_is_shipped_names_every_key_with_its_default_but_what_it_says_is_not() -> None:
    shipped, defaults = read_record(SHIPPED, "optimize", OptimizeSpec), OptimizeSpec()
    named = set(read_yaml(SHIPPED).keys)
    # Two have no default that could be written: they stand there as comments.
    assert named == set(OptimizeSpec.model_fields) - {"latency_budget_ms", "memory_limit_gib"}
    differ = {name for name, value in shipped if value != dict(defaults)[name]}
    assert differ == {"engines", "batch_sizes", "threads"}
    assert shipped.engines[0] == "onnxruntime"
    assert (shipped.batch_sizes, shipped.threads) == ((1, 8), (1, 2))
