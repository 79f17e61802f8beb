"""Choose the variant that serves: the fastest that is as good as the original, or the best within a budget; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.engines.records import Choice, Latency, VariantReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.engines.spec import OptimizeSpec


def objection_to(variant: VariantReport, *, spec: OptimizeSpec, scored: bool) -> str:
    """Return in words why a candidate must not answer in the original's place, empty where it may.

    Args:
        variant: A candidate with its parity and score.
        spec: Its ``max_score_drop``.
        scored: Whether the original has a score; a candidate without is then refused.
    """
    if variant.status != "measured" or variant.parity is None or not variant.latency:
        return variant.reason.split("\n")[0] or "it was not measured here"
    if not variant.parity.passed:
        return f"its outputs differ: {variant.parity.reason}"
    if scored and variant.score_drop is None:
        return "it has no score, the original has one"
    if variant.score_drop is not None and variant.score_drop > spec.max_score_drop:
        return f"its score is {variant.score_drop:.4f} lower, {spec.max_score_drop:g} is allowed"
    return ""


def choose(
    variants: Sequence[VariantReport],
    *,
    spec: OptimizeSpec,
    baseline: Sequence[Latency],
    baseline_score: float | None = None,
) -> Choice:
    """Return the variant that is to serve at ``spec.batch_sizes[0]`` (p50), or the original.

    The fastest one that may answer in the original's place and is no slower; with a latency budget the one with the
    best score within it, the faster of equals.

    Args:
        variants: Every candidate that was tried.
        spec: Its first batch size decides, ``max_score_drop`` and ``latency_budget_ms``.
        baseline: The original's latency, measured at that batch size among others.
        baseline_score: The original's score on the same samples, if there is one; a variant without is then refused.
    """
    size = spec.batch_sizes[0]
    original = next((latency for latency in baseline if latency.batch == size), None)
    if original is None:
        measured = ", ".join(str(latency.batch) for latency in baseline) or "none"
        return Choice(key=None, reason=f"the original was not measured at a batch of {size} (measured: {measured})")
    scored = baseline_score is not None
    refused = {variant.key: _refused(variant, original, spec=spec, scored=scored) for variant in variants}
    fit = [variant for variant in variants if not refused[variant.key]]
    if not fit:
        listed = "; ".join(f"{variant.engine}: {refused[variant.key]}" for variant in variants)
        late = _late(original, spec)
        return Choice(key=None, reason=f"the original stays{late}. {listed or 'No engine was asked for'}.")
    if spec.latency_budget_ms is None:
        best = min(fit, key=lambda variant: _p50_ms(variant, size))
    else:
        best = min(fit, key=lambda variant: (-(variant.score or 0.0), _p50_ms(variant, size)))
        if not _late(original, spec) and (baseline_score or 0.0) > (best.score or 0.0):
            return Choice(
                key=None,
                reason=f"the original stays: it answers a batch of {size} within {spec.latency_budget_ms:g} ms, and no "
                f"engine has its score ({baseline_score:.4f}).",
            )
    return _chosen(best, original, baseline_score)


def _late(original: Latency, spec: OptimizeSpec) -> str:
    if spec.latency_budget_ms is None or original.p50_ms <= spec.latency_budget_ms:
        return ""
    return f", {original.p50_ms:.3g} ms where {spec.latency_budget_ms:g} ms were asked for"


def _refused(variant: VariantReport, original: Latency, *, spec: OptimizeSpec, scored: bool) -> str:
    if objection := objection_to(variant, spec=spec, scored=scored):
        return objection
    found = variant.latency_at(original.batch)
    if found is None:
        return "it was not measured here"
    if found.p50_ms > original.p50_ms:
        at = f"at a batch of {original.batch}"
        return f"it is slower: {found.p50_ms:.3g} ms, the original {original.p50_ms:.3g} ms {at}"
    if spec.latency_budget_ms is not None and found.p50_ms > spec.latency_budget_ms:
        return f"it takes {found.p50_ms:.3g} ms, {spec.latency_budget_ms:g} ms are allowed"
    return ""


def pareto_front(points: Sequence[tuple[float, float]]) -> tuple[bool, ...]:
    """Return which points nothing else beats: none is faster and as accurate, or more accurate and as fast.

    Args:
        points: Latency (any unit, lower is better) and accuracy (higher is better) of each.
    """
    return tuple(
        not any((other[0] <= point[0] and other[1] >= point[1]) and other != point for other in points)
        for point in points
    )


def _p50_ms(variant: VariantReport, size: int) -> float:
    found = variant.latency_at(size)
    return found.p50_ms if found else float("inf")


def _chosen(best: VariantReport, original: Latency, baseline_score: float | None) -> Choice:
    p50_ms = _p50_ms(best, original.batch)
    speedup = original.p50_ms / p50_ms if p50_ms > 0 else None
    times = f"{speedup:.1f} times as fast as the original" if speedup else "faster than can be measured"
    score = ""
    if best.score is not None and baseline_score is not None:
        score = f", score {best.score:.4f} (the original's {baseline_score:.4f})"
    answers = f"{best.engine} answers a batch of {original.batch} in {p50_ms:.3g} ms (p50)"
    reason = f"{answers}, {times} ({original.p50_ms:.3g} ms){score}"
    return Choice(key=best.key, reason=reason, speedup=speedup)
