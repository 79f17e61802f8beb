"""What a serving process is told to serve, written as a deployer writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry.encoding import digest_of
from registry.endpoints.serving import ServedModels, ServedVersion

if TYPE_CHECKING:
    from pathlib import Path

    from registry.endpoints.serving import ServerConfig


def list_models(config: ServerConfig, *versions: ServedVersion, generation: int = 7) -> None:
    """Write the models file, in one step as a deployer does."""
    staged = config.models_file.with_suffix(".tmp")
    staged.write_text(ServedModels(generation=generation, versions=versions).model_dump_json())
    staged.replace(config.models_file)


def served(model: str, version: str, engine: Path, **more: Any) -> ServedVersion:
    """Return a version with the digest that its file has; the stable one unless ``role`` says otherwise."""
    return ServedVersion(model=model, version=version, engine=engine, digest=digest_of(engine.read_bytes()), **more)
