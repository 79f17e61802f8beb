"""What is shown of a choice: the rows of the table, the picture, and the machine."""

from __future__ import annotations

import os
import platform
import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from registry.engines.choice import pareto_front
from registry.engines.judgement import (
    JudgedSamples,
    Judgement,
    Pivot,
    Point,
    describe_machine,
    judgement_name,
    points_of,
)
from registry.engines.judging import Original, judge
from registry.engines.key import this_machine
from registry.engines.plot import pareto_plot
from registry.engines.records import Interval, Latency, Parity, VariantReport
from registry.engines.session import open_onnx
from registry.engines.spec import OptimizeSpec
from registry.engines.table import engine_table
from registry.records import EngineChoice, Variant

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel


def _latency(p50_ms: float, batch: int = 1, threads: int = 1) -> Latency:
    return Latency(
        batch=batch,
        repetitions=9,
        p50_ms=p50_ms,
        p95_ms=2 * p50_ms,
        p99_ms=3 * p50_ms,
        samples_per_s=1.0,
        spread_ms=p50_ms / 10,
        threads=threads,
    )


def _tried(engine: str, p50_ms: float | None, score: float | None = None, **changed: Any) -> VariantReport:
    """Return a candidate measured with one thread and two, at two batch sizes; or, without a time, one that failed."""
    measured = {
        "status": "measured",
        "file": "model.onnx",
        "parity": Parity(samples=10, max_abs=0.0, max_rel=0.0, cosine=1.0, passed=True),
        "score": score,
        "latency": tuple(_latency((p50_ms or 0) * size / n, size, n) for n in (1, 2) for size in (1, 8)),
        "size_bytes": 12_300,
    }
    fields = {"key": engine.ljust(64, "0"), "key_fields": {}, "engine": engine, "status": "failed"}
    return VariantReport(**{**fields, **({} if p50_ms is None else measured), **changed})


BASELINE = tuple(_latency(size / n, size, n) for n in (1, 2) for size in (1, 8))
SURE = Interval(low=0.9, high=0.9876, confidence=0.95)
CHOSEN = _tried("openvino", 0.25, 0.97, score_interval=SURE)
WORSE = _tried("onnxruntime", 0.5, 0.96)
QUICK = _tried("onnxruntime-int8", 0.125, 0.9, objection="its score is 0.0800 lower, 0.005 is allowed")
CRASHED = _tried("aotinductor", None, reason="its process was ended by SIGSEGV\nin the native code")
MISSING = _tried("tensorrt", None, status="unavailable", reason="no TensorRT: pip install it")
CANDIDATES = (WORSE, CHOSEN, QUICK, CRASHED, MISSING)


def _points(**changed: Any) -> list[Point]:
    given = {"candidates": CANDIDATES, "baseline": BASELINE, "baseline_score": 0.98, "chosen": CHOSEN.key}
    return points_of(**{**given, **changed})


def test_the_points_are_the_original_and_what_was_measured_the_fastest_first() -> None:
    points = _points(interval=SURE)
    assert [(point.name, point.latency.p50_ms, point.accuracy) for point in points] == [
        ("onnxruntime-int8", 0.125, 0.9),
        ("openvino", 0.25, 0.97),
        ("onnxruntime", 0.5, 0.96),
        ("as registered", 1.0, 0.98),
    ]
    assert all((point.latency.batch, point.latency.threads) == (1, 1) for point in points)
    assert [point.interval for point in points] == [None, SURE, None, SURE]


def test_a_point_says_whether_it_is_on_the_front_chosen_and_fit_to_serve() -> None:
    found = {point.name: (point.on_front, point.chosen, point.fit) for point in _points()}
    assert found == {
        "onnxruntime-int8": (True, False, False),
        "openvino": (True, True, True),
        "onnxruntime": (False, False, True),  # slower than openvino, and less accurate
        "as registered": (True, False, True),
    }
    assert [point.name for point in _points(chosen=None) if point.chosen] == ["as registered"]


