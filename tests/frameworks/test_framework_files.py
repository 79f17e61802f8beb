"""Which files a loader touches: those of the version, inside its folder, none of them a link."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from registry.errors import ArtifactNotFoundError, RefusedError
from registry.frameworks import ModelFramework, load, save

CUSTOM = ModelFramework.CUSTOM
EVERY = [ModelFramework.CUSTOM, ModelFramework.ONNX, ModelFramework.PYTORCH, ModelFramework.SAFETENSORS]


@pytest.mark.parametrize("framework", EVERY)
@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../secret", "..", "", ".", "a\\..\\secret", "C:secret", "a\x00b", "a\nb"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, framework: ModelFramework, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(RefusedError, match="is no name of a file inside"):
        load(folder, files=[name], framework=framework, info={})


@pytest.mark.parametrize("framework", EVERY)
@pytest.mark.parametrize("files", [None, ["model.bin"]])
def test_a_link_is_refused_wherever_it_leads(
    tmp_path: Path, framework: ModelFramework, files: list[str] | None
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(RefusedError, match=r"model\.bin is a link, device or pipe"):
        load(folder, files=files, framework=framework, info={})


def test_a_linked_folder_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.bin").write_bytes(b"secret")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "below").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError, match="below is a link"):
        load(folder, files=["below/model.bin"], framework=CUSTOM, info={})
    with pytest.raises(RefusedError, match="below is a link"):
        load(folder, framework=CUSTOM, info={})


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.bin")
    with pytest.raises(RefusedError, match="is a link, device or pipe"):
        load(tmp_path, framework=CUSTOM, info={})


def test_a_file_of_the_version_that_is_gone_is_told(tmp_path: Path) -> None:
    for name in ("gone.bin", "gone/model.bin"):
        with pytest.raises(ArtifactNotFoundError, match="is not there, and the artifact has a file of that name"):
            load(tmp_path, files=[name], framework=CUSTOM, info={})


def test_only_the_files_that_are_named_count(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"model")
    (tmp_path / "metadata.json").write_bytes(b"{}")
    assert load(tmp_path, files=["model.bin"], framework=CUSTOM, info={}) == b"model"
    assert load(tmp_path, framework=CUSTOM, info={}) == tmp_path


@pytest.mark.parametrize("kind", ["tensors", "arrays", "bytes"])
def test_a_folder_that_cannot_be_written_is_enough_to_load_from(tmp_path: Path, kind: str) -> None:
    models = {"tensors": {"w": torch.ones(3)}, "arrays": {"w": np.ones(3)}, "bytes": b"model"}
    saved = save(models[kind], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for path in (*tmp_path.iterdir(), tmp_path):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        load(tmp_path, framework=saved.framework, info=saved.info)
    finally:
        tmp_path.chmod(0o755)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_is_unpacked_on_the_way_is_nobody_elses_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = torch.export.export(torch.nn.Linear(3, 2), (torch.ones(2, 3),))
    made: list[int] = []
    real = tempfile.mkdtemp

    def watched(*args: str | None, **kwargs: str | None) -> str:
        folder: str = real(*args, **kwargs)
        made.append(stat.S_IMODE(Path(folder).stat().st_mode))
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", watched)
    before = os.umask(0)
    try:
        saved = save(program, tmp_path)
        load(tmp_path, framework=saved.framework, info=saved.info)
    finally:
        os.umask(before)
    assert made
    assert set(made) == {0o700}
