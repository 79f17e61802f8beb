"""What a person sees before saying yes: one Markdown text, for Prefect's form and for the terminal alike."""

from __future__ import annotations

import re
import shlex

from registry import ApprovalRequest, ModelRegistry, ModelVersion, PromotionPolicy
from registry.clock import minute
from registry.compare import MetricDiff, VersionComparison, lower_is_better
from registry.engines.table import engine_table
from tasks.markdown import code, escaped, table


def evidence(registry: ModelRegistry, request: ApprovalRequest, policy: PromotionPolicy, *, refused: str = "") -> str:
    """Return the evidence for an approval as Markdown.

    Args:
        registry: Where the version is.
        request: What is asked.
        policy: What the move is made under: the registry's own policy and the caller's together.
        refused: Why the answer before was not taken, if there was one.
    """
    version = registry.get_version(request.model, request.version)
    incumbent = None if request.incumbent is None else registry.get_version(request.model, request.incumbent)
    parts = [
        f"**Asked again:** {escaped(refused)}" if refused else "",
        _asked(request, version, incumbent),
        "### Metrics\n\n" + _metrics(version, incumbent),
        "### Policy\n\n" + _policy(registry, version, policy),
        "### Engines\n\n" + _engines(registry, version),
        "### What the answer is bound to\n\n" + _digests(request, incumbent),
        "### Look closer\n\n" + _links(registry, version),
    ]
    return "\n\n".join(part for part in parts if part)


def _asked(request: ApprovalRequest, version: ModelVersion, incumbent: ModelVersion | None) -> str:
    instead = "nothing is in production yet" if incumbent is None else f"**{incumbent.full_name}** would be archived"
    return (
        f"## {version.full_name} to {request.stage}?\n\n"
        f"Asked by {escaped(request.requested_by)} at {minute(request.requested_at)}; {instead}."
    )


def _metrics(version: ModelVersion, incumbent: ModelVersion | None) -> str:
    if incumbent is None:
        return table(
            ("metric", version.full_name, "wanted"),
            [(name, f"{value:.6g}", _wanted(name)) for name, value in version.metrics.items()],
        )
    compared = VersionComparison(versions=(incumbent, version))
    rows = [(name, *_beside(name, diff)) for name, diff in compared.metric_diffs.items()]
    head = ("metric", version.full_name, f"{incumbent.full_name} (incumbent)", "difference", "wanted")
    return table(head, rows)


def _wanted(metric: str) -> str:
    return "lower" if lower_is_better(metric) else "higher"


def _beside(name: str, diff: MetricDiff) -> tuple[str, str, str, str]:
    def shown(value: float | None, sign: str = "") -> str:
        return "-" if value is None else f"{value:{sign}.4g}"

    words = f"{diff.verdict} ({_wanted(name)})".strip()
    return shown(diff.value_b), shown(diff.value_a), shown(diff.difference, "+"), words


def _policy(registry: ModelRegistry, version: ModelVersion, policy: PromotionPolicy) -> str:
    result = registry.check_promotion_policy(version.name, version.version, policy)
    if not result.passed:
        failures = "\n".join(f"- {escaped(failure)}" for failure in result.failures)
        return f"**Failed:**\n\n{failures}"
    held = [
        f"- {escaped(f'{rule.name} {rule.comparison.sign} {rule.threshold:g}: {version.metrics[rule.name]:.6g}')}"
        for rule in policy.requirements
    ]
    held += [
        f"- {escaped(rule.metric)} at most {rule.may_drop:g} behind the incumbent, {rule.direction} is better"
        for rule in policy.against_incumbent
    ]
    return "\n".join(["Passed." + ("\n" if held else ""), *held])


def _engines(registry: ModelRegistry, version: ModelVersion) -> str:
    name, label = version.name, version.version
    variants, choice = registry.get_variants(name, label), registry.get_choice(name, label)
    if not variants and not choice.baseline:
        return "None: it was not optimised."
    head, rows = engine_table(variants, choice, registry.find_judgement(name, label), brief=True)
    return table(head, rows) + f"\n\n{escaped(choice.reason)}"


def _digests(request: ApprovalRequest, incumbent: ModelVersion | None) -> str:
    expiry = "never" if request.expires_at is None else minute(request.expires_at)
    return table(
        ("what", "is"),
        [
            ("request", request.id),
            ("artifact", _grouped(request.artifact_digest or "none")),
            ("policy", _grouped(request.policy_digest)),
            ("incumbent", "none" if incumbent is None else incumbent.full_name),
            ("expires", expiry),
        ],
    )


def _grouped(digest: str) -> str:
    """Return a digest in groups, so that a narrow dialog breaks it instead of cutting it."""
    return re.sub(r"([0-9a-f]{16})(?=[0-9a-f])", r"\1 ", digest)


def _links(registry: ModelRegistry, version: ModelVersion) -> str:
    command = f"modelway --url {shlex.quote(registry.url)} models show {version.name} {version.version}"
    serving = [
        f"- {endpoint.name} serves {endpoint.desired.model}:{endpoint.desired.version}: <{endpoint.url}>"
        for endpoint in registry.list_endpoints()
        if endpoint.desired is not None and endpoint.desired.model == version.name and endpoint.url is not None
    ]
    return "\n".join((f"- files: {code(version.artifact_path)}", f"- {code(command)}", *serving))
