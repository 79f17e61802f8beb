"""Choose the variant that serves: the fastest that is as good as the original; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.engines.records import Choice, Latency, VariantReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.engines.spec import OptimizeSpec


def choose(
    variants: Sequence[VariantReport],
    *,
    spec: OptimizeSpec,
    baseline: Sequence[Latency],
    baseline_score: float | None = None,
) -> Choice:
    """Return the fastest variant at ``spec.batch_sizes[0]`` (p50) that is equal and no slower, or the original.

    Args:
        variants: Every candidate that was tried.
        spec: Its first batch size decides, and ``max_score_drop``.
        baseline: The original's latency, measured at that batch size among others.
        baseline_score: The original's score on the same samples, if there is one; a variant without is then refused.
    """
    size = spec.batch_sizes[0]
    original = next((latency for latency in baseline if latency.batch == size), None)
    if original is None:
        measured = ", ".join(str(latency.batch) for latency in baseline) or "none"
        return Choice(key=None, reason=f"the original was not measured at a batch of {size} (measured: {measured})")
    objections = {
        variant.key: _objection(variant, original, spec=spec, scored=baseline_score is not None) for variant in variants
    }
    fit = [variant for variant in variants if objections[variant.key] is None]
    if not fit:
        listed = "; ".join(f"{variant.engine}: {objections[variant.key]}" for variant in variants)
        return Choice(key=None, reason=f"the original stays. {listed or 'No engine was asked for'}.")
    best = min(fit, key=lambda variant: _p50_ms(variant, size))
    return _chosen(best, original, baseline_score)


def _objection(variant: VariantReport, original: Latency, *, spec: OptimizeSpec, scored: bool) -> str | None:
    found = variant.latency_at(original.batch)
    if variant.status != "measured" or variant.parity is None or found is None:
        return variant.reason.split("\n")[0] or "it was not measured here"
    if not variant.parity.passed:
        return f"its outputs differ: {variant.parity.reason}"
    if scored and variant.score_drop is None:
        return "it has no score, the original has one"
    if variant.score_drop is not None and variant.score_drop > spec.max_score_drop:
        return f"its score is {variant.score_drop:.4f} lower, {spec.max_score_drop:g} is allowed"
    if found.p50_ms > original.p50_ms:
        at = f"at a batch of {original.batch}"
        return f"it is slower: {found.p50_ms:.3g} ms, the original {original.p50_ms:.3g} ms {at}"
    return None


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
