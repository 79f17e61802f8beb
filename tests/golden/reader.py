"""A second reader of the format, written from docs/format.md alone: it knows nothing of modelway but that page.

    python reader.py FOLDER        prints what the registry in FOLDER holds, as JSON; exit code 1 if it is damaged

It reads every log from its first record, holds each checkpoint against the state that this gives, and every file of a
version against its digest. It reads a folder on local disk; nothing is written.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

FORMAT = 1
NO_RECORD = "sha256:" + "0" * 64
METRICS = ("accuracy", "precision", "recall", "f1_score", "auc_roc", "mse", "mae", "latency_ms")
DEFAULTS: dict[str, dict[str, Any]] = {
    "reserved": {"key": None},
    "registered": {"measured_on": {}, "artifact": None, "guard": 0},
    "moved": {"approvals": [], "key": None},
    "rolled_back": {"key": None},
    "restored": {"key": None},
    "aliased": {"key": None},
    "annotated": {"description": None, "tags": None, "metrics": None, "measured_on": None, "key": None},
    "approval_asked": {"key": None},
    "wanted": {"previous": 0, "key": None},
    "variant_chosen": {"key": None},
    "run_started": {
        "process": "",
        "deployment": None,
        "reason": "",
        "version": None,
        "parameters": {},
    },
    "run_ended": {"version": None, "words": ""},
    "Approval": {"reason": "", "method": "asserted", "signature": None},
    "ApprovalRequest": {"expires_at": None, "registry": ""},
    "Desired": {
        "variant": None,
        "why_engine": "",
        "target": "local",
        "why": "",
        "follows": None,
        "canary": None,
        "shadow": None,
        "settings": None,
    },
    "Share": {"variant": None, "why_engine": ""},
    "LocalSettings": {
        "port": 0,
        "grpc_port": 0,
        "workers": 2,
        "engine_threads": 1,
        "max_batch": 32,
        "max_delay_ms": 0.0,
        "max_concurrency": 256,
        "timeout_s": 30.0,
        "log_share": 0.0,
    },
    "TritonSettings": {
        "grpc": "127.0.0.1:8001",
        "http": None,
        "model_name": None,
        "instances": 1,
        "device": "auto",
        "max_batch": 32,
        "max_delay_ms": 0.0,
        "timeout_s": 120.0,
        "compute_capability": None,
        "tensorrt_version": None,
    },
    "VertexSettings": {
        "image": "nvcr.io/nvidia/tritonserver:25.10-py3",
        "machine_type": "n1-standard-4",
        "accelerator_type": None,
        "accelerator_count": 0,
        "min_replicas": 1,
        "max_replicas": 1,
        "service_account": None,
        "api_endpoint": None,
        "timeout_s": 1800.0,
        "poll_s": 5.0,
        "compute_capability": None,
        "tensorrt_version": None,
    },
    "SeenPart": {"golden": None},
    "Observed": {
        "format": 1,
        "why_engine": "",
        "server": None,
        "golden": None,
        "address": None,
        "grpc": None,
        "model_name": None,
        "resources": {},
        "parts": [],
    },
    "RunningServer": {"grpc": None},
    "Parity": {"top1_agreement": None, "reason": ""},
    "EngineChoice": {"speedup": None, "baseline": [], "baseline_score": None, "judgement": None},
    "Latency": {"spread_ms": None, "threads": 1},
    "Guard": {
        "require_approval": [],
        "approvers": [],
        "accept_asserted": False,
        "allow_self_approval": False,
        "min_approvals": 1,
        "signers": {},
        "signed_engines": False,
        "strict_path": False,
        "policies": {},
    },
    "ModelMetrics": {**dict.fromkeys(METRICS), "custom": {}},
    "Description": {
        "framework": None,
        "metrics": {},
        "parameters": {},
        "tags": {},
        "description": "",
        "signature": None,
        "lineage": {},
    },
}
STAGES = {"development", "validation", "staging", "production", "archived"}
PARTS = {
    "registered": {"described": "Description"},
    "moved": {"approvals": "Approval"},
    "annotated": {"metrics": "ModelMetrics"},
    "approval_asked": {"request": "ApprovalRequest"},
    "approval_answered": {"answer": "Approval"},
    "variant_chosen": {"choice": "EngineChoice"},
    "EngineChoice": {"baseline": "Latency"},
    "guard_set": {"guard": "Guard"},
    "wanted": {"desired": "Desired"},
    "served": {"parts": "SeenPart"},
    "Desired": {"canary": "Share", "shadow": "Share", "settings": "settings"},
    "SeenPart": {"golden": "Parity"},
    "Observed": {"desired": "Desired", "server": "RunningServer", "golden": "Parity", "parts": "SeenPart"},
    "Description": {"metrics": "ModelMetrics"},
}

SETTINGS = {"local": "LocalSettings", "triton": "TritonSettings", "vertex": "VertexSettings"}
WORDS = {
    "Desired": {"target": set(SETTINGS)},
    "SeenPart": {"role": {"stable", "canary", "shadow"}},
    "TritonSettings": {"device": {"auto", "cpu", "gpu"}},
}
SHARE, DELAY, ABOVE_0, ONE_OR_MORE = (0, 1), (0, 1000), (sys.float_info.min, math.inf), (1, math.inf)
BOUNDS: dict[str, dict[str, tuple[float, float]]] = {
    "Share": {"share": SHARE},
    "LocalSettings": {
        **dict.fromkeys(("workers", "engine_threads", "max_batch", "max_concurrency"), ONE_OR_MORE),
        "port": (0, 65535),
        "grpc_port": (0, 65535),
        "max_delay_ms": DELAY,
        "timeout_s": ABOVE_0,
        "log_share": SHARE,
    },
    "TritonSettings": {
        "instances": ONE_OR_MORE,
        "max_batch": (0, math.inf),
        "max_delay_ms": DELAY,
        "timeout_s": ABOVE_0,
    },
    "VertexSettings": {
        **dict.fromkeys(("min_replicas", "max_replicas"), ONE_OR_MORE),
        "accelerator_count": (0, math.inf),
        "timeout_s": ABOVE_0,
        "poll_s": ABOVE_0,
    },
}

Json = dict[str, Any]


class Damaged(Exception):  # noqa: N818 - what the page calls it
    """Something is not as the page says."""


# ------------------------------------------------------------------------------------------------- JSON and digests
def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse(path: Path) -> Json:
    """Return the object in a file: no member twice, no NaN, of no format that is newer than this program."""

    def members(pairs: list[tuple[str, Any]]) -> Json:
        if len({name for name, _ in pairs}) != len(pairs):
            raise Damaged(f"{path} has a member twice")
        return dict(pairs)

    def no_constant(name: str) -> float:
        raise Damaged(f"{path} holds {name}")

    try:
        found = json.loads(path.read_text("utf-8"), object_pairs_hook=members, parse_constant=no_constant)
    except ValueError as error:
        raise Damaged(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict) or type(found.get("format", 1)) is not int or found.get("format", 1) > FORMAT:
        raise Damaged(f"{path} is of no format that this program reads")
    return found


def complete(kind: str, value: Any) -> Any:
    """Return a record, or a list of them, with the default of each member that is not there; others are kept."""
    if isinstance(value, list):
        return [complete(kind, one) for one in value]
    if value is None:
        return None
    if kind == "settings":
        kind = SETTINGS[value["kind"]]
    whole = {**copy.deepcopy(DEFAULTS.get(kind, {})), **value}
    if kind == "ModelMetrics":  # a number under a name of its own is a custom metric
        own = {name: whole.pop(name) for name in value if name not in DEFAULTS[kind] and is_number(value[name])}
        whole["custom"] = {**own, **whole["custom"]}
    for part, of in PARTS.get(kind, {}).items():
        whole[part] = complete(of, whole[part])
    check(kind, whole)
    return whole


def check(kind: str, whole: Json) -> None:
    """Refuse a word that its set does not have, and a number out of its bounds."""
    for name, words in WORDS.get(kind, {}).items():
        if whole[name] not in words:
            raise Damaged(f"{whole[name]} is no {name} of {kind}")
    for name, (least, most) in BOUNDS.get(kind, {}).items():
        if not is_number(whole[name]) or not least <= whole[name] <= most:
            raise Damaged(f"{name} of {kind} is out of bounds: {whole[name]}")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ------------------------------------------------------------------------------------------------------------- logs
def read_log(folder: Path, initial: Json, fold: Any, machine: str) -> tuple[Json, int]:
    """Return the state after the last record, and that record's number."""
    state, previous, number = initial, NO_RECORD, 0
    while (path := folder / "log" / f"{number + 1:012d}.json").exists():
        record, number = parse(path), number + 1
        if record["number"] != number or record["previous"] != previous:
            raise Damaged(f"{path} does not follow the record before it")
        previous = digest(path.read_bytes())
        try:
            fold(state, complete(record["event"]["type"], record["event"]), record)
        except KeyError as error:
            raise Damaged(f"{path} holds an event that makes no sense: {error}") from error
        check_checkpoint(folder / "checkpoints" / path.name, machine, state, previous)
    if len(list((folder / "log").glob("*.json"))) != number:
        raise Damaged(f"{folder} has records after number {number}, and not the one between")
    return state, number


