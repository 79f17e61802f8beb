"""What ruamel read, as the values that JSON can hold; what it cannot hold is told with its place."""

from __future__ import annotations

import math
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarbool import ScalarBoolean

from registry.yaml_files.wording import Place, Problem

_MAX_VALUES = 20_000


class PlainValues:
    """Turns ruamel's tree into plain values; aliases are expanded, up to a number of values that no honest file has."""

    def __init__(self) -> None:
        """Begin with no problem found."""
        self.problems: list[Problem] = []
        self._values = 0

    def of(self, node: Any, place: Place) -> Any:
        """Return the value of ``node``; None, and a problem, for what is not read."""
        self._values += 1
        if self._values > _MAX_VALUES:
            if self._values == _MAX_VALUES + 1:
                self._refuse(place, "aliases (*name) make too many values of this file: write them out.")
            return None
        if tag := getattr(getattr(node, "tag", None), "value", None):
            return self._refuse(place, f"the tag {tag} is not read; only plain values are: remove it.")
        if isinstance(node, CommentedMap):
            return {self._key(key, place): self.of(value, (*place, str(key))) for key, value in node.items()}
        if isinstance(node, CommentedSeq):
            return [self.of(value, (*place, index)) for index, value in enumerate(node)]
        return self._scalar(node, place)

    def _key(self, key: Any, place: Place) -> str:
        if isinstance(key, str):
            return str(key)
        self._refuse(place, f"the key {key!r} is not text: put it in quotes.")
        return str(key)

    def _scalar(self, node: Any, place: Place) -> Any:
        if isinstance(node, float) and not math.isfinite(node):
            return self._refuse(place, f"{float(node)} is no number that can be recorded: give a finite one.")
        # ruamel's own classes come down to Python's; ScalarBoolean is an anchored true or false, and an int.
        for kinds, plain in (((bool, ScalarBoolean), bool), ((str,), str), ((int,), int), ((float,), float)):
            if isinstance(node, kinds):
                return plain(node)
        if node is None:
            return None
        return self._refuse(place, f"a {type(node).__name__} is not read; put it in quotes to give it as text.")

    def _refuse(self, place: Place, what: str) -> None:
        self.problems.append((place, what))
