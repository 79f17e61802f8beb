"""Aliases, which are one name at one version, and what is said of a version after it was registered."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import pytest

from registry import ModelRegistry, ModelStore
from registry.errors import InvalidInputError, NotFoundError, StaleExpectationError

NothingChanges: TypeAlias = Callable[[], AbstractContextManager[None]]


def test_an_alias_is_one_name_at_one_version(models: ModelRegistry, store: ModelStore) -> None:
    for _ in range(2):
        models.register("digits")

    assert models.set_alias("digits", "champion", 1).aliases == ("champion",)
    assert models.set_alias("digits", "champion", 2, expect=1).aliases == ("champion",)

    assert models.get_version("digits", 1).aliases == ()
    assert models.get_version("digits", "champion").version == "v2"
    assert models.get_model_metadata("digits@champion").version == "v2"
    assert models.promote("digits", "champion", "staging").version == "v2"
    assert b'"champion"' not in store.read("models/digits/versions/v1/status.json")
    assert b'"champion"' in store.read("models/digits/versions/v2/status.json")
    models.delete_alias("digits", "champion", expect="v2")
    assert b'"champion"' not in store.read("models/digits/versions/v2/status.json")


def test_an_alias_that_moved_meanwhile_is_not_moved(models: ModelRegistry, nothing_changes: NothingChanges) -> None:
    for _ in range(2):
        models.register("digits")
    models.set_alias("digits", "champion", 1, expect=None)

    with nothing_changes():
        assert models.set_alias("digits", "champion", "v1").version == "v1"
        for expect in (None, 2):
            with pytest.raises(StaleExpectationError, match=f"point at {expect or 'nothing'}, found 1"):
                models.set_alias("digits", "champion", 2, expect=expect)
            with pytest.raises(StaleExpectationError):
                models.delete_alias("digits", "champion", expect=expect)
        with pytest.raises(NotFoundError, match=r"digits has no alias 'canary'. It has: champion"):
            models.delete_alias("digits", "canary")
        with pytest.raises(InvalidInputError, match=r"'v3' cannot be an? alias name"):
            models.set_alias("digits", "v3", 1)


def test_what_is_said_later_is_put_over_what_was_registered(models: ModelRegistry) -> None:
    models.register("digits", metrics={"accuracy": 0.9, "mse": 1.0}, tags={"a": "1"}, description="first")

    said = models.annotate(
        "digits", 1, description="second", tags=["b"], metrics={"accuracy": 0.8}, measured_on="sha256:1"
    )

    assert (said.description, said.tags, said.metrics.as_dict()) == (
        "second",
        {"a": "1", "b": ""},
        {"accuracy": 0.8, "mse": 1.0},
    )
    assert said.measured_on == {"accuracy": "sha256:1"}
    assert models.annotate("digits", 1, metrics={"accuracy": 0.7}).measured_on == {}
    assert models.get_sidecar("digits", 1).described.description == "first"


def test_an_annotation_that_cannot_be_is_refused(models: ModelRegistry, nothing_changes: NothingChanges) -> None:
    models.register("digits")
    wrong: list[dict[str, Any]] = [{"tags": "word"}, {"metrics": {"accuracy": "high"}}]

    with nothing_changes():
        for options in wrong:
            with pytest.raises(InvalidInputError):
                models.annotate("digits", 1, **options)
