"""Files on this machine: used where they lie, or verified copies that hold what was registered and nothing else."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from typing_extensions import override

from registry import InMemoryModelStore, ModelRegistry
from registry.errors import IntegrityError


def _linear() -> torch.nn.Module:
    module = torch.nn.Linear(3, 2)
    module.hyperparameters = {"in_features": 3, "out_features": 2}  # type: ignore[assignment]
    return module


def _negative() -> onnx.ModelProto:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negative", tensors[:1], tensors[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _content(top: Path) -> dict[str, bytes]:
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()}


@pytest.fixture
def forbid_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which no temporary folder can be made, and no cache."""

    def forbid() -> None:
        (tmp_path / "a file").touch()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a file"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))

    return forbid


def test_a_model_in_a_registry_on_this_machine_is_loaded_without_a_copy(
    on_disk: ModelRegistry, tmp_path: Path, forbid_copies: Callable[[], None]
) -> None:
    (tmp_path / "trained").mkdir()
    torch.save({"weight": torch.ones(3)}, tmp_path / "trained" / "model.pt")
    onnx.save(_negative(), tmp_path / "trained" / "model.onnx")
    on_disk.register("tensors", tmp_path / "trained" / "model.pt")
    on_disk.register("negative", tmp_path / "trained" / "model.onnx")
    on_disk.register("bytes", b"weights")
    before = _content(tmp_path / "registry")
    forbid_copies()

    assert torch.equal(on_disk.load("tensors")["weight"], torch.ones(3))
    assert on_disk.load("negative") == _negative()
    assert on_disk.load("bytes") == b"weights"
    assert _content(tmp_path / "registry") == before


def test_a_changed_byte_is_refused_where_it_lies(
    on_disk: ModelRegistry, tmp_path: Path, forbid_copies: Callable[[], None]
) -> None:
    onnx.save(_negative(), tmp_path / "model.onnx")
    on_disk.register("digits", tmp_path / "model.onnx")
    file = tmp_path / "registry" / "models" / "digits" / "versions" / "v1" / "model.onnx"
    right = file.read_bytes()
    file.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    forbid_copies()

    with pytest.raises(IntegrityError, match=r"model\.onnx is not what was recorded"):
        on_disk.load("digits")


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_file_with_a_second_name_is_copied_before_it_is_used(
    on_disk: ModelRegistry, tmp_path: Path, forbid_copies: Callable[[], None], link: Callable[[Path, Path], None]
) -> None:
    onnx.save(_negative(), tmp_path / "model.onnx")
    on_disk.register("digits", tmp_path / "model.onnx")
    file = tmp_path / "registry" / "models" / "digits" / "versions" / "v1" / "model.onnx"
    file.rename(tmp_path / "elsewhere")
    link(tmp_path / "elsewhere", file)

    assert on_disk.load("digits") == _negative()
    forbid_copies()
    with pytest.raises(NotADirectoryError):
        on_disk.load("digits")


def test_files_that_others_put_beside_a_models_own_are_not_taken_for_its_own(
    on_disk: ModelRegistry, tmp_path: Path
) -> None:
    on_disk.register("digits", model=_linear())
    (tmp_path / "registry" / "models" / "digits" / "versions" / "v1" / "samples.npz").write_bytes(b"of others")
    (tmp_path / "registry" / "models" / "digits" / "versions" / "v1" / "other.pt").write_bytes(b"of others")

    assert on_disk.load("digits").in_features == 3
    assert on_disk.load_samples("digits", 1) is None


def test_a_folder_comes_back_as_a_copy_of_the_users_own(models: ModelRegistry, folder: Path, cache: Path) -> None:
    version = models.register("digits", folder)

    loaded = models.load("digits")

    assert version.artifact is not None
    assert loaded == cache / version.artifact.digest.removeprefix("sha256:")
    assert _content(loaded) == _content(folder)
    assert models.load("digits", 1) == loaded


def test_a_copy_that_was_changed_is_made_anew(models: ModelRegistry, folder: Path, cache: Path, tmp_path: Path) -> None:
    models.register("digits", folder)
    loaded = models.load("digits")
    right, outside = _content(loaded), tmp_path / "outside"
    outside.mkdir()
    (outside / "a.bin").write_bytes((loaded / "a.bin").read_bytes())

    def by_a_link() -> None:
        (loaded / "a.bin").unlink()
        (loaded / "a.bin").symlink_to(outside / "a.bin")

    for change in (
        lambda: (loaded / "a.bin").write_bytes(b"changed"),
        lambda: (loaded / "below" / "extra.bin").write_bytes(b"extra"),
        lambda: (loaded / "linked").symlink_to(outside),
        lambda: os.link(loaded / "a.bin", tmp_path / "second name"),
        (loaded / "below" / "b.bin").unlink,
        by_a_link,
    ):
        change()
        assert models.load("digits") == loaded
        assert _content(loaded) == right
        assert not any(path.is_symlink() for path in loaded.rglob("*"))
    assert sorted(path.name for path in cache.iterdir()) == [loaded.name, f"{loaded.name}.lock"]
    assert list(outside.iterdir()) == [outside / "a.bin"], "what a link led to is not ours to remove"


def test_no_copy_is_left_of_a_folder_that_is_damaged_in_the_registry(folder: Path, cache: Path) -> None:
    store = InMemoryModelStore()
    models = ModelRegistry(store=store, actor="ada@example.com")
    models.register("digits", folder)
    store.replace("models/digits/versions/v1/below/c.bin", b"other")

    with pytest.raises(IntegrityError, match=r"c\.bin"):
        models.load("digits")
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


class Slow(InMemoryModelStore):
    """A store that takes its time, and counts what is asked of it."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        super().__init__()
        self.asked: list[str] = []

    @override
    def chunks(self, key: str) -> Iterator[bytes]:
        self.asked.append(key)
        threading.Event().wait(0.05)
        yield from super().chunks(key)


def test_threads_that_load_a_folder_at_one_time_all_get_the_whole_of_it_by_one_transfer(folder: Path) -> None:
    store = Slow()
    models = ModelRegistry(store=store, actor="ada@example.com")
    models.register("digits", folder)
    together = threading.Barrier(8, timeout=60)

    def load(_number: int) -> dict[str, bytes]:
        together.wait()
        return _content(models.load("digits"))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(load, range(8))) == [_content(folder)] * 8
    assert len(store.asked) == 3, "each file once"


def _load_and_spoil(place: Path, number: int) -> None:
    loaded: Path = ModelRegistry(place, actor="ada@example.com").load("digits")
    with contextlib.suppress(FileNotFoundError):  # another process is putting the copy that it mended in its place
        (loaded / f"extra-{number}").touch()


@pytest.mark.heavy
def test_processes_that_load_a_folder_while_others_spoil_the_copy_all_succeed(
    on_disk: ModelRegistry, folder: Path, tmp_path: Path, cache: Path
) -> None:
    on_disk.register("digits", folder)

    with multiprocessing.get_context("spawn").Pool(4) as processes:
        asked = [processes.apply_async(_load_and_spoil, (tmp_path / "registry", number)) for number in range(60)]
        for one in asked:
            one.get(timeout=120)

    assert _content(on_disk.load("digits")) == _content(folder)
    assert not list(cache.glob(".tmp-*"))
