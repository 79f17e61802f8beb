"""Which of a version's engines serves on a machine: the best one whose key matches it; pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from registry.base import Record
from registry.engines.backends import family_of
from registry.engines.key import Machine, mismatch, this_machine

if TYPE_CHECKING:
    from registry.records import EngineChoice, Variant


class Fitting(Record):
    """The key of the engine that serves here, None for the model as it was registered, and why in words."""

    key: str | None
    engine: str | None
    words: str


def fit_engine(
    variants: Sequence[Variant],
    choice: EngineChoice,
    *,
    families: Collection[str],
    machine: Machine | None = None,
    needed: bool = False,
) -> Fitting:
    """Return the engine that serves: the chosen one, else the fastest that fits, else the ONNX, else the original.

    Args:
        variants: What is kept beside the version.
        choice: What was chosen, perhaps on another machine.
        families: The backends that are at hand: ``onnxruntime``, ``openvino`` and so on.
        machine: Where it is to run; None for this machine.
        needed: Whether the original cannot serve, so that any engine that fits is better than none.
    """
    machine = machine or this_machine()
    unfit = {variant.key: _why_not(variant, families, machine) for variant in variants}
    fit = [variant for variant in variants if unfit[variant.key] is None]
    chosen = next((variant for variant in variants if variant.key == choice.key), None)
    if chosen in fit and chosen is not None:
        return _fitting(chosen, choice.reason)
    if choice.key is None and not needed:
        return Fitting(key=None, engine=None, words=choice.reason)
    why = ""
    if chosen is not None:
        why = f"{chosen.report.engine} was chosen and cannot serve here: {unfit[chosen.key]}; "
    if fit:
        best = min(fit, key=_p50_ms)
        return _fitting(best, f"{why}{best.report.engine} serves, the fastest of those that fit")
    # The ONNX itself runs everywhere; another release of onnxruntime only means that nobody has measured it.
    pivot = next((one for one in variants if one.report.engine == "onnxruntime" and _agrees(one)), None)
    if pivot is not None and "onnxruntime" in families:
        return _fitting(pivot, f"{why}no engine fits this machine, and the plain ONNX serves")
    return Fitting(key=None, engine=None, words=f"{why}no engine fits, and the model serves as it was registered")


def _fitting(variant: Variant, words: str) -> Fitting:
    return Fitting(key=variant.key, engine=variant.report.engine, words=words)


def _why_not(variant: Variant, families: Collection[str], machine: Machine) -> str | None:
    report = variant.report
    if family_of(report.engine) not in families:
        return f"only {', '.join(sorted(families))} can be opened"
    if not _agrees(variant):
        return report.objection or report.reason or "it was never measured"
    return mismatch(report.key_fields, machine=machine)


def _agrees(variant: Variant) -> bool:
    """Return whether it ran once and may answer in the original's place; others are kept as evidence only."""
    return variant.report.is_fit and variant.manifest is not None


def _p50_ms(variant: Variant) -> float:
    return variant.report.latency[0].p50_ms if variant.report.latency else float("inf")