def check_checkpoint(path: Path, machine: str, state: Json, record: str) -> None:
    """Hold a checkpoint, if it is there, against the state that folding has given."""
    if not path.exists():
        return
    head, separator, rest = path.read_bytes().partition(b',"state":')
    header = json.loads(head + b"}")
    if header["machine"] != machine:
        return  # of another release: not to be used, and no fault
    wanted = {"format": 1, "machine": machine, "number": int(path.stem), "record": record, "sha256": digest(rest[:-1])}
    if header != wanted or not separator:
        raise Damaged(f"{path} does not fit its record or its own digest")
    held = json.loads(rest[:-1])
    if held != state or [*held.get("versions", {})] != [*state.get("versions", {})]:
        raise Damaged(f"{path} holds another state than the log gives")


# ----------------------------------------------------------------------------------------------- the registry's log
def fold_root(state: Json, event: Json, record: Json) -> None:
    match event["type"]:
        case "guard_set":
            state.update(guard=event["guard"], guard_number=record["number"])
        case "model_named":
            state["models"] = [*state["models"], event["model"]]
        case "endpoint_named":
            state["endpoints"] = [*state["endpoints"], event["endpoint"]]
        case unknown:
            raise Damaged(f"an event of a type that this program does not know: {unknown}")


def no_root() -> Json:
    return {"guard": complete("Guard", {}), "guard_number": 0, "models": [], "endpoints": []}


