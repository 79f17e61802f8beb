"""A model repository on a disk and in buckets: what is ours, what stays, what is somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import emulators
import pytest
from triton_parts import REGISTRY, digest_of_network, part_of, sha256, tree

from registry.endpoints.triton.repository import TritonRepository
from registry.errors import EndpointError, InvalidInputError, RefusedError
from registry.store.open import open_store


@pytest.fixture
def repository(tmp_path: Path) -> TritonRepository:
    return TritonRepository(str(tmp_path), registry=REGISTRY, endpoint="shop")


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, Any]]]:
    server = emulators.s3_server if request.param == "s3" else emulators.gcs_server
    with server() as emulator:
        yield f"{emulator.url}/triton", emulator.options


def _fetched_once(number: int, **more: Any) -> Any:
    """Return a part that can be fetched once, and not again."""
    part = part_of(number, **more)
    fetched: list[Path] = []

    def fetch(folder: Path) -> Any:
        assert not fetched, "it was fetched again"
        fetched.append(folder)
        return part.fetch(folder)

    return replace(part, fetch=fetch)


def test_a_version_lies_where_triton_looks_for_it(repository: TritonRepository, tmp_path: Path) -> None:
    staged = repository.put("digits", part_of(3))
    found = tree(tmp_path)
    assert sorted(found) == ["digits/3/model.onnx", "digits/modelway.json", "digits/warmup/3.input"]
    assert sha256(found["digits/3/model.onnx"]) == digest_of_network(3) == staged.digest
    assert len(found["digits/warmup/3.input"]) == 16 * 4
    assert list(repository.markers()) == ["digits"]


def test_files_beside_an_engine_go_with_it_and_its_own_golden_outputs_apart(
    repository: TritonRepository, tmp_path: Path
) -> None:
    repository.put("digits", part_of(3, files={"weights/one.bin": b"1", "golden.npy": b"2"}, samples=None))
    found = tree(tmp_path / "digits")
    assert (found.pop("3/weights/one.bin"), found.pop("golden/3.npy")) == (b"1", b"2")
    assert sorted(found) == ["3/model.onnx", "modelway.json"]


def test_what_is_there_with_the_right_bytes_stays(repository: TritonRepository, tmp_path: Path) -> None:
    part = _fetched_once(3)
    repository.put("digits", part)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    repository.put("digits", part)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_version_that_another_model_of_ours_has_is_not_fetched_again(
    repository: TritonRepository, tmp_path: Path
) -> None:
    part = _fetched_once(3)
    repository.put("digits", part)
    repository.put("digits--candidate", part, near=["digits"])
    found = tree(tmp_path)
    assert found["digits--candidate/3/model.onnx"] == found["digits/3/model.onnx"]


def test_a_damaged_file_is_put_right(repository: TritonRepository, tmp_path: Path) -> None:
    repository.put("digits", part_of(3))
    (tmp_path / "digits/3/model.onnx").write_bytes(b"damaged")
    repository.put("digits", part_of(3))
    assert sha256((tmp_path / "digits/3/model.onnx").read_bytes()) == digest_of_network(3)


def test_another_engine_takes_the_place_of_a_versions_first_one(repository: TritonRepository, tmp_path: Path) -> None:
    repository.put("digits", part_of(3))
    repository.put("digits", part_of(3, seed=8, variant="k8"))
    assert sha256((tmp_path / "digits/3/model.onnx").read_bytes()) == digest_of_network(8)


def test_versions_that_nobody_needs_are_removed(repository: TritonRepository, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        repository.put("digits", part_of(number))
    repository.configure("digits", b"config")
    repository.remove_versions("digits", keep=[2, 3])
    assert sorted(path.name for path in (tmp_path / "digits").iterdir()) == [
        "2", "3", "config.pbtxt", "modelway.json", "warmup",
    ]  # fmt: skip
    with pytest.raises(EndpointError, match=r"version 1 is not under digits .* Begin this one again\."):
        repository.staged("digits", 1)


def test_a_removed_model_leaves_nothing(repository: TritonRepository, tmp_path: Path) -> None:
    repository.put("digits", part_of(3))
    repository.remove("digits")
    repository.remove("digits")
    assert list(tmp_path.iterdir()) == []


def test_a_version_that_goes_while_it_is_copied_is_told_as_gone(repository: TritonRepository, tmp_path: Path) -> None:
    repository.put("digits--candidate", part_of(3))
    (tmp_path / "digits--candidate/3/model.onnx").unlink()
    with pytest.raises(EndpointError, match="version 3 is not under digits--candidate in file://"):
        repository.copy("digits--candidate", "digits", 3)


def test_a_folder_of_somebody_else_is_not_touched(repository: TritonRepository, tmp_path: Path) -> None:
    (tmp_path / "digits/1").mkdir(parents=True)
    (tmp_path / "digits/1/model.onnx").write_bytes(b"theirs")
    _is_refused(repository, tmp_path, r"it was not written by modelway: it has no modelway\.json")


@pytest.mark.parametrize(("registry", "endpoint"), [(REGISTRY, "bakery"), ("another", "shop")])
def test_a_folder_of_another_endpoint_or_registry_is_not_touched(
    repository: TritonRepository, tmp_path: Path, registry: str, endpoint: str
) -> None:
    theirs = TritonRepository(str(tmp_path), registry=registry, endpoint=endpoint)
    theirs.put("digits", part_of(1))
    assert repository.markers() == {}
    _is_refused(repository, tmp_path, f"it belongs to endpoint {endpoint} of registry {registry}")


def _is_refused(repository: TritonRepository, folder: Path, why: str) -> None:
    before = tree(folder)
    for touch in (
        lambda: repository.put("digits", part_of(3)),
        lambda: repository.configure("digits", b"ours"),
        lambda: repository.remove_versions("digits", keep=[]),
        lambda: repository.remove("digits"),
        lambda: repository.claim("digits"),
    ):
        with pytest.raises(RefusedError, match=f"endpoint shop cannot use the model digits in file://.*: {why}"):
            touch()
        assert tree(folder) == before


def test_a_place_that_triton_does_not_read_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"cannot be at az://: give a folder, gs:// or s3://\."):
        TritonRepository("az://models", registry=REGISTRY, endpoint="shop")


@pytest.mark.heavy
def test_a_bucket_holds_the_same_as_a_folder(
    bucket: tuple[str, dict[str, Any]], repository: TritonRepository, tmp_path: Path
) -> None:
    url, options = bucket
    remote = TritonRepository(url, registry=REGISTRY, endpoint="shop", storage_options=options)
    for one in (repository, remote):
        one.put("digits", part_of(1))
        one.put("digits", part_of(2, files={"weights.data": b"x" * 100_000}))
        one.put("digits", part_of(2, seed=9, variant="k9"))
        one.configure("digits", b"config")
        one.remove_versions("digits", keep=[2])
    store = open_store(url, storage_options=options)
    assert {key: store.read(key) for key in store.list("")} == tree(tmp_path)
    remote.remove("digits")
    assert store.list("") == []


@pytest.mark.heavy
def test_in_a_bucket_too_a_folder_of_somebody_else_is_not_touched(bucket: tuple[str, dict[str, Any]]) -> None:
    url, options = bucket
    store = open_store(url, storage_options=options)
    store.create("digits/config.pbtxt", b"theirs")
    remote = TritonRepository(url, registry=REGISTRY, endpoint="shop", storage_options=options)
    with pytest.raises(RefusedError, match="it was not written by modelway"):
        remote.put("digits", part_of(3))
    assert store.list("") == ["digits/config.pbtxt"]
