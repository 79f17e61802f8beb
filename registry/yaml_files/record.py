"""A record out of a YAML file, where it stands alone or as a section of a pipeline file; or out of a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from registry.errors import InvalidInputError
from registry.yaml_files.document import read_yaml
from registry.yaml_files.schema import keys_at, problems_of
from registry.yaml_files.wording import Place, told

_Kind = TypeVar("_Kind", bound=BaseModel)

# What these files' mistakes have always begun with; a pipeline file's begin with the words themselves.


def read_record(file: Path, section: str, kind: type[_Kind]) -> _Kind:
    """Return the record that a YAML file holds, alone or under the key ``section``.

    Raises:
        InvalidInputError: The file holds no such thing.
        InvalidPipelineError: No such file, no YAML, or not this record; with a line for each mistake, as ``file:line``.
    """
    document = read_yaml(file)
    if not {section, *kind.model_fields} & document.keys:
        keys = ", ".join(kind.model_fields)
        raise InvalidInputError(
            f"{file} holds no {section}: give a pipeline file with the key {section!r}, or a file with some of: {keys}."
        )
    place: Place = (section,) if section in document.keys else ()
    value, problems = document.plain(place)
    if problems:
        raise document.refusal(problems)
    record, faults = problems_of(kind, value)
    if record is None:
        raise document.refusal([((*place, *where), words) for where, words in faults])
    return record


def from_mapping(values: Mapping[str, Any], kind: type[_Kind], *, what: str) -> _Kind:
    """Return the record that a caller gave as a mapping.

    Args:
        values: Field names and values, in the types that the record has; a list may stand for a tuple where it says so.
        kind: The record.
        what: What it is; stands before each problem.

    Raises:
        InvalidInputError: Not this record; with a line for each mistake.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = told(error, values, lambda place: keys_at(kind, place))
        lines = [": ".join((what, ".".join(map(str, place)) or "it", words)) for place, words in problems]
        raise InvalidInputError("\n".join(lines)) from error
