"""docs/format.md names every member of every record as the code has it; its worked example is true, byte by byte."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import types
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from registry.core import RegistryIdentity
from registry.endpoints.desired import EndpointEvent, EndpointMachine, EndpointState, Observed
from registry.engines.judgement import Judgement
from registry.events import ModelEvent
from registry.frameworks.kinds import ModelFramework
from registry.guard import RootEvent, RootMachine, RootState
from registry.log.reader import CHECKPOINT_EVERY
from registry.log.record import LogRecord
from registry.machine import ModelMachine
from registry.policy import Comparison, PromotionPolicy
from registry.records import Sidecar, Variant
from registry.stages import ModelStage
from registry.state import ModelState
from registry.versions import Strategy
from registry.views import Status

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
EXAMPLE = Path(__file__).parent / "format-1" / "worked-example" / "registry"

KINDS: dict[type[Enum], str] = {
    ModelStage: "stage",
    ModelFramework: "framework",
    Strategy: "strategy",
    Comparison: "comparison",
}
PLAIN: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    datetime: "time",
    AwareDatetime: "time",
    Path: "string",
    Any: "any value",
    type(None): "null",
}
STORED = (
    RegistryIdentity,
    LogRecord,
    *(event for union in (RootEvent, ModelEvent, EndpointEvent) for event in get_args(get_args(union)[0])),
    RootState,
    ModelState,
    EndpointState,
    Sidecar,
    Status,
    Variant,
    Judgement,
    Observed,
)
TABLE = re.compile(
    r"^#### `(\w+)`\n\n\| member \| type \| default \| meaning \|\n\|[-|]+\|\n((?:\|.*\n)+)", re.MULTILINE
)
BLOCK = re.compile(r"^`(\S+)`, (\d+) bytes, `(sha256:[0-9a-f]{64})`:\n\n```\w*\n(.*?)\n```$", re.MULTILINE | re.DOTALL)

Row = tuple[str, str, str]


def _records(*start: Any) -> Iterator[type[BaseModel]]:
    """Yield every record that the given ones are made of, themselves first, each once."""
    waiting, seen = list(start), set()
    while waiting:
        kind = waiting.pop(0)
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
            seen.add(kind)
            yield kind
            waiting.extend(field.annotation for field in kind.model_fields.values())
        elif not isinstance(kind, type) or get_args(kind):
            waiting.extend(get_args(kind))
        elif issubclass(kind, Mapping):
            waiting.extend(argument for base in kind.__orig_bases__ for argument in get_args(base))  # type: ignore[attr-defined]


def _title(record: type[BaseModel]) -> str:
    kind = record.model_fields.get("type")
    return str(kind.default) if kind is not None else record.__name__


def _rows(record: type[BaseModel]) -> list[Row]:
    return [
        (name, _words(field.annotation), _default(field))
        for name, field in record.model_fields.items()
        if name != "type"
    ]


def _words(kind: Any) -> str:  # noqa: PLR0911 - one way of saying it for each kind
    """Return a type as the page says it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if origin is Annotated:
        return _words(arguments[0])
    if origin is Literal:
        return " or ".join(f'`"{word}"`' for word in arguments)
    if origin in {Union, types.UnionType}:
        return " or ".join(map(_words, arguments))
    if origin is tuple:
        several = arguments[-1] is Ellipsis
        return f"list of {_words(arguments[0])}" if several else f"pair of {' and '.join(map(_words, arguments))}"
    if origin is dict:
        return "object" if arguments[1] is Any else f"map to {_words(arguments[1])}"
    if kind in KINDS:
        return KINDS[kind]
    if issubclass(kind, BaseModel):
        return f"`{kind.__name__}`"
    return "map to " + _words(next(get_args(base)[1] for base in kind.__orig_bases__))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its defaults"
    return f"`{json.dumps(dict(value) if isinstance(value, Mapping) else value)}`"


def _tables() -> dict[str, list[Row]]:
    """Return the tables of the page by title: member, type and default of each row."""
    found: dict[str, list[Row]] = {}
    for title, body in TABLE.findall(PAGE):
        cells = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in body.splitlines()]
        assert title not in found, f"{title} has two tables"
        found[title] = [(row[0].strip("`"), row[1], row[2]) for row in cells]
    return found


