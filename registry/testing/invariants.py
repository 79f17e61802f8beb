"""What must hold of a registry's bytes whatever happened to its writers; read with as little of its code as can be.

The logs are folded here a second time, from plain JSON and by other code, and the two readings are compared.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from registry import ModelRegistry
from registry.errors import ModelwayError
from registry.store import ModelStore

_RECORD = re.compile(r"(?P<log>(?:.*/)?)log/(?P<number>\d{12})\.json")
_MODEL = re.compile(r"models/(?P<name>[^/]+)/")
_TIMES = frozenset({"at", "created_at", "decided_at", "expires_at", "requested_at", "stage_since"})
_OWN_TO_A_RUN = _TIMES | {"metadata_digest", "as_of", "artifact_path"}

Event = dict[str, Any]


def problems(store: ModelStore, *, torn: bool = False) -> list[str]:
    """Return what is wrong with the registry in ``store``, in words; nothing when all is well.

    Checked: every log is dense, chained and foldable; one version in production at most; every registered version has
    its sidecar and files with the digests recorded; nothing else is shown as a version; aliases and production point
    at registered versions; no ``status.json`` is newer than the log or says what the log does not; and a registry that
    is opened fresh reads the same.

    Args:
        store: Where the registry lies.
        torn: A process died while it replaced a key on a storage where that is not atomic, so that a projection may be
            unreadable.
    """
    keys = store.list("")
    logs = _logs(store, keys)
    found = [complaint for log, records in logs.items() for complaint in _chain(log, records)]
    if found:
        return found
    named = {record["event"].get("model") for _, record in logs.get("", [])}
    for log, records in logs.items():
        if model := _MODEL.fullmatch(log):
            story = _Story.told_by(records)
            found += [*story.complaints, *_bytes_of(store, log, story)]
            found += _projections(store, keys, log, story, torn=torn)
            if story.visible() and model["name"] not in named:
                found.append(f"{model['name']} has versions and its name was never taken")
            found += _seen_by_a_fresh_registry(store, model["name"], story)
    return found


def outcome(store: ModelStore) -> dict[str, list[str]]:
    """Return what has come to stand in ``store``, without what differs from run to run: ids, times and their order.

    Two runs with the same effect give the same: the events of each log, and the digests of all files of versions.
    """
    keys = store.list("")
    found = {
        log or "the registry's own log": sorted(_without_times_as_text(record["event"]) for _, record in records)
        for log, records in _logs(store, keys).items()
    }
    found["files"] = [
        f"{key} {_digest(store.read(key))}"
        for key in keys
        if "/versions/" in key and not key.endswith(("/metadata.json", "/status.json"))
    ]
    found["sidecars"] = [
        f"{key} {_without_times_as_text(_decoded(store.read(key)))}" for key in keys if key.endswith("/metadata.json")
    ]
    return found


def without_times(value: Any) -> Any:
    """Return a JSON value without the fields that two runs with the same effect give differently."""
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in _OWN_TO_A_RUN}
    if isinstance(value, list | tuple):
        return [without_times(inner) for inner in value]
    return value


def _without_times_as_text(value: Any) -> str:
    return json.dumps(without_times(value), sort_keys=True)


def _logs(store: ModelStore, keys: list[str]) -> dict[str, list[tuple[bytes, Any]]]:
    found: dict[str, list[tuple[bytes, Any]]] = {}
    for key in keys:
        if match := _RECORD.fullmatch(key):
            data = store.read(key)
            found.setdefault(match["log"], []).append((data, _decoded(data)))
    return found


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return {"number": "nothing readable", "id": repr(data), "previous": "", "event": {"type": "unreadable"}}


def _chain(log: str, records: list[tuple[bytes, Any]]) -> Iterator[str]:
    previous, ids = "sha256:" + "0" * 64, set()
    for number, (data, record) in enumerate(records, start=1):
        if record["number"] != number:
            yield f"{log}log: {record['number']} stands where record {number} belongs"
        if record["previous"] != previous:
            yield f"{log}log: record {number} does not follow the one before it"
        if record["id"] in ids:
            yield f"{log}log: record {number} has the id of an earlier one"
        previous = _digest(data)
        ids.add(record["id"])


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class _Version:
    label: str
    folder: str
    status: str = "reserved"
    digest: str = ""
    stage: str = "development"
    stages: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class _Story:
    """A model's log, folded a second time, and what does not add up in it."""

    versions: dict[str, _Version] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    production: str | None = None
    aliases: dict[str, str] = field(default_factory=dict)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    length: int = 0

    @classmethod
    def told_by(cls, records: list[tuple[bytes, Any]]) -> _Story:
        story = cls()
        for number, (_, record) in enumerate(records, start=1):
            story.length = number
            try:
                story._hear(record["event"])
            except KeyError as missing:
                story.complaints.append(f"record {number} is about {missing}, of which nothing was said before")
        return story

    def visible(self) -> list[str]:
        return [self.versions[key].label for key in self.order if self.versions[key].status == "registered"]

    def _hear(self, event: Event) -> None:
        kind, version = event["type"], event.get("version")
        self._once(event)
        if kind == "reserved":
            self.versions[event["version"]] = _Version(event["label"], event["path"])
        elif kind == "abandoned":
            self.versions[event["version"]].status = "abandoned"
            self.keys = {key: about for key, about in self.keys.items() if about != version or key[0] != "reserved"}
        elif kind == "aliased":
            self._alias(event)
        elif kind in {"registered", "moved", "rolled_back", "restored", "deleted"}:
            self._change(kind, event, self.versions[event["version"]])

    def _change(self, kind: str, event: Event, version: _Version) -> None:
        if kind == "registered":
            self._expect(version.status == "reserved", f"{version.label} was registered while {version.status}")
            version.status, version.digest = "registered", event["metadata_digest"]
            self.order.append(event["version"])
            self._stage(event["version"], "development")
        elif kind == "deleted":
            self._expect(self.production != event["version"], f"{version.label} was deleted in production")
            version.status = "deleted"
            self.aliases = {alias: key for alias, key in self.aliases.items() if key != event["version"]}
        else:
            self._expect(version.status == "registered", f"{version.label} was {kind} while {version.status}")
            self._move(kind, event, version)

    def _move(self, kind: str, event: Event, version: _Version) -> None:
        to = {"rolled_back": "production", "restored": "development"}.get(kind) or event["to_stage"]
        stood = event.get("from_stage", "archived")
        self._expect(version.stage == stood, f"{version.label} was moved from {stood} and stood in {version.stage}")
        if to == "production":
            self._expect(event["demoted"] == self.production, f"{version.label} took another's place in production")
            if self.production is not None:
                self._stage(self.production, "archived")
            self.production = event["version"]
        elif self.production == event["version"]:
            self.production = None
        self._stage(event["version"], to)

    def _alias(self, event: Event) -> None:
        self._expect(
            self.aliases.get(event["alias"]) == event["taken_from"], f"{event['alias']} was taken from another"
        )
        self.aliases.pop(event["alias"], None)
        if event["version"] is not None:
            status = self.versions[event["version"]].status
            self._expect(status == "registered", f"{event['alias']} was pointed at a version that is {status}")
            self.aliases[event["alias"]] = event["version"]

    def _stage(self, key: str, stage: str) -> None:
        self.versions[key].stage = stage
        self.versions[key].stages.append((self.length, stage))

    def _once(self, event: Event) -> None:
        if event.get("key") is None or event["type"] == "variant_added":  # whose key is that of its engine
            return
        key = (event["type"], event["key"])
        self._expect(key not in self.keys, f"the key {event['key']!r} has {event['type']} twice")
        self.keys[key] = event.get("version", "")

    def _expect(self, holds: bool, complaint: str) -> None:  # noqa: FBT001 - an assertion with words
        if not holds:
            self.complaints.append(f"record {self.length}: {complaint}")