def test_without_a_score_the_cosine_stands_for_it_and_rounding_does_not_decide() -> None:
    close = Parity(samples=10, max_abs=1e-7, max_rel=1e-7, cosine=1 - 1e-9, passed=True)
    points = _points(
        candidates=[
            _tried("openvino", 0.25, parity=close),
            _tried("onnxruntime", 0.5, parity=close),
            _tried("onnxruntime-int8", 0.125, parity=close.model_copy(update={"cosine": 0.99})),
            _tried("tensorrt", 0.1, parity=close.model_copy(update={"cosine": None, "passed": False})),
        ],
        baseline_score=None,
    )
    assert [(point.name, point.accuracy, point.on_front) for point in points] == [
        ("tensorrt", None, True),
        ("onnxruntime-int8", 0.99, True),
        ("openvino", 1.0, True),
        ("onnxruntime", 1.0, False),
        ("as registered", 1.0, False),
    ]


def test_the_front_of_the_points_is_that_of_their_numbers() -> None:
    points = _points()
    assert tuple(point.on_front for point in points) == pareto_front(
        [(point.latency.p50_ms, point.accuracy or 0.0) for point in points]
    )


def test_where_the_original_was_not_measured_there_are_no_points() -> None:
    assert _points(baseline=()) == []


# ---------------------------------------------------------------------------------------------------------- picture


def test_the_picture_is_a_png_of_one_size_and_the_same_bytes_each_time() -> None:
    drawn = pareto_plot(_points(interval=SURE), title="Engines of net:v1", accuracy="score")
    assert drawn.startswith(b"\x89PNG\r\n\x1a\n")
    assert drawn.endswith(b"IEND\xaeB`\x82")
    assert struct.unpack(">II", drawn[16:24]) == (990, 506)
    assert pareto_plot(_points(interval=SURE), title="Engines of net:v1", accuracy="score") == drawn


@pytest.mark.parametrize(
    "changed", [{"chosen": None}, {"interval": SURE}, {"candidates": CANDIDATES[:2]}, {"baseline_score": 0.5}]
)
def test_another_judgement_is_another_picture(changed: dict[str, Any]) -> None:
    drawn = pareto_plot(_points(), title="Engines", accuracy="score")
    assert pareto_plot(_points(**changed), title="Engines", accuracy="score") != drawn


def test_the_original_alone_and_a_point_without_accuracy_can_be_drawn() -> None:
    alone = _points(candidates=[_tried("tensorrt", 0.1, None)])
    assert pareto_plot(alone, title="Engines", accuracy="score") == pareto_plot(
        _points(candidates=[]), title="Engines", accuracy="score"
    )


# ------------------------------------------------------------------------------------------------------------ table


def _judgement() -> Judgement:
    return Judgement(
        model="net",
        version="v1",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        by="me@example.com",
        machine=describe_machine(),
        spec=OptimizeSpec().model_dump(mode="json"),
        onnx=Pivot(sha256="a" * 64, opset=20, ir_version=10, files=("model.onnx",)),
        samples=JudgedSamples(count=10, source="given", digest="sha256:" + "b" * 64),
        baseline=BASELINE,
        baseline_score=0.98,
        baseline_interval=SURE,
        candidates=CANDIDATES,
        chosen=CHOSEN.key,
        reason="openvino answers",
    )


CHOICE = EngineChoice(key=CHOSEN.key, reason="openvino answers", baseline=BASELINE, baseline_score=0.98)


def test_the_table_shows_the_original_first_and_every_candidate_with_what_became_of_it() -> None:
    head, rows = engine_table([], CHOICE, _judgement())
    assert head == (
        "engine",
        "score",
        "agrees",
        "p50 / p99 ms @1",
        "p50 / p99 ms @8",
        "p50 / p99 ms @1 x2 threads",
        "p50 / p99 ms @8 x2 threads",
        "front",
        "size",
        "key",
        "remark",
    )
    assert all(len(row) == len(head) for row in rows)
    original, plain, chosen, quick, crashed, missing = rows
    assert original == (
        *("as registered", "0.9800 (0.9000 to 0.9876)", "-"),
        *("1 / 3", "8 / 24", "0.5 / 1.5", "4 / 12"),
        *("yes", "-", "-", ""),
    )
    assert chosen == (
        *("openvino", "0.9700 (0.9000 to 0.9876)", "yes"),
        *("0.25 / 0.75", "2 / 6", "0.125 / 0.375", "1 / 3"),
        *("yes", "12.3 kB", "openvino0000", "chosen"),
    )
    assert (plain[1], plain[-4], plain[-1]) == ("0.9600", "", "")
    assert quick[-1] == "its score is 0.0800 lower, 0.005 is allowed"
    assert crashed == ("aotinductor", *"------", "", "-", "-", "failed: its process was ended by SIGSEGV")
    assert missing[-1] == "unavailable: no TensorRT: pip install it"