RECORDS = list(_records(*STORED))


@pytest.mark.parametrize("record", RECORDS, ids=_title)
def test_the_page_names_every_member_with_its_type_and_default(record: type[BaseModel]) -> None:
    assert _tables().get(_title(record)) == _rows(record)


def test_the_page_describes_nothing_that_is_not_stored() -> None:
    assert sorted(_tables()) == sorted(map(_title, RECORDS))


@pytest.mark.parametrize("event", [one for one in RECORDS if "type" in one.model_fields], ids=_title)
def test_the_page_says_of_each_event_when_it_is_written_and_what_it_does(event: type[BaseModel]) -> None:
    section = PAGE.partition(f"#### `{_title(event)}`\n")[2].partition("\n#")[0]
    assert "\nWritten when: " in section
    assert re.search(r"\bFold:\s", section)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: KINDS[kind])
def test_the_page_names_every_word_of_a_fixed_set(kind: type[Enum]) -> None:
    words = " ".join(f"`{word.value}`" for word in kind)
    assert f"| {KINDS[kind]} | {words} |" in PAGE


def test_the_page_names_the_machines_and_how_often_checkpoints_are_written() -> None:
    for machine, state in ((RootMachine, RootState), (ModelMachine, ModelState), (EndpointMachine, EndpointState)):
        assert re.search(rf"\| `{machine.name}` \| .* \| `{state.__name__}` \|", PAGE)
    assert f"every {CHECKPOINT_EVERY}th record" in PAGE


def test_the_worked_example_is_on_the_page_byte_by_byte() -> None:
    shown = {key: (int(size), digest, text) for key, size, digest, text in BLOCK.findall(PAGE)}
    there = {path.relative_to(EXAMPLE).as_posix(): path.read_bytes() for path in EXAMPLE.rglob("*") if path.is_file()}

    assert shown.keys() == there.keys()
    for key, data in there.items():
        newline = "" if key.endswith(".json") and "/log/" in f"/{key}" else "\n"
        assert (len(data), _sha256(data), data.decode()) == (*shown[key][:2], shown[key][2] + newline), key


def test_the_commands_on_the_page_print_what_it_says() -> None:
    printed = re.findall(r"^\$ printf (?:'%s' )?'(.*)' \| sha256sum\n([0-9a-f]{64})  -$", PAGE, re.MULTILINE)
    assert [_sha256(text.replace("\\n", "\n").encode()) for text, _ in printed] == [
        f"sha256:{hex_}" for _, hex_ in printed
    ]
    assert len(printed) == 2

    pattern = (
        r"`([\w./-]+/registry)`,\s+`([\w/.]+)`: (\d+) bytes. .*?\$ tail -c \+(\d+) \S+ \| head -c (\d+) .*?\n(\w{64})"
    )
    ((folder, key, size, start, length, digest),) = re.findall(pattern, PAGE, re.DOTALL)
    data = (ROOT / folder / key).read_bytes()
    state = data[int(start) - 1 :][: int(length)]
    assert (len(data), _sha256(state)) == (int(size), f"sha256:{digest}")
    assert json.loads(data)["sha256"] == f"sha256:{digest}"
    assert f"bytes {int(start) - 1} up to and without {int(start) - 1 + len(state)}," in " ".join(PAGE.split())


def test_the_digests_of_policies_on_the_page_are_those_of_the_code() -> None:
    shown = re.findall(r'`(\{"against_incumbent":\S+)`\s+is\s+`(sha256:\w{64})`', PAGE)
    assert len(shown) == 2
    for text, digest in shown:
        assert _sha256(text.encode()) == PromotionPolicy.model_validate_json(text).digest == digest


def test_the_page_lists_the_golden_registries() -> None:
    folders = {path.parent.name for path in EXAMPLE.parents[1].glob("format-*/*/expected.json")}
    assert {name for name in folders if f"| `{name}` |" not in PAGE} == set()


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


if __name__ == "__main__":  # the tables of all records, to be filled in
    for stored in RECORDS:
        lines = [f"| `{name}` | {kind} | {default} | |" for name, kind, default in _rows(stored)]
        head = [f"#### `{_title(stored)}`", "", "| member | type | default | meaning |", "|---|---|---|---|"]
        sys.stdout.write("\n".join([*head, *lines, "", ""]))
