"""Where downloads go: nothing half-written, nothing overwritten; and what a loaded model is used like."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch

from registry import LoadedModel, ModelRegistry, ModelStore
from registry.errors import IntegrityError, InvalidInputError


def _folder(models: ModelRegistry, folder: Path) -> None:
    (folder / "below").mkdir()
    for name in ("a.bin", "below/b.bin", "below/c.bin"):
        (folder / name).write_bytes(name.encode() * 100)
    models.register("digits", folder)


def _linear() -> torch.nn.Module:
    module = torch.nn.Linear(3, 2)
    module.hyperparameters = {"in_features": 3, "out_features": 2}  # type: ignore[assignment]
    return module


def test_a_download_leaves_files_with_the_same_bytes_and_overwrites_no_others(
    models: ModelRegistry, tmp_path: Path
) -> None:
    source, to = tmp_path / "source", tmp_path / "to"
    source.mkdir()
    _folder(models, source)
    (to / "below").mkdir(parents=True)
    (to / "below" / "b.bin").write_bytes(b"mine")
    (to / "mine.txt").write_bytes(b"mine")

    with pytest.raises(InvalidInputError, match=r"b.bin exists with another content and is not overwritten"):
        models.download("digits", 1, to)
    assert (to / "below" / "b.bin").read_bytes() == b"mine"
    assert not list(to.rglob(".tmp-*"))

    (to / "below" / "b.bin").unlink()
    assert models.download("digits", 1, to) == to
    assert models.download("digits", "v1", str(to)) == to, "a second time it is there already"
    assert {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()} == {
        "a.bin", "below/b.bin", "below/c.bin", "mine.txt",
    }  # fmt: skip
    assert (to / "a.bin").stat().st_mode & 0o777 == 0o644


def test_a_download_goes_into_a_folder_and_into_nothing_else(models: ModelRegistry, tmp_path: Path) -> None:
    models.register("digits", b"weights")
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "to" / "artifact.bin").mkdir(parents=True)

    with pytest.raises(InvalidInputError, match="file is a file, and a folder is asked for"):
        models.download("digits", 1, tmp_path / "file")
    with pytest.raises(InvalidInputError, match=r"artifact.bin exists with another content"):
        models.download("digits", 1, tmp_path / "to")
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_download_that_fails_leaves_no_part_of_the_file(
    models: ModelRegistry, store: ModelStore, tmp_path: Path
) -> None:
    source, to = tmp_path / "source", tmp_path / "to"
    source.mkdir()
    _folder(models, source)
    store.replace("models/digits/versions/v1/below/b.bin", b"other")

    with pytest.raises(IntegrityError):
        models.download("digits", 1, to)

    left = {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()}
    assert left == {"a.bin"}, "what was verified before"


def test_a_loaded_model_is_used_like_the_model(models: ModelRegistry) -> None:
    module = _linear()
    models.register("digits", model=module)

    loaded = models.load_model("digits")
    model, metadata = loaded

    assert metadata.version == loaded.metadata.version == "v1"
    assert loaded(torch.zeros(1, 3)).shape == (1, 2)
    assert loaded.in_features == model.in_features == 3
    assert {"in_features", "metadata"} <= set(dir(loaded))
    assert repr(loaded) == "LoadedModel(digits:v1, Linear)"
    with pytest.raises(AttributeError, match="weights_of_another"):
        _ = loaded.weights_of_another


def test_items_and_length_of_a_loaded_model_are_the_models_and_iterating_unpacks_it(models: ModelRegistry) -> None:
    models.register("digits", model={"weight": torch.ones(3), "bias": torch.zeros(1), "scale": torch.ones(1)})

    loaded = models.load_model("digits")

    assert torch.equal(loaded["weight"], torch.ones(3))
    assert "bias" in loaded
    assert "metadata" not in loaded
    assert len(loaded) == 3
    assert [type(part).__name__ for part in loaded] == ["dict", "ModelVersion"]
    with pytest.raises(KeyError, match="other"):
        _ = loaded["other"]


def test_a_loaded_model_without_length_or_items_says_so_like_the_model(models: ModelRegistry) -> None:
    models.register("digits", model=_linear())

    loaded = models.load_model("digits")

    with pytest.raises(TypeError, match=r"'Linear' has no len|has no len"):
        len(loaded)
    with pytest.raises(TypeError, match="not subscriptable"):
        _ = loaded["weight"]
    with pytest.raises(TypeError, match=r"not iterable|not a container"):
        _ = "weight" in loaded
    with pytest.raises(TypeError, match="not callable"):
        LoadedModel(b"weights", loaded.metadata)()


def test_a_loaded_model_is_true_also_when_it_is_empty(models: ModelRegistry) -> None:
    models.register("digits", b"")

    assert models.load_model("digits")
    assert len(models.load_model("digits")) == 0


def test_a_loaded_model_can_be_copied_and_pickled(models: ModelRegistry) -> None:
    models.register("digits", b"weights")
    loaded = models.load_model("digits")

    for again in (copy.copy(loaded), copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):  # noqa: S301 - our own
        assert isinstance(again, LoadedModel)
        assert (again.model, again.metadata) == (b"weights", loaded.metadata)


def test_a_deep_copy_keeps_the_version_of_a_model_that_copies_itself(models: ModelRegistry) -> None:
    models.register("digits", b"weights")
    loaded = LoadedModel(torch.nn.Parameter(torch.ones(3)), models.get_version("digits", 1))

    again = copy.deepcopy(loaded)

    assert isinstance(again, LoadedModel)
    assert again.metadata == loaded.metadata
    assert again.model is not loaded.model