def _bytes_of(store: ModelStore, log: str, story: _Story) -> Iterator[str]:
    for version in story.versions.values():
        if version.status != "registered":
            continue
        folder = f"{log}{version.folder}"
        sidecar = store.read_many([f"{folder}/metadata.json"])[0]
        if sidecar is None or _digest(sidecar) != version.digest:
            yield f"{folder}/metadata.json is not what was registered"
            continue
        files = (json.loads(sidecar)["manifest"] or {"files": []})["files"]
        for file, data in zip(files, store.read_many([f"{folder}/{file['path']}" for file in files]), strict=True):
            if data is None or _digest(data) != file["sha256"]:
                yield f"{folder}/{file['path']} is {'missing' if data is None else 'another'}"


def _projections(store: ModelStore, keys: list[str], log: str, story: _Story, *, torn: bool) -> Iterator[str]:
    versions = {f"{log}{version.folder}/status.json": version for version in story.versions.values()}
    for key in keys:
        if not (key.startswith(log) and key.endswith("/status.json")):
            continue
        version = versions.get(key)
        if version is None or version.status not in {"registered", "deleted"}:
            yield f"{key} shows a version that is not registered"
            continue
        try:
            status = json.loads(store.read(key))
        except ValueError:
            if not torn:
                yield f"{key} is damaged"
            continue
        then = [stage for number, stage in version.stages if number <= status["as_of"]]
        if status["as_of"] > story.length:
            yield f"{key} is as of event {status['as_of']}, and the log has {story.length}"
        elif not then or status["stage"] != then[-1]:
            yield f"{key} says {status['stage']} as of event {status['as_of']}, and the log {then[-1:] or 'nothing'}"


def _seen_by_a_fresh_registry(store: ModelStore, name: str, story: _Story) -> Iterator[str]:
    registry = ModelRegistry(store=store)
    wanted = [(version.label, version.stage) for version in map(story.versions.__getitem__, story.order)
              if version.status == "registered"]  # fmt: skip
    try:
        seen = registry.list_versions(name) if wanted else []
    except ModelwayError as error:
        yield f"{name} cannot be read: {error}"
        return
    if (stages := [(version.version, str(version.stage)) for version in seen]) != wanted:
        yield f"{name}: the log says {wanted}, a fresh registry {stages}"
    if sum(stage == "production" for _, stage in stages) != (story.production is not None):
        yield f"{name}: {stages} and production is {story.production}"
    aliases = {alias: version.version for version in seen for alias in version.aliases}
    if aliases != {alias: story.versions[key].label for alias, key in story.aliases.items()}:
        yield f"{name}: aliases are {story.aliases} in the log and {aliases} to a fresh registry"
