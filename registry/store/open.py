"""From what users write, a path or a URL, to a store."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from registry.errors import InvalidInputError
from registry.store.contract import ModelStore
from registry.store.local import FileModelStore
from registry.store.memory import InMemoryModelStore


def open_store(location: str | os.PathLike[str]) -> ModelStore:
    """Return the store at ``location``.

    Args:
        location: A path, ``file:///path`` or ``memory://name``.

    Raises:
        InvalidInputError: The scheme is none of these, or the URL is chained (``::``), which would reach anywhere.
    """
    text = os.fspath(location)
    if "::" in text:
        raise InvalidInputError(f"{text!r} is a chained URL; give one plain location.")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return FileModelStore(Path(text).expanduser())
    match scheme:
        case "file":
            return FileModelStore(unquote(urlsplit(text).path))
        case "memory":
            return InMemoryModelStore.named(rest.strip("/") or "default")
        case _:
            raise InvalidInputError(
                f"{text!r}: storage at {scheme}:// is not built yet; this release keeps a registry at a path, "
                f"file:// or memory://."
            )
