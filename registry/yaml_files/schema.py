"""Held against a record: a plain value in, the record or every problem with its place out."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from registry.yaml_files.wording import Place, Problem, told

_Record = TypeVar("_Record", bound=BaseModel)


def problems_of(kind: type[_Record], value: Any) -> tuple[_Record | None, list[Problem]]:
    """Return ``value`` as a record, or None and what is wrong with it.

    Args:
        kind: The record; unknown keys are problems where it forbids them.
        value: What JSON can hold. A list may stand for a tuple and 1 for a float; ``"1"`` is no number.
    """
    try:
        return kind.model_validate_json(json.dumps(value)), []
    except ValidationError as error:
        return None, told(error, value, lambda section: keys_at(kind, section))


def keys_at(kind: Any, place: Place) -> list[str]:
    """Return the keys that may stand at ``place`` in what ``kind`` is read from."""
    return [name for record in _records_at(kind, place) for name in record.model_fields]


def _records_at(kind: Any, place: Place) -> Iterator[type[BaseModel]]:
    """Yield the records that an annotation allows at ``place``: through fields, lists and ``| None``."""
    if typing.get_origin(kind) in {typing.Union, types.UnionType, typing.Annotated}:
        for member in typing.get_args(kind):
            yield from _records_at(member, place)
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        if not place:
            yield kind
        elif (field := kind.model_fields.get(str(place[0]))) is not None:
            yield from _records_at(field.annotation, place[1:])
    elif place and isinstance(place[0], int):
        for member in typing.get_args(kind):
            yield from _records_at(member, place[1:])