def test_the_table_says_where_the_original_was_chosen_and_where_outputs_differ() -> None:
    differs = Parity(samples=10, max_abs=1.0, max_rel=1.0, cosine=0.5, passed=False, reason="9 of 10")
    other = WORSE.model_copy(update={"parity": differs, "objection": "its outputs differ: 9 of 10"})
    stays = CHOICE.model_copy(update={"key": None})
    _, (original, row) = engine_table([], stays, _judgement().model_copy(update={"candidates": (other,)}))
    assert original[-1] == "chosen"
    assert (row[2], row[-1]) == ("no", "its outputs differ: 9 of 10")


def test_without_a_judgement_the_kept_engines_are_shown() -> None:
    head, rows = engine_table([Variant(report=CHOSEN), Variant(report=WORSE)], CHOICE, None)
    assert [row[0] for row in rows] == ["as registered", "openvino", "onnxruntime"]
    assert rows[0][1] == "0.9800"
    older = EngineChoice(key=CHOSEN.key, reason="of an earlier release")
    same_head, rows = engine_table([Variant(report=CHOSEN)], older, None)
    assert same_head == head
    assert [(row[0], row[-4], row[-1]) for row in rows] == [("openvino", "", "chosen")]


def test_threads_that_only_the_engines_were_measured_with_have_their_columns() -> None:
    # A scikit-learn model cannot be told how many threads to use, and is measured as it is.
    once = CHOICE.model_copy(update={"baseline": BASELINE[:2]})
    head, (original, row) = engine_table([Variant(report=CHOSEN)], once, None)
    assert head[3:7] == (
        "p50 / p99 ms @1",
        "p50 / p99 ms @8",
        "p50 / p99 ms @1 x2 threads",
        "p50 / p99 ms @8 x2 threads",
    )
    assert original[3:7] == ("1 / 3", "8 / 24", "-", "-")
    assert row[5:7] == ("0.125 / 0.375", "1 / 3")


# ---------------------------------------------------------------------------------------------------------- judgement


@pytest.mark.parametrize(("in_torch", "threads"), [(True, [1, 1, 2, 2]), (False, [1, 1])])
def test_only_an_original_in_torch_is_measured_with_several_threads(
    onnx: OnnxModel, samples: NDArray[Any], tmp_path: Path, *, in_torch: bool, threads: list[int]
) -> None:
    # torch is imported here, as it is in every flow; yet no other original can be told how many threads to use.
    spec = OptimizeSpec(engines=(), batch_sizes=(1, 8), threads=(1, 2), warmup=0, repetitions=3)
    judged = judge(Original(open_onnx(onnx.path), onnx, samples, "given", in_torch=in_torch), spec, tmp_path)
    assert [latency.threads for latency in judged.baseline] == threads
    assert judged.choice.reason == "the original stays. No engine was asked for."


def test_a_judgement_survives_json_and_gives_its_points() -> None:
    judgement = _judgement()
    again = Judgement.model_validate_json(judgement.model_dump_json())
    assert again == judgement
    assert again.points() == _points(interval=SURE)


def test_a_judgement_lies_in_a_folder_named_by_its_digest() -> None:
    assert judgement_name("sha256:" + "c" * 64) == "judged-" + "c" * 64


def test_the_machine_is_described_as_the_system_sees_it() -> None:
    machine = describe_machine()
    assert (machine.os, machine.arch) == (this_machine().os, this_machine().arch)
    assert machine.os == platform.system().lower()
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert machine.memory_bytes == psutil.virtual_memory().total
    assert machine.processor.strip()
    assert (machine.gpu is None) == (this_machine().gpu is None) == (machine.driver is None)


def test_a_brief_table_has_fewer_columns_and_few_words_for_what_was_not_run() -> None:
    built = _tried("tensorrt", None, status="built", reason="built with X 1, not run: no GPU")
    judgement = _judgement().model_copy(update={"candidates": (*CANDIDATES, built)})
    head, rows = engine_table([], CHOICE, judgement, brief=True)
    whole, all_rows = engine_table([], CHOICE, judgement)
    assert [name for name in whole if name not in head] == ["agrees", "front", "size", "key"]
    assert {len(row) for row in rows} == {len(head)}
    assert [row[-1] for row in rows] == [row[-1] for row in all_rows[:-1]] + ["not run here"]
