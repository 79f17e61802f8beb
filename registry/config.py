"""How a registry is found and what its clients may prefer; nothing here guards anything."""

from __future__ import annotations

import getpass
import os
import socket
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field

from registry.base import Record
from registry.errors import InvalidInputError
from registry.versions import Strategy

DEFAULT_LOCATION = "./.modelway"
"""Where the command line keeps a registry when nothing else is said."""


class RegistryConfig(Record):
    """Where the registry lies and how new models number their versions.

    ``bucket_name`` (with ``project_id`` and ``region``, as document 004 writes them) is short for ``url="gs://BUCKET"``.
    """

    url: str | None = None
    project_id: str | None = None
    bucket_name: str | None = None
    region: str | None = None
    storage_options: dict[str, Any] = Field(default_factory=dict)
    versioning: Strategy = Field(default=Strategy.AUTOMATIC, strict=False)

    @property
    def location(self) -> str | None:
        """The URL to open, None where none was given.

        Raises:
            InvalidInputError: A URL and a bucket, which may contradict each other.
        """
        if self.url is not None and self.bucket_name is not None:
            raise InvalidInputError("give a RegistryConfig either a url or a bucket_name, not both.")
        return f"gs://{self.bucket_name}" if self.bucket_name is not None else self.url


def configured_location(start: Path | None = None) -> str | None:
    """Return ``MODELWAY_URL``, else ``url`` of ``[tool.modelway]`` in the nearest pyproject.toml, else None.

    Args:
        start: The folder to begin at; the working folder by default. A relative path in a pyproject.toml is taken from
            there.
    """
    if url := os.environ.get("MODELWAY_URL"):
        return url
    for folder in ((start or Path.cwd()).resolve(), *(start or Path.cwd()).resolve().parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            url = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("modelway", {}).get("url")
            return None if url is None else url if "://" in url else str(folder / url)
    return None


def default_actor() -> str:
    """Return who is running this: ``MODELWAY_ACTOR``, else ``user@host``."""
    if actor := os.environ.get("MODELWAY_ACTOR"):
        return actor
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user id
        user = f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"
