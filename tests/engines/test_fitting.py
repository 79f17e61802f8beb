"""Which of a version's engines serves on a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime
import openvino
import pytest

from registry.engines.fitting import fit_engine, objection_here
from registry.engines.key import (
    Machine,
    OnnxRuntimeKey,
    OpenVinoKey,
    Quantization,
    SessionSettings,
    engine_key,
    this_machine,
)
from registry.engines.records import Latency, Parity, VariantReport
from registry.records import EngineChoice, Manifest, Variant

if TYPE_CHECKING:
    from registry.engines.key import EngineKey

HERE = this_machine()
CPU_FAMILIES = ("onnxruntime", "openvino")
SAME = Parity(samples=10, max_abs=0.0, max_rel=0.0, cosine=1.0, passed=True)
NO_FILES = Manifest(digest="sha256:" + "0" * 64, size_bytes=0, files=())
RECIPE = Quantization(tool="onnxruntime 1", scheme="u8s8", method="minmax", calibration_sha256="c" * 64)


def _latency(p50_ms: float) -> Latency:
    return Latency(batch=1, repetitions=9, p50_ms=p50_ms, p95_ms=p50_ms, p99_ms=p50_ms, samples_per_s=1.0)


def _onnxruntime(**changed: Any) -> OnnxRuntimeKey:
    fields = {
        "onnx_sha256": "a" * 64,
        "version": onnxruntime.__version__,
        "os": HERE.os,
        "arch": HERE.arch,
        "session": SessionSettings(threads=1),
    }
    return OnnxRuntimeKey(**{**fields, **changed})


def _openvino(**changed: Any) -> OpenVinoKey:
    fields = {
        "onnx_sha256": "a" * 64,
        "version": openvino.__version__,
        "os": HERE.os,
        "arch": HERE.arch,
        "threads": 1,
    }
    return OpenVinoKey(**{**fields, **changed})


def _kept(engine: str, key: EngineKey, p50_ms: float, **changed: Any) -> Variant:
    """Return an engine that is kept beside a version, with its files."""
    fields = key.model_dump(mode="json")
    report = {
        "key": engine_key(fields),
        "key_fields": fields,
        "engine": engine,
        "file": "model.onnx",
        "status": "measured",
        "parity": SAME,
        "latency": (_latency(p50_ms),),
    }
    return Variant(report=VariantReport(**{**report, **changed}), manifest=NO_FILES)


def _choice(variant: Variant | None, reason: str = "it was the fastest") -> EngineChoice:
    return EngineChoice(key=None if variant is None else variant.key, reason=reason)


PLAIN = _kept("onnxruntime", _onnxruntime(), 0.9)
INT8 = _kept("onnxruntime-int8", _onnxruntime(quantization=RECIPE), 0.5)
VINO = _kept("openvino", _openvino(), 0.4)


def test_the_chosen_engine_serves_where_it_fits_and_the_words_are_those_of_the_choice() -> None:
    # INT8, though VINO is faster: the choice weighed more than speed.
    found = fit_engine([PLAIN, INT8, VINO], _choice(INT8), objection=objection_here(CPU_FAMILIES))
    assert (found.key, found.engine, found.words) == (INT8.key, "onnxruntime-int8", "it was the fastest")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (_openvino(arch="vax"), f"it was built for {HERE.os} on vax, this is {HERE.os} on {HERE.arch}"),
        (_openvino(os="plan9"), f"it was built for plan9 on {HERE.arch}, this is {HERE.os} on {HERE.arch}"),
        (_openvino(version="2024.0"), f"it was built with openvino 2024.0, here is {openvino.__version__}"),
    ],
)
def test_an_engine_chosen_for_another_machine_or_release_gives_way_to_the_fastest_that_fits(
    key: OpenVinoKey, words: str
) -> None:
    chosen = _kept("openvino", key, 0.1)
    found = fit_engine([PLAIN, chosen, INT8], _choice(chosen), objection=objection_here(CPU_FAMILIES))
    assert (found.key, found.engine) == (INT8.key, "onnxruntime-int8")
    assert found.words == (
        f"openvino was chosen and cannot serve here: {words}; onnxruntime-int8 serves, the fastest of those that fit"
    )


def test_the_machine_in_question_may_be_another_than_this_one() -> None:
    elsewhere = Machine(os="plan9", arch="vax", gpu=None)
    chosen_there = _kept("openvino", _openvino(os="plan9", arch="vax"), 0.4)
    variants = [PLAIN, chosen_there]
    assert (
        fit_engine(variants, _choice(PLAIN), objection=objection_here(CPU_FAMILIES, elsewhere)).key == chosen_there.key
    )
    assert fit_engine(variants, _choice(chosen_there), objection=objection_here(CPU_FAMILIES)).key == PLAIN.key


def test_a_choice_of_an_engine_that_is_gone_leaves_the_fastest_that_fits() -> None:
    gone = EngineChoice(key="f" * 64, reason="it was the fastest")
    found = fit_engine([PLAIN, VINO], gone, objection=objection_here(CPU_FAMILIES))
    assert (found.key, found.words) == (VINO.key, "openvino serves, the fastest of those that fit")


def test_where_no_engine_fits_the_plain_onnx_serves_in_the_release_that_is_here() -> None:
    plain = _kept("onnxruntime", _onnxruntime(version="0.1"), 0.9)
    int8 = _kept("onnxruntime-int8", _onnxruntime(version="0.1", quantization=RECIPE), 0.5)
    found = fit_engine([int8, plain], _choice(int8), objection=objection_here(CPU_FAMILIES))
    assert (found.key, found.engine) == (plain.key, "onnxruntime")
    assert found.words == (
        "onnxruntime-int8 was chosen and cannot serve here: it was built with onnxruntime 0.1, here is "
        f"{onnxruntime.__version__}; no engine fits this machine, and the plain ONNX serves"
    )


def test_a_chosen_plain_onnx_of_another_release_still_serves() -> None:
    plain = _kept("onnxruntime", _onnxruntime(version="0.1"), 0.9)
    assert fit_engine([plain], _choice(plain), objection=objection_here(CPU_FAMILIES)).key == plain.key


def test_only_engines_of_the_families_at_hand_serve() -> None:
    found = fit_engine([PLAIN, VINO], _choice(VINO), objection=objection_here(("onnxruntime",)))
    assert found.key == PLAIN.key
    assert found.words.startswith("openvino was chosen and cannot serve here: only onnxruntime can be opened; ")
    nothing = fit_engine([PLAIN, VINO], _choice(VINO), objection=objection_here(("tensorrt",)))
    assert (nothing.key, nothing.engine) == (None, None)
    assert nothing.words == (
        "openvino was chosen and cannot serve here: only tensorrt can be opened; "
        "no engine fits, and the model serves as it was registered"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"objection": "its score is 0.1 lower"},
        {"parity": SAME.model_copy(update={"passed": False, "reason": "9 of 10"}), "reason": "9 of 10"},
        {"parity": None},
        {"status": "built", "parity": None, "latency": (), "reason": "no GPU here"},
        {"status": "failed", "parity": None, "latency": (), "file": None, "reason": "it crashed"},
    ],
    ids=["objection", "not equal", "not compared", "built", "failed"],
)
@pytest.mark.parametrize("needed", [False, True])
def test_what_may_not_answer_for_the_original_never_serves(changed: dict[str, Any], needed: bool) -> None:  # noqa: FBT001 - pytest's own
    fast = _kept("openvino", _openvino(), 0.01, **changed)
    beside = fit_engine([fast, PLAIN], _choice(fast), objection=objection_here(CPU_FAMILIES), needed=needed)
    assert beside.key == PLAIN.key
    why = changed.get("objection") or changed.get("reason") or "it was never measured"
    assert beside.words.startswith(f"openvino was chosen and cannot serve here: {why}; ")
    # Nor does it as the plain ONNX, which is asked for no other release.
    alone = _kept("onnxruntime", _onnxruntime(), 0.01, **changed)
    assert fit_engine([alone], _choice(alone), objection=objection_here(CPU_FAMILIES), needed=needed).key is None


def test_an_engine_whose_files_were_not_kept_does_not_serve() -> None:
    evidence = VINO.model_copy(update={"manifest": None})
    assert fit_engine([evidence, PLAIN], _choice(evidence), objection=objection_here(CPU_FAMILIES)).key == PLAIN.key


def test_where_the_original_was_chosen_it_serves_unless_it_cannot() -> None:
    choice = _choice(None, "the original stays. openvino: it is slower.")
    found = fit_engine([PLAIN, VINO], choice, objection=objection_here(CPU_FAMILIES))
    assert (found.key, found.engine, found.words) == (None, None, choice.reason)
    needed = fit_engine([PLAIN, VINO], choice, objection=objection_here(CPU_FAMILIES), needed=True)
    assert (needed.key, needed.words) == (VINO.key, "openvino serves, the fastest of those that fit")
    assert fit_engine([], choice, objection=objection_here(CPU_FAMILIES), needed=True).key is None