# ---------------------------------------------------------------------------------------------------- a model's log
def no_model() -> Json:
    return {
        "strategy": None,
        "production": None,
        "holders": [],
        "aliases": {},
        "asked": {},
        "keys": {},
        "runs": {},
        "guard": 0,
        "versions": {},
    }


def no_version(event: Json, record: Json, ordinal: int) -> Json:
    return {
        "label": event["label"],
        "ordinal": ordinal,
        "path": event["path"],
        "status": "reserved",
        "key": event["key"],
        "created_at": record["time"],
        "created_by": record["actor"],
        "registered_as": 0,
        "stage": "development",
        "stage_since": record["time"],
        "metadata_digest": "",
        "described": complete("Description", {}),
        "measured_on": {},
        "artifact": None,
        "approvals": [],
        "variants": {},
        "choice": None,
        "deployments": [],
        "held_production": False,
    }


def fold_model(state: Json, event: Json, record: Json) -> None:  # noqa: C901, PLR0912, PLR0915 - one case an event
    kind, versions = event["type"], state["versions"]
    key: Any = event.get("version")
    match kind:
        case "reserved":
            ordinal = versions[key]["ordinal"] if key in versions else len(versions) + 1
            versions[key] = no_version(event, record, ordinal)
            state["strategy"] = event["strategy"]
        case "registered":
            version = versions.pop(key)  # it goes to the end of the order
            named = ("metadata_digest", "described", "measured_on", "artifact")
            version.update({name: event[name] for name in named}, status="registered", registered_as=record["number"])
            versions[key] = version
            state["guard"] = max(state["guard"], event["guard"])
        case "abandoned":
            versions[key]["status"] = "abandoned"
            mine = [held for held, about in state["keys"].items() if about == key and held.startswith("reserved ")]
            for held in mine:
                del state["keys"][held]
        case "moved":
            if not {event["from_stage"], event["to_stage"]} <= STAGES:
                raise Damaged(f"record {record['number']} names a stage that there is not")
            versions[key]["approvals"] = [*versions[key]["approvals"], *event["approvals"]]
            if event["to_stage"] == "production":
                holders = [*state["holders"], key][-100:]
                into_production(state, key, holders, record)
            else:
                versions[key].update(stage=event["to_stage"], stage_since=record["time"])
                state["production"] = None if event["from_stage"] == "production" else state["production"]
        case "rolled_back":
            way = state["holders"]
            cut = way[: len(way) - way[::-1].index(key)] if key in way else [*way, key]
            into_production(state, key, cut, record)
        case "restored":
            versions[key].update(stage="development", stage_since=record["time"])
        case "annotated":
            annotate(versions[key], event)
        case "aliased":
            state["aliases"].pop(event["alias"], None)
            if key is not None:
                state["aliases"][event["alias"]] = key
        case "approval_asked":
            state["asked"][event["request"]["id"]] = {"request": event["request"], "answers": [], "refused": []}
        case "approval_answered":
            state["asked"][event["answer"]["request_id"]]["answers"].append(event["answer"])
        case "answer_refused":
            state["asked"][event["request_id"]]["refused"].append(event["refused"])
        case "run_started":
            start_run(state["runs"], event, record)
        case "run_ended":
            end_run(state["runs"], event, record)
        case "variant_added":
            versions[key]["variants"][event["key"]] = event["digest"]
        case "variant_chosen":
            versions[key]["choice"] = event["choice"]
        case "deployed":
            deployed = {"endpoint": event["endpoint"], "generation": event["generation"], "at": record["time"]}
            versions[key]["deployments"].append(deployed)
        case "deleted":
            versions[key]["status"] = "deleted"
            state["aliases"] = {alias: target for alias, target in state["aliases"].items() if target != key}
            state["holders"] = [holder for holder in state["holders"] if holder != key]
        case "guard_changed":
            state["guard"] = max(state["guard"], event["guard"])
        case _:
            raise Damaged(f"an event of a type that this program does not know: {kind}")
    if kind != "variant_added" and event.get("key") is not None:
        about = {"approval_asked": lambda: event["request"]["id"], "aliased": lambda: event["alias"]}
        state["keys"][f"{kind} {event['key']}"] = about.get(kind, lambda: key)()


