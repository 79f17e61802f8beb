"""What cannot be registered is refused before a byte is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch

from registry import InMemoryModelStore, ModelRegistry
from registry.errors import (
    ArtifactNotFoundError,
    InvalidInputError,
    InvalidNameError,
    InvalidVersionError,
    StoreError,
    VersionExistsError,
)

NothingChanges: TypeAlias = Callable[[], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("wish", "error", "message"),
    [
        ({"version": "latest"}, InvalidVersionError, "'latest' is no version"),
        ({"version": 0}, InvalidVersionError, "0 is no version"),
        ({"version": 1, "bump": "minor"}, InvalidInputError, "give either a version or a bump, not both"),
        ({"bump": "huge"}, InvalidInputError, "'huge' is no part of a semantic version; bump is one of: major, minor"),
        ({"artifact": b"a", "artifact_path": "b"}, InvalidInputError, "give one of artifact, artifact_path and model"),
        ({"artifact": b"a", "model": b"b"}, InvalidInputError, "give one of artifact, artifact_path and model"),
        ({"artifact": b"a", "samples": np.zeros((1, 2))}, InvalidInputError, "samples go with model="),
        ({"model": object()}, InvalidInputError, "builtins.object, which is nothing that a framework here can save"),
        ({"model": torch.nn.Linear(2, 2), "framework": "onnx"}, InvalidInputError, "framework onnx was asked for"),
        ({"framework": "caffe"}, InvalidInputError, "'caffe' is no ModelFramework"),
        ({"artifact": "/nowhere/at/all"}, ArtifactNotFoundError, "there is no file or folder at /nowhere/at/all"),
        ({"artifact_path": "missing.pt"}, ArtifactNotFoundError, r"no file or folder at missing.pt \(looked in /"),
        ({"metrics": {"accuracy": "high"}}, InvalidInputError, "the metric 'accuracy' is 'high'"),
        ({"parameters": {"a": object()}}, InvalidInputError, "parameters cannot be stored as JSON"),
        ({"parameters": {"a": float("nan")}}, InvalidInputError, "parameters cannot be stored as JSON"),
        ({"lineage": {"a": {1, 2}}}, InvalidInputError, "lineage cannot be stored as JSON"),
        ({"tags": "baseline"}, InvalidInputError, r"found the string 'baseline': write \['baseline'\]"),
    ],
)
@pytest.mark.parametrize("before", [0, 1])
def test_a_registration_that_cannot_be_is_refused_and_nothing_is_written(  # noqa: PLR0913, PLR0917 - what is asked and answered
    models: ModelRegistry,
    nothing_changes: NothingChanges,
    before: int,
    wish: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    for _ in range(before):
        models.register("digits")

    with nothing_changes(), pytest.raises(error, match=message):
        models.register("digits", **wish)


@pytest.mark.parametrize("name", ["Digits", "", "a--b", "../up", "v1", "production"])
def test_a_name_outside_the_grammar_is_refused(
    models: ModelRegistry, nothing_changes: NothingChanges, name: str
) -> None:
    with nothing_changes(), pytest.raises(InvalidNameError, match="cannot be a model name"):
        models.register(name, b"weights")


def test_a_name_that_people_would_mix_up_with_another_is_refused(
    models: ModelRegistry, nothing_changes: NothingChanges
) -> None:
    models.register("my-model")

    with nothing_changes(), pytest.raises(InvalidNameError, match="'my_model' would be mistaken for 'my-model'"):
        models.register("my_model", b"weights")
    assert models.list_models() == ["my-model"]


def test_a_label_that_is_taken_is_refused(models: ModelRegistry, nothing_changes: NothingChanges) -> None:
    models.register("digits", b"first", version="v1")

    with nothing_changes():
        for version in (1, "1", "v1"):
            with pytest.raises(VersionExistsError, match="digits:v1 is registered already; versions are immutable"):
                models.register("digits", b"second", version=version)
    assert models.load_artifact("digits", 1) == b"first"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (1, "1.0.0", r"digits has automatic versions \(1, 2, 3\), and '1.0.0' is none; a model keeps its strategy"),
        ("1.0.0", 1, r"digits has semantic versions \(1.2.0\), and 1 is none"),
    ],
)
def test_a_model_keeps_its_strategy(
    models: ModelRegistry, nothing_changes: NothingChanges, first: Any, second: Any, message: str
) -> None:
    models.register("digits", version=first)

    with nothing_changes(), pytest.raises(InvalidVersionError, match=message):
        models.register("digits", version=second)


def test_automatic_numbers_are_not_bumped(models: ModelRegistry, nothing_changes: NothingChanges) -> None:
    models.register("digits")

    with nothing_changes(), pytest.raises(InvalidInputError, match="has automatic version numbers, and bump is for"):
        models.register("digits", bump="minor")


@pytest.fixture
def folder_of_files(tmp_path: Path) -> Path:
    """Return a folder with one file, to which each test adds what must not be there."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize("where", ["link", "below/link"])
