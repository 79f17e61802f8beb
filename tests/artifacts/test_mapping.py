"""An artifact as a memory map: verified before anybody sees a byte, and there for as long as somebody looks."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from registry import ModelRegistry, ModelStore
from registry.encoding import digest_of
from registry.errors import (
    ArtifactNotFoundError,
    IntegrityError,
    InvalidInputError,
    StoreError,
    VersionNotFoundError,
)

KEY = "models/digits/versions/v1/artifact.bin"
DATA = bytes(range(256)) * 10_000


def _mapped_files() -> set[str]:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.fail("this test reads /proc/self/maps; run it on Linux")
    return {line.split(maxsplit=5)[5] for line in maps.read_text().splitlines() if len(line.split(maxsplit=5)) == 6}


def test_a_mapped_artifact_is_its_bytes_to_read_only(models: ModelRegistry) -> None:
    models.register("digits", DATA)

    view = models.map_artifact("digits", 1)

    assert view.readonly
    assert (view.nbytes, view.format) == (len(DATA), "B")
    assert view == DATA
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1
    assert np.frombuffer(view, dtype=np.uint8)[255] == 255


def test_it_is_found_like_any_version(models: ModelRegistry) -> None:
    for data in (b"1", b"2", b"3"):
        models.register("digits", data)
    models.promote("digits", 1, "production")
    models.set_alias("digits", "champion", 2)

    assert bytes(models.map_artifact("digits")) == b"3"
    assert bytes(models.map_artifact("digits@champion")) == bytes(models.map_artifact("digits", "v2")) == b"2"
    assert bytes(models.map_artifact("digits", stage="production")) == b"1"
    with pytest.raises(VersionNotFoundError, match="digits has no version '4'"):
        models.map_artifact("digits", 4)


def test_an_empty_artifact_is_an_empty_view(models: ModelRegistry) -> None:
    models.register("digits", b"")

    view = models.map_artifact("digits")

    assert (view.nbytes, view.readonly) == (0, True)


@pytest.mark.parametrize("place", [0, len(DATA) // 2, len(DATA) - 1])
def test_a_flipped_byte_is_refused(models: ModelRegistry, store: ModelStore, place: int) -> None:
    models.register("digits", DATA)
    wrong = DATA[:place] + bytes([DATA[place] ^ 1]) + DATA[place + 1 :]
    store.replace(KEY, wrong)

    with pytest.raises(IntegrityError) as caught:
        models.map_artifact("digits")
    assert (caught.value.file, caught.value.expected, caught.value.found) == (
        store.address(KEY), digest_of(DATA), digest_of(wrong),
    )  # fmt: skip
    assert store.read(KEY) == wrong


@pytest.mark.parametrize("wrong", [b"", DATA + b"\0", DATA[:-1]])
def test_another_length_is_refused(models: ModelRegistry, store: ModelStore, wrong: bytes) -> None:
    models.register("digits", DATA)
    store.replace(KEY, wrong)

    with pytest.raises(IntegrityError, match=digest_of(wrong)):
        models.map_artifact("digits")


def test_bytes_where_nothing_was_registered_are_refused(models: ModelRegistry, store: ModelStore) -> None:
    models.register("digits", b"")
    store.replace(KEY, b"something")

    with pytest.raises(IntegrityError, match=digest_of(b"something")):
        models.map_artifact("digits")


def test_a_missing_file_is_refused(models: ModelRegistry, store: ModelStore) -> None:
    models.register("digits", DATA)
    store.delete(KEY)

    with pytest.raises(IntegrityError, match="found no such file"):
        models.map_artifact("digits")


def test_a_folder_where_the_file_belongs_is_refused(on_disk: ModelRegistry, tmp_path: Path) -> None:
    on_disk.register("digits", DATA)
    (tmp_path / "registry" / KEY).unlink()
    (tmp_path / "registry" / KEY).mkdir()

    with pytest.raises(StoreError, match=r"artifact\.bin"):
        on_disk.map_artifact("digits")


def test_many_files_or_none_cannot_be_mapped(models: ModelRegistry, folder: Path) -> None:
    models.register("digits", folder)
    models.register("nothing")

    with pytest.raises(InvalidInputError, match=r"this artifact has 3 files .* not one"):
        models.map_artifact("digits")
    with pytest.raises(ArtifactNotFoundError, match="nothing:v1 was registered without an artifact"):
        models.map_artifact("nothing")


def test_on_disk_the_registrys_own_file_is_mapped_until_nobody_looks(
    on_disk: ModelRegistry, tmp_path: Path, cache: Path
) -> None:
    on_disk.register("digits", DATA)
    file = str(tmp_path / "registry" / KEY)

    view = on_disk.map_artifact("digits")
    numbers = np.frombuffer(view[100:200], dtype=np.uint8)
    assert file in _mapped_files()
    assert not cache.exists()
    del view
    gc.collect()
    assert file in _mapped_files(), "an array still looks into it"
    assert numbers[0] == 100
    del numbers
    gc.collect()
    assert file not in _mapped_files()

    view = on_disk.map_artifact("digits")
    view.release()
    assert file not in _mapped_files()


def test_a_map_outlives_the_registry(on_disk: ModelRegistry, tmp_path: Path) -> None:
    on_disk.register("digits", DATA)
    view = on_disk.map_artifact("digits")

    shutil.rmtree(tmp_path / "registry")

    assert view == DATA


def test_a_file_with_a_second_name_is_mapped_from_a_copy(on_disk: ModelRegistry, tmp_path: Path, cache: Path) -> None:
    on_disk.register("digits", DATA)
    os.link(tmp_path / "registry" / KEY, tmp_path / "second name")

    view = on_disk.map_artifact("digits")
    (tmp_path / "second name").write_bytes(b"changed")

    assert view == DATA
    assert list(cache.rglob("artifact.bin"))


def test_a_changed_copy_is_made_anew_and_disturbs_no_map_of_it(models: ModelRegistry, cache: Path) -> None:
    models.register("digits", DATA)
    before = models.map_artifact("digits")
    for copy in cache.rglob("artifact.bin"):
        copy.rename(copy.with_name("away"))
        copy.write_bytes(b"changed")

    assert models.map_artifact("digits") == DATA
    assert before == DATA
    assert not list(cache.rglob("away"))
