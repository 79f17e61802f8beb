"""What a step gives keeps its shape when the Models in it are replaced by those that were registered."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr, RootModel, model_validator

from tasks.containers import Replacing


class Thing:
    """What is looked for."""


NEW = Thing()


def replaced(value: Any) -> Any:
    return Replacing(Thing, lambda _: NEW).walk(value)


@dataclass(frozen=True)
class Trained:
    """A dataclass that ``dataclasses.replace`` refuses, and whose fields do not come from its arguments alone."""

    thing: Thing
    seconds: float = field(init=False)
    made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Say that it ran."""
        object.__setattr__(self, "seconds", 3.0)
        self.made.append("made")


@dataclass(slots=True)
class Bare:
    """A dataclass with a field that nobody has set."""

    thing: Thing
    later: str = field(init=False)


def test_a_dataclass_is_copied_and_not_made_again() -> None:
    trained = Trained(Thing())
    copied = replaced(trained)
    assert (type(copied), copied.thing, copied.seconds, copied.made) == (Trained, NEW, 3.0, ["made"])
    assert trained.thing is not NEW
    bare = replaced(Bare(Thing()))
    assert bare.thing is NEW
    assert not hasattr(bare, "later")


class Open(BaseModel):
    """A pydantic model that keeps what it does not know, checks, and has something of its own."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True, frozen=True)
    thing: Thing
    _own: list[str] = PrivateAttr(default_factory=lambda: ["own"])

    @model_validator(mode="after")
    def _once(self) -> Open:
        self._own.append("checked")
        return self

    @property
    def own(self) -> list[str]:
        return self._own


def test_a_pydantic_model_keeps_what_is_its_own() -> None:
    given = Open.model_validate({"thing": Thing(), "other": Thing()})
    copied = replaced(given)
    assert (copied.thing, copied.model_extra, copied.own) == (NEW, {"other": NEW}, ["own", "checked"])
    assert copied.model_fields_set == given.model_fields_set
    assert given.thing is not NEW
    assert replaced(RootModel[list[Any]]([Thing()])).root == [NEW]


class Own(list[Any]):
    """A list with something of its own."""

    name = ""


def test_containers_keep_their_types_and_what_is_their_own() -> None:
    counts: defaultdict[str, Any] = defaultdict(list, best=Thing())
    copied = replaced(counts)
    assert (dict(copied), copied["more"]) == ({"best": NEW}, [])
    own = Own([Thing()])
    own.name = "mine"
    assert (replaced(own), replaced(own).name, type(replaced(own))) == ([NEW], "mine", Own)
    ordered = replaced(OrderedDict(b=Thing(), a=1))
    assert (list(ordered), type(ordered)) == (["b", "a"], OrderedDict)
    assert replaced((frozenset({Thing()}), {Thing(): 1})) == (frozenset({NEW}), {NEW: 1})


def test_what_is_there_twice_has_one_replacement_and_a_ring_ends() -> None:
    inner = [Thing()]
    ring: dict[str, Any] = {"first": inner, "again": inner}
    ring["self"] = ring
    copied = replaced(ring)
    assert copied["first"] is copied["again"]
    assert copied["first"] == [NEW]
    assert copied["self"] is ring


@pytest.mark.parametrize("value", [[1, (2, {"a": {3}})], UserDict(a=1), Trained, "text", None])
def test_where_nothing_is_to_be_replaced_the_object_stays(value: Any) -> None:
    assert replaced(value) is value