def start_run(runs: Json, event: Json, record: Json) -> None:
    before = runs.get(event["run"])
    same = before is not None and before["holder"] == event["holder"]
    runs[event["run"]] = {
        "id": event["run"],
        **{name: event[name] for name in ("kind", "holder", *DEFAULTS["run_started"])},
        "started_at": record["time"] if before is None else before["started_at"],
        "carried_since": record["time"],
        "carriers": 1 if before is None else before["carriers"] + (not same),
        "ended_at": None,
        "ending": None,
        "words": "",
    }


def end_run(runs: Json, event: Json, record: Json) -> None:
    ended = runs.pop(event["run"])
    ended.update(ended_at=record["time"], ending=event["ending"], version=event["version"], words=event["words"])
    runs[event["run"]] = ended
    over = [run for run in runs if runs[run]["ending"] is not None]
    for run in over[:-100]:
        del runs[run]


def into_production(state: Json, key: Any, holders: list[str], record: Json) -> None:
    if state["production"] not in {None, key}:
        state["versions"][state["production"]].update(stage="archived", stage_since=record["time"])
    state["versions"][key].update(stage="production", stage_since=record["time"], held_production=True)
    state.update(production=key, holders=holders)


def annotate(version: Json, event: Json) -> None:
    described = version["described"]
    if event["description"] is not None:
        described["description"] = event["description"]
    if event["tags"] is not None:
        described["tags"] = {**described["tags"], **event["tags"]}
    if event["metrics"] is not None:
        newer = measured(event["metrics"])
        merged = {**measured(described["metrics"]), **newer}
        custom = {name: value for name, value in merged.items() if name not in METRICS}
        described["metrics"] = {**{name: merged.get(name) for name in METRICS}, "custom": custom}
        version["measured_on"] = {name: data for name, data in version["measured_on"].items() if name not in newer}
        if event["measured_on"] is not None:
            version["measured_on"].update(dict.fromkeys(newer, event["measured_on"]))


def measured(metrics: Json) -> Json:
    return {**{name: metrics[name] for name in METRICS if metrics[name] is not None}, **metrics["custom"]}


# ----------------------------------------------------------------------------------------------- an endpoint's log
def no_endpoint() -> Json:
    return {"generation": 0, "desired": None, "before": [], "keys": {}, "served": 0}


