"""YAML files as plain JSON values that know the line they stand on; duplicate keys, tags, dates and NaN are refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from registry.errors import InvalidPipelineError, Mistake
from registry.yaml_files.plain import PlainValues
from registry.yaml_files.wording import Place, Problem, meant

_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class YamlFile:
    """A file that was read."""

    path: Path
    _tree: Any = field(repr=False)

    @property
    def keys(self) -> frozenset[object]:
        """The keys at the top; none where there is something else than keys and values."""
        return frozenset(self._tree if isinstance(self._tree, CommentedMap) else ())

    def plain(self, place: Place = ()) -> tuple[Any, list[Problem]]:
        """Return what stands at a place that is there, and what of it cannot be read, which is None in the value.

        The value holds dicts, lists, text, finite numbers, booleans and None only.
        """
        node = self._tree
        for part in place:
            node = node[part]
        values = PlainValues()
        return values.of(node, place), values.problems

    def line_of(self, place: Place) -> int:
        """Return the line, from 1, of the key or list item at ``place``, or of the innermost around it."""
        node, line = self._tree, 1
        for part in place:
            try:
                position = node.lc.key(part) if isinstance(node, CommentedMap) else node.lc.item(part)
                node = node[part]
            except (AttributeError, KeyError, IndexError, TypeError):
                break  # a missing key, one that was merged in, or a plain value
            line = position[0] + 1
        return line

    def refusal(self, problems: Iterable[Problem]) -> InvalidPipelineError:
        """Return one error that lists all problems, in the order of their lines."""
        lines = sorted(
            (self.line_of(place), ".".join(map(str, place)), " ".join(what.split())) for place, what in problems
        )
        return InvalidPipelineError.listing([Mistake(str(self.path), *line) for line in lines])


def read_yaml(path: Path, *, kind: str = "YAML file") -> YamlFile:
    """Read one YAML 1.2 document.

    Args:
        path: The file.
        kind: What such a file is called in messages.

    Raises:
        InvalidPipelineError: No such file, too large, not UTF-8, not YAML, or a key twice; with the line.
    """
    return YamlFile(path, _parse(path, _text_of(path, kind)))


def _refusal(path: Path, line: int | None, words: str) -> InvalidPipelineError:
    return InvalidPipelineError.listing([Mistake(str(path), line, "", words)])


def _text_of(path: Path, kind: str) -> str:
    try:
        data = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else None
    except FileNotFoundError as error:
        there = [str(other) for other in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        words = f"there is no such file ({error.strerror}; looked in {Path.cwd()}).{meant(str(path), there)}"
        raise _refusal(path, None, words) from None
    except OSError as error:
        raise _refusal(path, None, f"cannot be read: {error.strerror}. Give the path of a {kind}.") from error
    if data is None:
        raise _refusal(path, None, f"is larger than {_MAX_BYTES} bytes, and no {kind} is. Is it the right file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        words = f"is not UTF-8 text, and so is not YAML that can be read: {error.reason}. Save the file as UTF-8."
        raise _refusal(path, line, words) from error


def _parse(path: Path, text: str) -> Any:
    try:
        return YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _refusal(path, mark.line + 1 if mark else 1, _what(error)) from error
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1
        words = f"is not YAML: {error.reason}, and a file with one is not YAML that can be read."
        raise _refusal(path, line, f"{words} Remove the control character.") from error
    except (YAMLError, ValueError, RecursionError) as error:
        # ruamel lets the ValueErrors of int(), float() and dates through.
        raise _refusal(path, None, f"is not YAML that can be read: {error}") from error


def _what(error: MarkedYAMLError) -> str:
    problem = " ".join(str(error.problem).split())
    if "duplicate key" in problem:
        return f"{problem}. Keep one of the two."
    context = f" {' '.join(str(error.context).split())}" if error.context else ""
    return f"is not YAML: {problem}{context}. Look at the indentation, brackets and quotes here and above."
