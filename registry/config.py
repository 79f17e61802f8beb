"""How a registry is found and what its clients may prefer; nothing here guards anything."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import Field

from registry.base import Record
from registry.endpoints.settings import VertexSettings
from registry.errors import InvalidInputError
from registry.versions import Strategy

DEFAULT_LOCATION = "./.modelway"
"""Where the command line keeps a registry when nothing else is said."""


SERVING = "serving"
"""Below a registry's bucket: what Vertex AI reads models from, where no other place was named."""


class RegistryConfig(Record):
    """Where the registry lies and how new models number their versions.

    ``bucket_name`` (with ``project_id`` and ``region``, as document 004 writes them) is short for ``url="gs://BUCKET"``.
    ``storage_options`` goes to the bucket's client; it is not shown when the config is printed.
    """

    url: str | None = None
    project_id: str | None = None
    bucket_name: str | None = None
    region: str | None = None
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False)
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

    @property
    def vertex(self) -> VertexSettings | None:
        """Settings of an endpoint on Vertex AI in this project and region, its models staged in this bucket.

        None where one of the three is not said.
        """
        if self.project_id is None or self.region is None or self.bucket_name is None:
            return None
        return VertexSettings(project=self.project_id, region=self.region, staging=f"gs://{self.bucket_name}/{SERVING}")

    @property
    def client_options(self) -> dict[str, Any]:
        """What the bucket's client is given: settings of the machine, the project, ``storage_options``; the last wins.

        Raises:
            InvalidInputError: The machine's settings are not what they should be.
        """
        project = {} if self.project_id is None else {"project": self.project_id}
        return {**configured_storage_options(), **project, **self.storage_options}


def configured_location(start: Path | None = None) -> str | None:
    """Return ``MODELWAY_URL``, else ``url`` of ``[tool.modelway]`` in the nearest pyproject.toml, else None.

    Args:
        start: The folder to begin at; the working folder by default. A relative path in a pyproject.toml is taken from
            there.
    """
    if url := os.environ.get("MODELWAY_URL"):
        return url
    folder, settings = _nearest_settings(start)
    url = settings.get("url")
    return None if url is None else url if "://" in url else str(folder / url)


def configured_storage_options(start: Path | None = None) -> dict[str, Any]:
    """Return ``MODELWAY_STORAGE_OPTIONS`` (a JSON object), else ``[tool.modelway.storage_options]``, else nothing.

    Args:
        start: The folder to begin to look for a pyproject.toml at; the working folder by default.

    Raises:
        InvalidInputError: It is not a JSON object, or not a table. Its text is not shown: it may hold a secret.
    """
    source = "MODELWAY_STORAGE_OPTIONS"
    if text := os.environ.get(source):
        try:
            options = json.loads(text)
        except ValueError as error:
            raise InvalidInputError(f"{source} is not JSON: {str(error).partition(':')[0]}.") from None
    else:
        folder, settings = _nearest_settings(start)
        source, options = f"storage_options in {folder / 'pyproject.toml'}", settings.get("storage_options", {})
    if not isinstance(options, dict):
        raise InvalidInputError(f'{source} must hold names and values, such as {{"endpoint_url": "https://..."}}.')
    return options


def _nearest_settings(start: Path | None) -> tuple[Path, dict[str, Any]]:
    """Return the nearest folder with a pyproject.toml, and its ``[tool.modelway]``."""
    import tomllib

    first = (start or Path.cwd()).resolve()
    for folder in (first, *first.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            return folder, tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("modelway", {})
    return first, {}


def default_actor() -> str:
    """Return who is running this: ``MODELWAY_ACTOR``, else ``user@host``."""
    if actor := os.environ.get("MODELWAY_ACTOR"):
        return actor
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user id
        user = f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"
