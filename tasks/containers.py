"""Values in which the objects of one type are put in place of others, however deep they lie."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from itertools import chain
from operator import is_
from typing import Any

from pydantic import BaseModel


class Replacing:
    """Walks over values, each object once: one that is there twice has one replacement, and a ring ends.

    Looked into are lists, tuples, dicts (keys too), sets, dataclasses and pydantic models, and what derives from them.
    A container in which nothing changes stays the same object; another one is copied without running its ``__init__``,
    so that no default, check or ``__post_init__`` of its own stands in the way.
    """

    def __init__(self, kind: type, replacement: Callable[[Any], Any]) -> None:
        """Take the type that is looked for, and the function that gives what is to stand in such an object's place."""
        self._kind, self._replacement = kind, replacement
        self._done: dict[int, tuple[Any, Any]] = {}

    def walk(self, value: Any) -> Any:
        """Return ``value`` with its parts replaced, in the order in which they stand."""
        looked_for = isinstance(value, self._kind)
        if not (looked_for or isinstance(value, _CONTAINERS) or _is_dataclass(value)):
            return value
        if id(value) not in self._done:
            # Kept with its replacement: another object cannot have its id then. Until it is known, a ring meets itself.
            self._done[id(value)] = value, value
            self._done[id(value)] = value, self._replacement(value) if looked_for else self._inside(value)
        return self._done[id(value)][1]

    def _inside(self, value: Any) -> Any:
        if isinstance(value, dict):
            items = [(self.walk(key), self.walk(part)) for key, part in value.items()]
            if all(map(is_, chain(*items), chain(*value.items()))):
                return value
            filled = copy.copy(value)
            filled.clear()
            filled.update(items)
            return filled
        if isinstance(value, list | tuple | set | frozenset):
            parts = [self.walk(part) for part in value]
            return value if all(map(is_, parts, value)) else _of_parts(value, parts)
        return self._with_fields(value)

    def _with_fields(self, value: Any) -> Any:
        if isinstance(value, BaseModel):
            changed = self._changed({**value.__dict__, **(value.__pydantic_extra__ or {})})
            return value.model_copy(update=changed) if changed else value
        changed = self._changed({field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)})
        made = copy.copy(value) if changed else value
        for name, part in changed.items():
            object.__setattr__(made, name, part)  # also in a frozen one: the copy is nobody else's yet
        return made

    def _changed(self, parts: dict[str, Any]) -> dict[str, Any]:
        return {name: new for name, part in parts.items() if (new := self.walk(part)) is not part}


_CONTAINERS = (dict, list, tuple, set, frozenset, BaseModel)


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _of_parts(like: Any, parts: list[Any]) -> Any:
    if isinstance(like, list):
        made = copy.copy(like)
        made[:] = parts
        return made
    return like._make(parts) if hasattr(like, "_make") else type(like)(parts)  # `_make` is how a named tuple is made
