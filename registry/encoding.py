"""JSON as it is stored: canonical bytes out, strict parsing in, and the digest of bytes."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from registry.errors import FormatError

FORMAT = 1
"""The number of the on-disk format that this release writes; a greater one is refused."""

_Model = TypeVar("_Model", bound=BaseModel)


def digest_of(data: bytes) -> str:
    """Return ``sha256:`` and the hexadecimal digest of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return the one encoding of a JSON value: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        ValueError: NaN or an infinity in it.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def readable_json(record: BaseModel) -> bytes:
    """Return a record for people and programs alike: indented JSON with a newline at its end."""
    return (record.model_dump_json(indent=2) + "\n").encode()


def parse_json(data: bytes, where: str) -> Any:
    """Return the JSON value in ``data``.

    Raises:
        FormatError: No JSON, a key twice in one object (which parsers resolve differently), or NaN; names ``where``.
    """
    try:
        value = json.loads(data, parse_constant=_no_constant)
        if canonical_json(value) == data:  # as every record is: a key that stood in it twice would stand here once
            return value
        return json.loads(data, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{where} is damaged: {error}. Restore it from a copy; `modelway models verify` lists all such files."
        ) from error


def parse_record(model: type[_Model], data: bytes, where: str) -> _Model:
    """Return ``data`` as a record, its unknown fields kept.

    Raises:
        FormatError: Damaged, of a format that a later release wrote, or not of this type; names ``where``.
    """
    value = parse_json(data, where)
    written = value.get("format", FORMAT) if isinstance(value, dict) else FORMAT
    if not isinstance(written, int) or not 1 <= written <= FORMAT:
        raise FormatError(f"{where} has format {written}, and this release reads up to {FORMAT}: update modelway.")
    try:
        # A second parse, because only pydantic's JSON mode reads times and enums in strict mode.
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the record"
        raise FormatError(f"{where} is no {model.__name__}: {place}: {first['msg']}.") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        message = f"the key {twice!r} stands in it twice"
        raise ValueError(message)
    return found


def _no_constant(name: str) -> float:
    message = f"{name} is no JSON number"
    raise ValueError(message)
