"""Whether a Triton server can open an engine, by the engine's key and what is known of the server; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from registry.endpoints.triton.config import FAMILIES
from registry.engines.backends import family_of

_AMPERE = (8, 0)


@dataclass(frozen=True, kw_only=True)
class ServerMachine:
    """The TensorRT of the server's machine and the compute capability of its GPU, None where they are not known."""

    tensorrt_version: str | None = None
    compute_capability: str | None = None
    device: Literal["auto", "cpu", "gpu"] = "auto"


def objection_of(engine: str, key_fields: Mapping[str, Any], machine: ServerMachine) -> str | None:
    """Return in words why a Triton server on this machine cannot open an engine, None if it can.

    Args:
        engine: Its name.
        key_fields: The fields of its key; empty for the version's own file.
        machine: What is known of the server's machine.
    """
    family = family_of(engine)
    if family not in FAMILIES:
        return f"Triton opens {', '.join(FAMILIES)}, and {engine} is none of them"
    return _objection_to_tensorrt(engine, key_fields, machine) if family == "tensorrt" else None


def _objection_to_tensorrt(engine: str, key: Mapping[str, Any], machine: ServerMachine) -> str | None:
    package, version = key.get("package"), str(key.get("version", ""))
    if package != "tensorrt":
        return f"Triton opens engines of tensorrt, and {engine} was built with {package or 'an unknown package'}"
    if machine.device == "cpu":
        return f"{engine} needs a GPU, and the endpoint's setting device is cpu"
    for setting in ("tensorrt_version", "compute_capability"):
        if getattr(machine, setting) is None:
            return f"a TensorRT engine fits one kind of server only: set {setting} to that of this endpoint's server"
    if not _is_release(version, str(machine.tensorrt_version)):
        return f"it was built with tensorrt {version}, the server has {machine.tensorrt_version}"
    return _objection_to_gpu(key, str(machine.compute_capability))


def _is_release(version: str, release: str) -> bool:
    """Return whether 10.13.3.9, as a package calls itself, is release 10.13.3, as NVIDIA's tables of servers do."""
    parts = release.split(".")
    return version.split(".")[: len(parts)] == parts


def _objection_to_gpu(key: Mapping[str, Any], capability: str) -> str | None:
    built_for = ", ".join(key.get("compute_capabilities") or ()) or "an unknown one"
    if key.get("hardware_compatibility") == "AMPERE_PLUS":
        if tuple(int(part) for part in capability.split(".")) >= _AMPERE:
            return None
        built_for = "8.0 and above"
    elif capability in (key.get("compute_capabilities") or ()):
        return None
    return f"it was built for compute capability {built_for}, the server's GPU has {capability}"