def fold_endpoint(state: Json, event: Json, record: Json) -> None:
    match event["type"]:
        case "wanted":
            if state["desired"] is not None:
                state["before"] = [*state["before"], [state["generation"], state["desired"]]]
            state.update(generation=record["number"], desired=event["desired"])
            if event["key"] is not None:
                state["keys"][event["key"]] = record["number"]
        case "served":
            state.update(served=event["generation"])
            if event["generation"] == state["generation"]:
                state["before"] = []
        case "failed" if event["generation"] != state["generation"]:
            state["before"] = [earlier for earlier in state["before"] if earlier[0] != event["generation"]]
        case "failed":
            *before, last = state["before"] or [[0, None]]
            state.update(generation=last[0], desired=last[1], before=before)
        case "stopped":
            state.update(generation=0, desired=None, before=[], served=0)
        case unknown:
            raise Damaged(f"an event of a type that this program does not know: {unknown}")


def read_endpoint(folder: Path) -> Json:
    """Return the state of an endpoint, and as ``observed`` what was last seen serving, null if nothing was."""
    state, last = read_log(folder, no_endpoint(), fold_endpoint, "endpoint/2")
    path = folder / "observed.json"
    observed = complete("Observed", parse(path)) if path.exists() else None
    if observed is not None and observed["generation"] > last:
        raise Damaged(f"{folder} was seen serving a generation that its log does not have")
    return {**state, "observed": observed}


# ---------------------------------------------------------------------------------------------------------- content
def check_content(folder: Path, version: Json) -> Json:
    """Hold sidecar, files and variants of a registered version against the log; return the digest of each file."""
    sidecar = read_recorded(folder / "metadata.json", version["metadata_digest"])
    files = check_files(folder, sidecar["manifest"])
    named = version["artifact"] and version["artifact"]["digest"]
    if (sidecar["manifest"] and sidecar["manifest"]["digest"]) != named or sidecar["version"] != version["label"]:
        raise Damaged(f"{folder} is not what the log says was registered")
    for key, recorded in version["variants"].items():
        variant = read_recorded(folder / "variants" / key / "metadata.json", recorded)
        check_files(folder / "variants" / key, variant["manifest"])
        if digest(canonical(variant["report"]["key_fields"])) != f"sha256:{key}":
            raise Damaged(f"{folder}: the variant {key} has other key fields")
    if version["choice"] and version["choice"]["judgement"]:
        recorded = version["choice"]["judgement"]
        place = folder / "variants" / f"judged-{recorded.removeprefix('sha256:')}"
        check_files(place, read_recorded(place / "judgement.json", recorded)["manifest"])
    return files


def read_recorded(path: Path, recorded: str) -> Json:
    if digest(path.read_bytes()) != recorded:
        raise Damaged(f"{path} is not what the log says")
    return parse(path)


def check_files(folder: Path, manifest: Json | None) -> Json:
    if manifest is None:
        return {}
    paths = [entry["path"] for entry in manifest["files"]]
    if digest(canonical(manifest["files"])) != manifest["digest"] or paths != sorted(set(paths)):
        raise Damaged(f"the manifest of {folder} is not in order, or not what its digest says")
    for entry in manifest["files"]:
        data = (folder / entry["path"]).read_bytes()
        if (digest(data), len(data)) != (entry["sha256"], entry["size_bytes"]):
            raise Damaged(f"{folder / entry['path']} is not what its manifest says")
    return {entry["path"]: entry["sha256"] for entry in manifest["files"]}


def read_registry(root: Path) -> Json:
    """Return everything that the registry holds, verified."""
    identity = parse(root / "registry.json")
    state, _ = read_log(root, no_root(), fold_root, "root/3")
    models = {}
    for name in state["models"]:
        folder = root / "models" / name
        model, last = read_log(folder, no_model(), fold_model, "model/4")
        if model["guard"] > state["guard_number"]:
            raise Damaged(f"{name} was told of a guard that the registry's own log does not have")
        seen = {key: version for key, version in model["versions"].items() if version["status"] == "registered"}
        files = {key: check_content(folder / version["path"], version) for key, version in seen.items()}
        models[name] = {"last": last, "state": model, "registered": seen, "files": files}
    endpoints = {name: read_endpoint(root / "endpoints" / name) for name in state["endpoints"]}
    return {"id": identity["id"], "root": state, "models": models, "endpoints": endpoints}


if __name__ == "__main__":
    try:
        print(json.dumps(read_registry(Path(sys.argv[1])), ensure_ascii=False))  # noqa: T201 - a program's output
    except (Damaged, OSError, KeyError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
