"""The verbs of the command line that keep a registry in order: what they say, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.testing
from typer.testing import CliRunner, Result

from registry import ModelRegistry
from registry.cli import app, keeping

if TYPE_CHECKING:
    from registry import ModelStore

Modelway = Callable[..., Result]
VERBS = {
    "verify": keeping.verify,
    "copy": keeping.copy,
    "gc": keeping.gc,
    "doctor": keeping.doctor,
    "delete": keeping.delete,
    "rebuild": keeping.rebuild,
    "export": keeping.export,
    "import": keeping.import_,
}


@pytest.fixture(params=["file"])
def store(tmp_path: Path) -> ModelStore:
    """Return a store in the folder that the command line is told of."""
    from registry import FileModelStore

    return FileModelStore(tmp_path / "registry")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder whose ``registry`` is where the registry lies, and act as ``ann``."""
    for name, value in {"MODELWAY_URL": "registry", "MODELWAY_ACTOR": "ann", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "registry"


@pytest.fixture
def modelway() -> Modelway:
    """Return the command line: words in, what it wrote and its exit code out."""
    program, runner = app.make_app(), CliRunner()
    return lambda *words, **more: runner.invoke(program, ["models", *map(str, words)], prog_name="modelway", **more)


@pytest.fixture
def as_json(modelway: Modelway) -> Callable[..., Any]:
    """Return the command line under ``--json``: words in, what it printed out."""
    return lambda *words: json.loads(modelway(*words, "--json").stdout)


@pytest.mark.usefixtures("models")
def test_verify_says_that_all_is_well_and_what_it_looked_at(modelway: Modelway, as_json: Callable[..., Any]) -> None:
    ran = modelway("verify")
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert ran.stdout == (
        "all is as it was recorded: 2 logs of 11 records, 3 versions, 4 files of 51 bytes; an end that was cut off a "
        "log is only seen with --heads\n"
    )
    assert modelway("verify", "digits", "champion", "--shallow").stdout.startswith(
        "all is as it was recorded: 1 logs of 10 records, 1 versions, 2 files;"
    )
    report = as_json("verify")
    assert (report["findings"], report["records"], report["remembered"]) == ([], 11, False)


def test_verify_names_what_is_wrong_and_ends_with_6(modelway: Modelway, models: ModelRegistry, place: Path) -> None:
    bad = place / "models/digits/versions/v2/artifact.bin"
    bad.write_bytes(b"?")
    models.store.create("models/digits/versions/v9/a.bin", b"?")
    ran = modelway("verify")
    assert ran.exit_code == 6
    assert "not as recorded: 1 thing: " in ran.stdout
    assert f"{bad}" in ran.stdout
    assert "changed: it has 1 bytes, and 13 were recorded" in ran.stdout
    assert "1 files of no version" in ran.stdout
    shown = modelway("verify", "--json")
    assert (shown.exit_code, json.loads(shown.stdout)["findings"][0]["file"]) == (6, str(bad))
    assert modelway("verify", "digits", "1").exit_code == 0


def test_verify_remembers_what_it_is_given(modelway: Modelway, models: ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "heads.json").write_text(modelway("verify", "--json").stdout)
    assert "--heads" not in modelway("verify", "--heads", "heads.json").stdout
    models.store.delete("models/digits/log/000000000010.json")
    models.store.replace(
        "models/digits/versions/v2/status.json",
        models.store.read("models/digits/versions/v2/status.json").replace(b'"as_of": 10', b'"as_of": 8'),
    )
    ran = modelway("verify", "--heads", "heads.json")
    assert ran.exit_code == 6
    assert "record 10 was seen before, and now the log ends at record 9" in ran.stdout
    for name, content in (("none.json", None), ("list.json", "[]"), ("other.json", '{"heads":{"log":3}}')):
        if content is not None:
            (tmp_path / name).write_text(content)
        ran = modelway("verify", "--heads", name)
        assert ran.exit_code == 2
        assert "give what verify --json printed" in ran.stderr


@pytest.mark.usefixtures("models")
def test_doctor_shows_each_probe(modelway: Modelway, as_json: Callable[..., Any]) -> None:
    ran = modelway("doctor")
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert [line.strip().split("  ")[0] for line in ran.stdout.splitlines()[3:] if line.strip()][:4] == [
        "write", "read", "list", "exclusive create",
    ]  # fmt: skip
    assert {probe["passed"] for probe in as_json("doctor")["probes"]} == {True}


def test_doctor_ends_with_1_where_something_failed(modelway: Modelway, models: ModelRegistry) -> None:
    models.store.replace("registry.json", b'{"format":9}')
    ran = modelway("doctor")
    assert ran.exit_code == 1
    assert "FAILED" in ran.stdout
    assert "format 9, and this release reads up to 1" in ran.stdout


def test_a_place_without_a_registry_can_be_tried_by_doctor_and_by_no_other(modelway: Modelway, place: Path) -> None:
    assert modelway("doctor").exit_code == 0
    for words in (["verify"], ["gc"], ["rebuild"], ["delete", "digits", "1"], ["copy", "digits", "1", "--to", "x"]):
        ran = modelway(*words)
        assert (ran.exit_code, "no registry at" in ran.stderr) == (1, True)
    assert not any(place.rglob("*"))


def test_gc_says_what_it_would_do_and_does_it_when_told_to(
    modelway: Modelway, models: ModelRegistry, as_json: Callable[..., Any], place: Path
) -> None:
    assert modelway("gc").stdout == "there is nothing to remove\n"
    bad = place / "models/digits/versions/v9/a.bin"
    models.store.create("models/digits/versions/v9/a.bin", b"?")
    lines = modelway("gc", "--grace", "0").stdout.splitlines()
    assert lines[:2] == [
        "0 reservations and 1 file: of no use; nothing was changed",
        "to do it:  modelway models gc --apply --grace 0.0",
    ]
    assert bad.exists()
    assert as_json("gc")["kept"][0]["file"] == str(bad)
    assert modelway("gc", "--apply", "--grace", "0").stdout.startswith("0 reservations and 1 file: given up and remov")
    assert not bad.exists()
    assert modelway("gc", "--grace", "-1").exit_code == 2


def test_rebuild_counts_what_it_wrote_and_ends_with_6_where_a_log_cannot_be_believed(
    modelway: Modelway, models: ModelRegistry
) -> None:
    assert modelway("rebuild").stdout == "written anew: 3 status.json, 0 checkpoints, 0 head.json\n"
    assert modelway("rebuild", "digits").exit_code == 0
    assert modelway("rebuild", "digit").exit_code == 1
    models.store.replace("models/digits/log/000000000002.json", b"?")
    ran = modelway("rebuild")
    assert ran.exit_code == 6
    assert "000000000002.json" in ran.stdout


def test_delete_does_not_delete_where_nobody_can_answer(modelway: Modelway, models: ModelRegistry) -> None:
    ran = modelway("delete", "digits", "3")
    assert (ran.exit_code, "give --yes" in ran.stderr) == (2, True)
    assert len(models.list_versions("digits")) == 3


@pytest.mark.parametrize(("answer", "left"), [("n\n", 3), ("\n", 3), ("y\n", 2)])
def test_delete_asks_and_does_as_it_is_told(
    modelway: Modelway, models: ModelRegistry, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    monkeypatch.setattr(typer.testing._NamedTextIOWrapper, "isatty", lambda _self: True, raising=False)  # noqa: SLF001 - the runner's standard input
    ran = modelway("delete", "digits", "3", input=answer)
    assert "Delete digits:v3 (development) and its files for good?" in ran.stderr
    assert len(models.list_versions("digits")) == left
    if left == 2:
        assert (ran.exit_code, ran.stdout.splitlines()[0]) == (0, "digits:v3 is deleted")
    else:
        assert (ran.exit_code, ran.stdout, "nothing was changed" in ran.stderr) == (1, "", True)


def test_delete_refuses_what_is_in_use_and_takes_a_yes(
    modelway: Modelway, models: ModelRegistry, as_json: Callable[..., Any]
) -> None:
    ran = modelway("delete", "digits", "champion", "--yes")
    assert ran.exit_code == 1
    assert len(models.list_versions("digits")) == 3
    assert as_json("delete", "digits", "3", "-y", "--reason", "a trial") == {
        "name": "digits",
        "version": "v3",
        "deleted": True,
    }
    assert modelway("delete", "digits", "3", "-y").exit_code == 1


@pytest.mark.usefixtures("models")
def test_copy_says_where_the_version_is_now(modelway: Modelway, as_json: Callable[..., Any], tmp_path: Path) -> None:
    assert modelway("copy", "digits@champion", "champion", "--to", "other").exit_code == 2
    assert modelway("copy", "digits", "champion", "--to", "other", "--no-variants").stdout.splitlines() == [
        "digits:v2 is in other, in development",
        "to see it:  modelway --url other models show digits v2",
    ]
    assert as_json("copy", "digits", "2", "--to", "other")["variants"] == ["e" * 64]
    assert ModelRegistry(tmp_path / "other").load_artifact("digits", 2) == b"weights of v2"


def test_export_and_import_bring_versions_to_another_registry(
    modelway: Modelway, models: ModelRegistry, as_json: Callable[..., Any]
) -> None:
    assert modelway("export", "digits", "--to", "out.tar").stdout.splitlines() == [
        "in out.tar: digits:v1, digits:v2, digits:v3",
        "to bring them into another registry:  modelway models import out.tar",
    ]
    assert modelway("export", "digits", "--to", "out.tar").exit_code == 2
    assert as_json("export", "digits", "3", "--to", "folder")[0]["version"] == "v3"
    ran = modelway("import", "out.tar", "--url", "other")
    assert ran.stdout == "registered: digits:v1, digits:v2, digits:v3\n"
    (third,) = as_json("import", "folder", "--url", "third")
    artifact = models.get_version("digits", 3).artifact
    assert artifact is not None
    assert third["artifact"] == artifact.model_dump()
    assert modelway("import", "nowhere").exit_code == 1


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_and_each_of_its_options_have_a_help(modelway: Modelway, verb: str) -> None:
    shown = modelway(verb, "--help")
    assert shown.exit_code == 0
    assert (VERBS[verb].__doc__ or "").split()[0] in shown.stdout
