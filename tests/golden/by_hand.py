"""Golden registries that are written by hand, from docs/format.md alone: what is unknown, and what must be refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

ADA, GRACE = "ada@example.com", "grace@example.com"
NEW: dict[str, Any] = {"from_a_later_release": {"deep": [1, 2.5, "ü", None]}}
"""A member that no release knows."""

TIME = "2026-02-01T10:00:00.000001Z"
NO_RECORD = "sha256:" + "0" * 64
SECOND, THIRD, FOURTH = (f"models/digits/log/{number:012d}.json" for number in (2, 3, 4))
SIDECAR, ARTIFACT = (f"models/digits/versions/v1/{name}" for name in ("metadata.json", "artifact.bin"))
LOOK = ["list_versions", "digits"]
EXAMPLE = Path(__file__).parent / "format-1" / "worked-example" / "registry"


def unknown_fields(folder: Path, *named: dict[str, Any]) -> None:
    """Write a registry as a later release might: members that this release does not know.

    Args:
        folder: Where.
        named: More events of the registry's own log.
    """
    described = {"metrics": {"accuracy": 0.5, "perplexity": 7.5, "custom": {}}, "tags": {"a": "b"}, **NEW}
    data = b"bytes\n"
    entry = {"path": "artifact.bin", "sha256": _sha256(data), "size_bytes": len(data), **NEW}
    manifest = {"digest": _sha256(_canonical([entry])), "size_bytes": len(data), "files": [entry], **NEW}
    sidecar = {"format": 1, "model": "digits", "version": "v1", "created_at": TIME, "created_by": ADA, **NEW}
    metadata = _canonical({**sidecar, "described": described, "form": "bytes", "manifest": manifest})
    artifact = {"digest": manifest["digest"], "size_bytes": len(data), "files": 1, **NEW}
    approval = {"request_id": "", "decision": "approve", "approver": GRACE, "decided_at": TIME, **NEW}
    moved = {"type": "moved", "version": "1", "from_stage": "development", "to_stage": "production", **NEW}
    reserved = {"type": "reserved", "version": "1", "label": "v1", "path": "versions/v1", "strategy": "automatic"}
    registered = {"type": "registered", "version": "1", "metadata_digest": _sha256(metadata), "described": described}
    for key, content in {
        "registry.json": _canonical({"format": 1, "id": "0" * 32, "created_at": TIME, **NEW}),
        ARTIFACT: data,
        SIDECAR: metadata,
    }.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    _write_log(folder, {"type": "model_named", "model": "digits", **NEW}, *named)
    events = {**reserved, **NEW}, {**registered, "artifact": artifact, **NEW}, {**moved, "approvals": [approval]}
    _write_log(folder / "models" / "digits", *events)


def unknown_settings(folder: Path) -> None:
    """Write the same with an endpoint whose parts and settings have such members, and none that has a default."""
    unknown_fields(folder, {"type": "endpoint_named", "endpoint": "main", **NEW})
    which = {"version": "v1", "metadata_digest": _sha256((folder / SIDECAR).read_bytes()), **NEW}
    desired, share = {"model": "digits", **which}, {**which, "share": 0}
    beside = {**desired, "canary": share, "shadow": share, "settings": {"kind": "local", **NEW}}
    vertex = {"kind": "vertex", "project": "p", "region": "r", "staging": "gs://a/b", **NEW}
    triton = {"kind": "triton", "repository": "gs://a/b", **NEW}
    parts = [{"role": "stable", "version": "v1", "share": 1, "engine": "onnxruntime", "digest": "", **NEW}]
    place = folder / "endpoints" / "main"
    _write_log(
        place,
        {"type": "wanted", "desired": beside, **NEW},
        {"type": "served", "generation": 1, "parts": parts, "url": "http://127.0.0.1:9", "host": "here", **NEW},
        {"type": "wanted", "desired": {**desired, "target": "vertex", "settings": vertex}, **NEW},
        {"type": "wanted", "desired": {**desired, "target": "triton", "settings": triton}, **NEW},
        {"type": "failed", "generation": 4, "reason": "", **NEW},
    )
    seen = {"endpoint": "main", "generation": 1, "desired": beside, "engine": "onnxruntime", "host": "here", **NEW}
    (place / "observed.json").write_bytes(_canonical({**seen, "since": TIME, "parts": parts}))


def _write_log(folder: Path, *events: dict[str, Any]) -> None:
    previous = NO_RECORD
    (folder / "log").mkdir(parents=True)
    for number, event in enumerate(events, start=1):
        record = {"format": 1, "number": number, "id": f"{number:032x}", "previous": previous, "time": TIME, **NEW}
        data = _canonical({**record, "actor": ADA, "event": event})
        (folder / "log" / f"{number:012d}.json").write_bytes(data)
        previous = _sha256(data)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def refused(folder: Path) -> None:
    """Write what must be refused: one folder a case, to be laid over the worked example, and what a call then names.

    Only facts are expected of a message, keys and numbers: its wording may change, and these files may not.
    """
    example = folder / "worked-example" / "registry"
    third, second = ((example / key).read_bytes() for key in (THIRD, SECOND))
    moved = json.loads(third)
    fourth = {**moved, "number": 4, "previous": _sha256(third), "event": {"type": "annotated", "version": "1"}}
    whole = _canonical(fourth)

    def event(**fields: Any) -> bytes:
        return _canonical({**fourth, "event": fields})

    for name, data, message in (
        ("newer-format", _canonical({**fourth, "format": 1000}), "1000"),
        ("unknown-event", event(type="dreamt", version="1"), FOURTH),
        ("unknown-stage", event(**{**moved["event"], "to_stage": "Staging"}), FOURTH),
        ("member-missing", _canonical({**fourth, "event": {"type": "annotated"}}), FOURTH),
        ("duplicate-key", whole.replace(b'"number":4', b'"number":4,"number":4'), FOURTH),
        ("not-a-number", whole.replace(b'"number":4', b'"n":NaN,"number":4'), FOURTH),
        ("truncated", whole[:-20], FOURTH),
        ("empty", b"", FOURTH),
        ("byte-order-mark", b"\xef\xbb\xbf" + whole, FOURTH),
    ):
        _refused(folder / "refused" / name, {FOURTH: data}, LOOK, ("FormatError", message))

    def broken(name: str, key: str, data: bytes, call: list[Any], message: str) -> None:
        _refused(folder / "refused" / name, {key: data}, call, ("IntegrityError", message))

    broken("wrong-number", FOURTH, whole.replace(b'"number":4', b'"number":5'), LOOK, FOURTH)
    broken("broken-chain", SECOND, second.replace(b"0.97", b"0.98"), LOOK, "sha256:")
    untold = event(type="guard_changed", guard=9)
    broken("lost-guard", FOURTH, untold, ["promote", "digits", 1, "archived"], "9")
    sidecar = (example / SIDECAR).read_bytes().replace(b"0.97", b"0.98")
    broken("changed-sidecar", SIDECAR, sidecar, ["get_sidecar", "digits", 1], SIDECAR)
    broken("changed-artifact", ARTIFACT, b"Hello\n", ["load_artifact", "digits", 1], ARTIFACT)
    identity = (example / "registry.json").read_bytes().replace(b'"format": 1', b'"format": 1000')
    newer = ("FormatError", "1000")
    _refused(folder / "refused" / "newer-registry", {"registry.json": identity}, ["register", "digits"], newer)


def refused_endpoints(folder: Path) -> None:
    """Write what must be refused of an endpoint, as ``refused`` does; the worked example is the first release's."""
    digest = "sha256:" + "0" * 64
    share = {"version": "v1", "metadata_digest": digest, "share": 0.5}
    part = {"role": "stable", "version": "v1", "share": 1.0, "engine": "onnxruntime", "digest": ""}
    served = {"type": "served", "generation": 1, "parts": [part], "url": "http://127.0.0.1:9", "host": "here"}

    def wanted(**changed: Any) -> dict[str, Any]:
        return {"type": "wanted", "desired": {"model": "digits", "version": "v1", "metadata_digest": digest, **changed}}

    for name, *events in (
        ("unknown-target", wanted(target="moon")),
        ("unknown-settings-kind", wanted(settings={"kind": "moon"})),
        ("settings-without-kind", wanted(settings={"port": 1})),
        ("setting-out-of-bounds", wanted(settings={"kind": "local", "workers": 0})),
        ("share-above-one", wanted(canary={**share, "share": 1.5})),
        ("share-missing", wanted(shadow=_without("share", share))),
        ("unknown-role", wanted(), {**served, "parts": [{**part, "role": "understudy"}]}),
        ("served-without-parts", wanted(), _without("parts", served)),
    ):
        files = _endpoint_log(*events)
        _refused(folder / "refused" / name, files, ["get_endpoint", "main"], ("FormatError", [*files][-1]))


def _without(name: str, record: dict[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in record.items() if member != name}


def _endpoint_log(*events: dict[str, Any]) -> dict[str, bytes]:
    """Return the files that give the worked example an endpoint, its last record last."""
    first = json.loads((EXAMPLE / "log/000000000001.json").read_bytes())
    named = {"type": "endpoint_named", "endpoint": "main"}
    root = {**first, "number": 2, "previous": _sha256(_canonical(first)), "event": named}
    files, previous = {"log/000000000002.json": _canonical(root)}, NO_RECORD
    for number, event in enumerate(events, start=1):
        data = _canonical({**first, "number": number, "previous": previous, "event": event})
        files[f"endpoints/main/log/{number:012d}.json"], previous = data, _sha256(data)
    return files


def _refused(place: Path, files: dict[str, bytes], call: list[Any], refusal: tuple[str, str]) -> None:
    for key, data in files.items():
        path = place / "registry" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    expected = {"call": call, "error": refusal[0], "message": refusal[1]}
    (place / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
