"""Write ``inferenceservice.json`` from the models of KServe's own Python package; README.md beside it says how.

It runs in an environment of its own, where ``kserve`` is installed; no test imports it.
"""

from __future__ import annotations

import inspect
import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from kserve import models  # type: ignore[import-not-found]

_PLAIN = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}
# Of Kubernetes' own fields, which the package takes from another one, these are written or looked at.
_METADATA = {
    "name": {"type": "string", "maxLength": 63, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"},
    "namespace": {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
    "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
}
# What the CustomResourceDefinition and its webhook check beyond names and types.
_NARROWER: dict[tuple[str, str], dict[str, Any]] = {
    ("V1beta1StorageUri", "uri"): {"minLength": 1},
    ("V1beta1StorageUri", "mountPath"): {"pattern": "^/.*", "maxLength": 255},
    ("V1beta1CanarySpec", "trafficPercent"): {"minimum": 0, "maximum": 100},
}


def main() -> None:
    """Write the schema beside this file."""
    definitions: dict[str, Any] = {}
    _define("V1beta1InferenceService", definitions)
    service = definitions.pop("V1beta1InferenceService")
    service["properties"] |= {
        "apiVersion": {"const": "serving.kserve.io/v1beta1"},
        "kind": {"const": "InferenceService"},
        "metadata": {
            "type": "object",
            "properties": _METADATA,
            "required": ["name"],
            "additionalProperties": False,
        },
    }
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"from kserve {metadata.version('kserve')}; see README.md",
        **service,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "$defs": definitions,
    }
    text = json.dumps(schema, indent=1, sort_keys=True) + "\n"
    Path(__file__).with_name("inferenceservice.json").write_text(text, encoding="utf-8")


def _define(name: str, definitions: dict[str, Any]) -> None:
    model = getattr(models, name)
    schema: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    definitions[name] = schema
    for field, kind in model.openapi_types.items():
        key = model.attribute_map[field]
        found = None if key == "status" else _schema(kind, definitions)
        if found is None:
            continue
        schema["properties"][key] = {**found, **_NARROWER.get((name, key), {})}
        if "must not be `None`" in inspect.getsource(getattr(model, field).fset):
            schema.setdefault("required", []).append(key)


def _schema(kind: str, definitions: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema of a field, None for a type that is not KServe's own."""
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if inner := re.fullmatch(r"list\[(\w+)\]", kind):
        items = _schema(inner[1], definitions)
        return items and {"type": "array", "items": items}
    if kind == "dict(str, str)":
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if not kind.startswith("V1beta1") or not hasattr(models, kind):
        return None
    if kind not in definitions:
        _define(kind, definitions)
    return {"$ref": f"#/$defs/{kind}"}


if __name__ == "__main__":
    main()
