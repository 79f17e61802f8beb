"""The model card of a version: all that the registry knows of it, in Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.filesize import decimal

from registry import ModelRegistry, ModelVersion
from registry.clock import minute
from registry.engines.table import engine_table
from registry.records import Approval, StageTransition
from registry.signature import TensorSpec
from tasks.markdown import code, escaped, table

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""A head, and rows of as many cells."""


def model_card(registry: ModelRegistry, version: ModelVersion) -> str:
    """Return the card of a version as it stands now, as Markdown.

    Raises:
        IntegrityError: What was registered is not what the log recorded.
    """
    sections = {
        "": "\n\n".join(_opening(version)),
        "Metrics": _shown(metric_rows(version)) if version.metrics else "None were recorded.",
        "Engines": _engines(registry, version),
        "Parameters": _shown(_pairs(("parameter", "value"), version.parameters)),
        "Lineage": _shown(_pairs(("what", "is"), version.described.lineage)),
        "Inputs and outputs": _shown(_signature(version)),
        "Files": _files(registry, version),
        "How to load it": _loading(registry, version),
        "Approvals": _shown(_approvals(version.approvals)),
        "History": _shown(_history(registry.get_transitions(version.name, version.version))),
    }
    return (
        "\n\n".join(f"## {title}\n\n{words}" if title else words for title, words in sections.items() if words) + "\n"
    )


def metric_rows(version: ModelVersion) -> Table:
    """Return the head and the rows of a version's metrics, with the digest of the data that each was measured on."""
    rows = [
        (name, f"{value:.6g}", version.measured_on.get(name, "not said")) for name, value in version.metrics.items()
    ]
    return ("metric", "value", "measured on"), rows


def _opening(version: ModelVersion) -> Iterator[str]:
    yield f"# {escaped(version.full_name)}"
    if version.description:
        yield escaped(version.description)
    facts = [
        ("model", version.name),
        ("version", version.version),
        ("stage", f"{version.stage} since {minute(version.stage_since)}"),
        ("framework", version.framework or "not said"),
        ("registered", f"{minute(version.created_at)} by {version.created_by}"),
        ("aliases", ", ".join(version.aliases)),
        ("tags", ", ".join(f"{tag}={value}" if value else tag for tag, value in version.tags.items())),
        ("served at", ", ".join(dict.fromkeys(one.endpoint for one in version.deployments))),
    ]
    yield table(("what", "is"), [fact for fact in facts if fact[1]])


def _engines(registry: ModelRegistry, version: ModelVersion) -> str:
    choice = registry.get_choice(version.name, version.version)
    variants = registry.get_variants(version.name, version.version)
    judgement = registry.find_judgement(version.name, version.version)
    if not variants and not choice.baseline:
        return ""
    return f"{_shown(engine_table(variants, choice, judgement))}\n\n{escaped(choice.reason)}"


def _signature(version: ModelVersion) -> Table:
    def row(side: str, tensor: TensorSpec) -> Sequence[str]:
        return side, tensor.name, tensor.dtype, " x ".join("any" if size < 0 else str(size) for size in tensor.shape)

    signature = version.signature
    inputs, outputs = ((), ()) if signature is None else (signature.inputs, signature.outputs)
    rows = [*(row("input", tensor) for tensor in inputs), *(row("output", tensor) for tensor in outputs)]
    return ("", "name", "type", "shape"), rows


def _files(registry: ModelRegistry, version: ModelVersion) -> str:
    manifest = registry.get_sidecar(version.name, version.version).manifest
    if manifest is None:
        return f"None: only metadata was registered. Its digest: {code(version.metadata_digest)}"
    rows = [(file.path, decimal(file.size_bytes), file.sha256) for file in manifest.files]
    whole = f"Digest of the artifact: {code(manifest.digest)}\n\nPlace: {code(version.artifact_path)}"
    return f"{table(('file', 'size', 'sha256'), rows)}\n\n{whole}"


def _loading(registry: ModelRegistry, version: ModelVersion) -> str:
    if version.artifact is None:
        return ""
    asked = f"{version.name!r}, {version.version!r}"
    return (
        f"```python\nfrom registry import ModelRegistry\n\nmodel = ModelRegistry({registry.url!r}).load({asked})\n```"
    )


def _approvals(approvals: Iterable[Approval]) -> Table:
    rows = [(one.decision, one.approver, one.method, minute(one.decided_at), one.reason) for one in approvals]
    return ("decision", "by", "identity", "time", "reason"), rows


def _history(moves: Iterable[StageTransition]) -> Table:
    rows = [(minute(move.timestamp), move.from_stage, move.to_stage, move.actor, move.reason) for move in moves]
    return ("time", "from", "to", "by", "reason"), rows


def _pairs(head: Sequence[str], pairs: Mapping[str, object]) -> Table:
    said = [
        (name, value if isinstance(value, str) else json.dumps(value, default=str)) for name, value in pairs.items()
    ]
    return head, said


def _shown(made: Table) -> str:
    head, rows = made
    return table(head, rows) if rows else ""
