"""From what users write, a path or a URL, to a store."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from registry.errors import InvalidInputError
from registry.store.contract import ModelStore
from registry.store.local import FileModelStore
from registry.store.memory import InMemoryModelStore

_REMOTE = ("s3", "gs", "az", "abfs")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")


def open_store(location: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> ModelStore:
    """Return the store at ``location``.

    Args:
        location: A path, ``file:///path``, ``memory://name``, ``s3://bucket/prefix``, ``gs://bucket/prefix`` or
            ``az://container/prefix`` (also ``abfs://``).
        storage_options: For a bucket: handed to its client (s3fs, gcsfs, adlfs), except ``deadline_s``, the seconds
            after which a request with all its repeats is given up. Paths and memory need none and ignore them.

    Raises:
        InvalidInputError: The scheme is none of these; the URL is chained (``::``), which would reach anywhere; it
            holds credentials, or more than a bucket and a prefix.
        MissingExtraError: The client for this scheme is not installed.
    """
    text = os.fspath(location)
    if "::" in text:
        raise InvalidInputError(f"{text!r} is a chained URL; give one plain location.")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return FileModelStore(Path(text).expanduser())
    if scheme == "file":
        return FileModelStore(unquote(urlsplit(text).path))
    if scheme == "memory":
        return InMemoryModelStore.named(rest.strip("/") or "default")
    if scheme in _REMOTE:
        return _bucket(scheme, rest, dict(storage_options or {}))
    raise InvalidInputError(
        f"no store is at {scheme}://: a registry is kept at a path, file://, memory://, s3://, gs:// or az://."
    )


def _bucket(scheme: str, rest: str, options: dict[str, Any]) -> ModelStore:
    from registry.store.remote import DEADLINE_S, RemoteModelStore

    name, _, prefix = rest.partition("/")
    if "@" in name:  # not shown: what stands before the @ may be a password
        raise InvalidInputError(
            f"a {scheme}:// URL with credentials or an account in it is refused, because URLs are logged and shown: "
            f"write {scheme}://{name.rpartition('@')[2]} and give credentials as storage_options."
        )
    if not _BUCKET.fullmatch(name) or "?" in prefix or "#" in prefix:
        raise InvalidInputError(f"{scheme}://{rest} is not {scheme}://BUCKET/PREFIX; options are not part of the URL.")
    deadline_s = options.pop("deadline_s", DEADLINE_S)
    return RemoteModelStore(scheme, name, prefix.rstrip("/"), storage_options=options, deadline_s=deadline_s)
