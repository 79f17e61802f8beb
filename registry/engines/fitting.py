"""Which of a version's engines serves on a machine: the best one whose key matches it; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from registry.base import Record
from registry.engines.backends import family_of
from registry.engines.key import Machine, mismatch, this_machine

if TYPE_CHECKING:
    from registry.records import EngineChoice, Variant


Objection: TypeAlias = Callable[[str, Mapping[str, Any]], str | None]
"""Says in words why an engine of a name, with the fields of its key, cannot be opened somewhere; None if it can."""


class Fitting(Record):
    """The key of the engine that serves here, None for the model as it was registered, and why in words."""

    key: str | None
    engine: str | None
    words: str


def objection_here(families: Collection[str], machine: Machine | None = None) -> Objection:
    """Return what objects to engines of other backends than ``families``, and to those that do not match a machine.

    Args:
        families: The backends that are at hand: ``onnxruntime``, ``openvino`` and so on.
        machine: Where it is to run; None for this machine.
    """
    machine = machine or this_machine()

    def objection(engine: str, key_fields: Mapping[str, Any]) -> str | None:
        if family_of(engine) not in families:
            return f"only {', '.join(sorted(families))} can be opened"
        return mismatch(key_fields, machine=machine) if key_fields else None

    return objection


def fit_engine(
    variants: Sequence[Variant], choice: EngineChoice, *, objection: Objection, needed: bool = False
) -> Fitting:
    """Return the engine that serves: the chosen one, else the fastest that fits, else the ONNX, else the original.

    Args:
        variants: What is kept beside the version.
        choice: What was chosen, perhaps on another machine.
        objection: What says whether an engine can be opened where it is to serve.
        needed: Whether the original cannot serve, so that any engine that fits is better than none.
    """
    unfit = {variant.key: _why_not(variant, objection) for variant in variants}
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
    if pivot is not None and objection("onnxruntime", {}) is None:
        return _fitting(pivot, f"{why}no engine fits this machine, and the plain ONNX serves")
    return Fitting(key=None, engine=None, words=f"{why}no engine fits, and the model serves as it was registered")


def _fitting(variant: Variant, words: str) -> Fitting:
    return Fitting(key=variant.key, engine=variant.report.engine, words=words)


def _why_not(variant: Variant, objection: Objection) -> str | None:
    report = variant.report
    if not _agrees(variant):
        return report.objection or report.reason or "it was never measured"
    return objection(report.engine, report.key_fields)


def _agrees(variant: Variant) -> bool:
    """Return whether it ran once and may answer in the original's place; others are kept as evidence only."""
    return variant.report.is_fit and variant.manifest is not None


def _p50_ms(variant: Variant) -> float:
    return variant.report.latency[0].p50_ms if variant.report.latency else float("inf")
