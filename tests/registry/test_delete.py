"""A version that is deleted is gone for everybody, and nothing that is needed can be deleted."""

from __future__ import annotations

import pytest

from registry import ModelRegistry, ModelStore
from registry.errors import (
    IllegalTransitionError,
    ModelNotFoundError,
    NotFoundError,
    VersionExistsError,
    VersionInUseError,
    VersionNotFoundError,
)


@pytest.fixture
def three(models: ModelRegistry) -> ModelRegistry:
    """Return a registry with three versions of one model."""
    for number in (1, 2, 3):
        models.register("digits", f"model {number}".encode(), idempotency_key=f"run {number}")
    return models


def _files(store: ModelStore, version: str) -> list[str]:
    return store.list(f"models/digits/versions/{version}")


def _everything(store: ModelStore) -> dict[str, bytes]:
    return {key: store.read(key) for key in store.list("")}


def test_a_deleted_version_is_found_by_nobody_and_its_files_are_gone(three: ModelRegistry) -> None:
    three.delete_version("digits", 2, reason="trained on the wrong data")

    for registry in (three, ModelRegistry(store=three.store)):
        assert [version.version for version in registry.list_versions("digits")] == ["v1", "v3"]
        with pytest.raises(VersionNotFoundError, match="digits has no version '2'"):
            registry.load("digits", 2)
    assert _files(three.store, "v2") == []
    assert _files(three.store, "v1") != []


def test_the_label_of_a_deleted_version_is_never_given_again(three: ModelRegistry) -> None:
    three.delete_version("digits", 3)

    with pytest.raises(VersionExistsError, match="digits:v3 was registered and deleted already"):
        three.register("digits", b"another", version=3)
    assert three.register("digits", b"another").version == "v4"
    with pytest.raises(VersionExistsError, match="digits:v3, which the key 'run 3' registered, has been deleted since"):
        three.register("digits", b"model 3", idempotency_key="run 3")
    assert _files(three.store, "v3") == []
    assert [version.version for version in three.list_versions("digits")] == ["v1", "v2", "v4"]


def test_a_model_whose_only_version_is_deleted_is_not_found(models: ModelRegistry) -> None:
    models.register("digits", b"model")
    models.delete_version("digits", 1)

    with pytest.raises(ModelNotFoundError):
        models.get_model("digits")
    models.delete_version("digits", 1)
    assert models.register("digits", b"model").version == "v2"


@pytest.mark.parametrize("version", [1, "v1", "champion"])
def test_what_is_in_production_cannot_be_deleted_by_any_name(three: ModelRegistry, version: str | int) -> None:
    three.promote("digits", 1, "production")
    three.set_alias("digits", "champion", 1)
    before = _everything(three.store)

    with pytest.raises(VersionInUseError, match="digits:v1 is in production and cannot be deleted"):
        three.delete_version("digits", version, force=True)

    assert _everything(three.store) == before


def test_what_has_an_alias_is_deleted_only_by_force_and_takes_the_alias_with_it(three: ModelRegistry) -> None:
    three.set_alias("digits", "champion", 1)
    before = _everything(three.store)
    with pytest.raises(VersionInUseError, match="digits:v1 has the alias champion and was not deleted"):
        three.delete_version("digits", 1)
    assert _everything(three.store) == before

    three.delete_version("digits", 1, force=True)

    with pytest.raises(NotFoundError, match="digits has no alias 'champion'"):
        three.load("digits@champion")


def test_nobody_goes_back_to_a_deleted_version(three: ModelRegistry) -> None:
    three.promote("digits", 1, "production")
    three.promote("digits", 2, "production")
    three.promote("digits", 3, "production")
    three.delete_version("digits", 2)

    assert three.rollback("digits").version == "v1"
    with pytest.raises(IllegalTransitionError, match="no earlier production version"):
        three.rollback("digits")


def test_deleting_again_removes_what_a_first_try_left(three: ModelRegistry) -> None:
    three.delete_version("digits", 2)
    three.store.create("models/digits/versions/v2/artifact.bin", b"left behind")
    three.store.create("models/digits/versions/v20/artifact.bin", b"another's")

    three.delete_version("digits", "v2")

    assert _files(three.store, "v2") == []
    assert _files(three.store, "v20") != [], "a folder whose name begins alike is another's"


def test_a_version_that_never_was_cannot_be_deleted(three: ModelRegistry) -> None:
    before = _everything(three.store)

    with pytest.raises(VersionNotFoundError):
        three.delete_version("digits", 7)
    with pytest.raises(ModelNotFoundError):
        three.delete_version("digit", 1)

    assert _everything(three.store) == before


def test_an_answer_about_a_deleted_version_is_refused(three: ModelRegistry) -> None:
    asked = three.request_approval("digits", 2, "production")
    three.delete_version("digits", 2)

    with pytest.raises(VersionNotFoundError):
        three.answer_approval("digits", asked.id, "approve", approver="bob@example.com")


def test_the_history_of_a_deleted_version_stays(three: ModelRegistry) -> None:
    three.promote("digits", 2, "staging", reason="looked good")
    three.delete_version("digits", 2)

    assert [moved.reason for moved in three.get_transitions("digits")] == ["looked good"]
