"""Savers: models of anybody's own kind, by an installed package or in one process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.errors import InvalidInputError, NotFoundError, RefusedError
from registry.frameworks import ModelFramework, SavedModel, load, register_saver, save, savers

CUSTOM = ModelFramework.CUSTOM
PACKAGE = """
import json


class Scale:
    def __init__(self, factor):
        self.factor = factor


class ScaleSaver:
    name = "scale"

    def can_save(self, model):
        return isinstance(model, Scale)

    def save(self, model, folder):
        (folder / "scale.json").write_text(json.dumps({"factor": model.factor}))
        return {"unit": "metre"}

    def load(self, folder, files, info):
        assert info == {"unit": "metre"}
        return Scale(json.loads((folder / files[0]).read_text())["factor"])
"""


class Rule:
    """A model of these tests."""

    def __init__(self, word: str) -> None:
        """Keep a word."""
        self.word = word


class RuleSaver:
    """Writes rules, and fails where it is told to."""

    name = "rule"

    def can_save(self, model: object) -> bool:
        return isinstance(model, Rule)

    def save(self, model: Rule, folder: Path) -> Mapping[str, Any]:
        if model.word == "nothing":
            return {}
        (folder / "below").mkdir()
        (folder / "below" / "rule.txt").write_text(model.word)
        return {"bad": {1, 2}} if model.word == "no json" else {"length": len(model.word)}

    def load(self, folder: Path, files: tuple[str, ...], info: Mapping[str, Any]) -> Rule:
        (file,) = files
        word = (folder / file).read_text()
        if len(word) != info["length"] or word == "not read":
            raise ValueError(f"the rule has {len(word)} letters")
        return Rule(word)


@pytest.fixture(autouse=True)
def _forget_savers() -> Iterator[None]:
    before = dict(savers._registered)  # noqa: SLF001 - the process's own list, put back as it was
    yield
    savers._registered.clear()  # noqa: SLF001 - as above
    savers._registered.update(before)  # noqa: SLF001 - as above


def installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, entry: str = "scale = modelway_scale:ScaleSaver"
) -> Path:
    """Install a distribution as pip does: a module, and its dist-info beside it."""
    site = folder / "site"
    about = site / "modelway_scale-1.2.dist-info"
    about.mkdir(parents=True)
    (site / "modelway_scale.py").write_text(PACKAGE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: modelway-scale\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(f"[{savers.GROUP}]\n{entry}\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "modelway_scale", raising=False)
    return site


def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


def test_a_model_goes_through_the_saver_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch)
    import modelway_scale  # type: ignore[import-not-found]

    folder = model_folder(tmp_path)
    saved = save(modelway_scale.Scale(3), folder)
    assert saved == SavedModel(
        framework=CUSTOM, info={"saver": "scale", "package": "modelway-scale 1.2", "info": {"unit": "metre"}}
    )
    assert json.loads(json.dumps(saved.info)) == saved.info
    assert [path.name for path in folder.iterdir()] == ["scale.json"]
    found = load(folder, framework=CUSTOM, info=saved.info)
    assert isinstance(found, modelway_scale.Scale)
    assert found.factor == 3


def test_a_saver_that_is_not_installed_is_told_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch)
    import modelway_scale

    folder = model_folder(tmp_path)
    saved = save(modelway_scale.Scale(3), folder)
    monkeypatch.undo()
    with pytest.raises(
        NotFoundError, match=r"'scale' \(from modelway-scale 1\.2\), which is not here.*'modelway\.savers'"
    ):
        load(folder, framework=CUSTOM, info=saved.info)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("scale = modelway_scale:Missing", "cannot be loaded: AttributeError"),
        ("scale = modelway_missing:ScaleSaver", "cannot be loaded: ModuleNotFoundError"),
        ("scale = modelway_scale:Scale", "cannot be loaded: TypeError"),
        ("scale = modelway_scale:json", "is no Saver"),
        ("other = modelway_scale:ScaleSaver", "gives a Saver named 'scale'; both must have one name"),
    ],
)
def test_an_entry_point_that_gives_no_saver_is_told_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, why: str
) -> None:
    installed(tmp_path, monkeypatch, entry=entry)
    with pytest.raises(InvalidInputError, match=f"the entry point {entry}.*{why}"):
        save(Rule("x"), tmp_path)


def test_a_saver_of_this_process_saves_and_loads(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="what a Saver takes"):
        save(Rule("short"), tmp_path)
    register_saver(RuleSaver())
    saved = save(Rule("short"), tmp_path)
    assert saved.info == {"saver": "rule", "package": "", "info": {"length": 5}}
    assert load(tmp_path, framework=CUSTOM, info=saved.info).word == "short"
    savers._registered.clear()  # noqa: SLF001 - as in another process
    with pytest.raises(NotFoundError, match=r"a process had registered it.*call register_saver\(\) before loading"):
        load(tmp_path, framework=CUSTOM, info=saved.info)


def test_a_saver_is_asked_before_the_frameworks_when_custom_is_asked_for(tmp_path: Path) -> None:
    class BytesSaver(RuleSaver):
        name = "letters"

        def can_save(self, model: object) -> bool:
            return isinstance(model, bytes)

        def save(self, model: Any, folder: Path) -> Mapping[str, Any]:
            return super().save(Rule(model.decode()), folder)

    register_saver(BytesSaver())
    for name, framework, saver in (("by type", None, None), ("custom", CUSTOM, "letters")):
        folder = tmp_path / name
        folder.mkdir()
        assert save(b"short", folder, framework=framework).info.get("saver") == saver


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("nothing", "wrote no file"),
        ("no json", "failed: TypeError"),
        ("not read", "failed: ValueError: the rule has 8"),
    ],
)
def test_a_saver_that_fails_is_named_when_the_model_is_registered(tmp_path: Path, word: str, why: str) -> None:
    register_saver(RuleSaver())
    with pytest.raises(InvalidInputError, match=f"the Saver 'rule' took a Rule and {why}"):
        save(Rule(word), tmp_path)


def test_a_saver_that_cannot_read_the_files_is_named(tmp_path: Path) -> None:
    register_saver(RuleSaver())
    saved = save(Rule("short"), tmp_path)
    (tmp_path / "below" / "rule.txt").write_text("longer")
    with pytest.raises(RefusedError, match=r"the Saver 'rule' could not read .*ValueError: the rule has 6 letters"):
        load(tmp_path, framework=CUSTOM, info=saved.info)


def test_what_is_no_saver_cannot_be_registered() -> None:
    for wrong in (object(), RuleSaver, type("Nameless", (RuleSaver,), {"name": ""})()):
        with pytest.raises(InvalidInputError, match=r"is no Saver\. It needs a name"):
            register_saver(wrong)  # type: ignore[arg-type]


def test_samples_cannot_go_with_a_saver(tmp_path: Path) -> None:
    register_saver(RuleSaver())
    with pytest.raises(InvalidInputError, match="leave samples out"):
        save(Rule("short"), tmp_path, samples=np.ones((2, 2)))