@pytest.mark.parametrize("target", ["model.bin", ".", "nowhere"])
def test_a_link_inside_a_folder_is_refused(
    models: ModelRegistry, nothing_changes: NothingChanges, folder_of_files: Path, where: str, target: str
) -> None:
    link = folder_of_files / where
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(folder_of_files / target)

    with nothing_changes(), pytest.raises(InvalidInputError, match=r"is a link, device or pipe.*copy the file"):
        models.register("digits", folder_of_files)


def test_a_pipe_is_refused_and_not_waited_for(
    models: ModelRegistry, nothing_changes: NothingChanges, folder_of_files: Path
) -> None:
    os.mkfifo(folder_of_files / "pipe")

    with nothing_changes():
        for path in (folder_of_files, folder_of_files / "pipe"):
            with pytest.raises(InvalidInputError, match="is a link, device or pipe"):
                models.register("digits", path)


@pytest.mark.parametrize("name", ["metadata.json", "status.json", "variants/engine.bin"])
def test_a_name_that_is_kept_for_our_own_files_is_refused(
    models: ModelRegistry, nothing_changes: NothingChanges, folder_of_files: Path, name: str
) -> None:
    (folder_of_files / name).parent.mkdir(exist_ok=True)
    (folder_of_files / name).write_bytes(b"{}")

    with nothing_changes():
        with pytest.raises(InvalidInputError, match=f"'{name}' is a name that modelway keeps for its own files"):
            models.register("digits", folder_of_files)
        if "/" not in name:
            with pytest.raises(InvalidInputError, match="is a name that modelway keeps"):
                models.register("digits", folder_of_files / name)


def test_our_names_are_free_further_down(models: ModelRegistry, folder_of_files: Path) -> None:
    (folder_of_files / "below").mkdir()
    (folder_of_files / "below" / "metadata.json").write_bytes(b"{}")

    assert models.register("digits", folder_of_files).version == "v1"


@pytest.mark.parametrize("name", [b"a\nb", b"a\\b", b"not-utf-8-\xff"])
def test_a_file_name_that_is_no_key_is_refused(
    models: ModelRegistry, nothing_changes: NothingChanges, folder_of_files: Path, name: bytes
) -> None:
    with open(os.path.join(os.fsencode(folder_of_files), name), "wb"):  # noqa: PTH118, PTH123 - a name that no str has
        pass

    with nothing_changes(), pytest.raises(InvalidInputError, match="is no storage key"):
        models.register("digits", folder_of_files)


def test_an_empty_folder_is_nothing_to_register(
    models: ModelRegistry, nothing_changes: NothingChanges, tmp_path: Path
) -> None:
    (tmp_path / "empty" / "below").mkdir(parents=True)

    with nothing_changes(), pytest.raises(ArtifactNotFoundError, match="holds no files; there is nothing to register"):
        models.register("digits", tmp_path / "empty")


def test_a_store_whose_create_is_not_exclusive_is_refused_at_first_use() -> None:
    class Overwriting(InMemoryModelStore):
        def create(self, key: str, data: bytes) -> None:
            self.replace(key, data)

    store = Overwriting()

    with pytest.raises(StoreError, match="lets two writers create the same object, so records would be lost"):
        ModelRegistry(store=store).register("digits", b"model")

    assert store.list("") == []
