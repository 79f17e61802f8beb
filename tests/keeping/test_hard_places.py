"""A full disk, a folder that may not be written, a file in the way: a clear error, and nothing is lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import pytest

from registry import InMemoryModelStore, ModelRegistry
from registry.errors import StoreError

Verb: TypeAlias = Callable[[ModelRegistry, Path], object]

VERBS: dict[str, Verb] = {
    "register": lambda models, _folder: models.register("digits", b"new weights", idempotency_key="k"),
    "promote": lambda models, _folder: models.promote("digits", 3, "production"),
    "annotate": lambda models, _folder: models.annotate("digits", 3, description="words"),
    "delete": lambda models, _folder: models.delete_version("digits", 3),
    "gc": lambda models, _folder: models.gc(dry_run=False, grace=timedelta(0)),
    "rebuild": lambda models, _folder: models.rebuild(),
    "doctor": lambda models, _folder: models.doctor(),
    "verify": lambda models, _folder: models.verify(),
    "import": lambda models, folder: models.import_(folder),
}
NEEDED = {
    "register": 3,
    "promote": 1,
    "annotate": 1,
    "delete": 1,
    "gc": 0,
    "rebuild": 3,
    "doctor": 0,
    "verify": 0,
    "import": 4,
}
"""How many writes a try must have room for, when what earlier tries wrote is there: projections may be late."""


class Filling(InMemoryModelStore):
    """A storage that takes ``left`` more writes, and then none until there is room again."""

    left = 10**9

    def create(self, key: str, data: bytes) -> None:
        self._take(key)
        super().create(key, data)

    def replace(self, key: str, data: bytes) -> None:
        self._take(key)
        super().replace(key, data)

    def _take(self, key: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise StoreError(f"{key}: no space left on the device; nothing was recorded. Free some and repeat.")


@pytest.fixture
def store() -> Filling:
    """Return a storage that can be full."""
    return Filling()


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Return a folder that can be imported."""
    other = ModelRegistry(store=InMemoryModelStore())
    other.register("letters", b"letters")
    other.export("letters", to=tmp_path / "exported")
    return tmp_path / "exported"


def _refusal(verb: Verb, models: ModelRegistry, folder: Path) -> str | None:
    try:
        verb(models, folder)
    except StoreError as error:
        return str(error)
    return None


@pytest.mark.parametrize("verb", VERBS)
def test_a_storage_that_is_full_at_any_moment_loses_nothing_and_the_verb_works_when_there_is_room(
    models: ModelRegistry, store: Filling, exported: Path, verb: str
) -> None:
    artifacts = [models.load_artifact("digits", version) for version in (1, 2, 3)]
    room = 0
    while room < 60:
        store.left = room
        refusal = _refusal(VERBS[verb], ModelRegistry(store=store), exported)
        if refusal is None:
            break
        assert "no space left" in refusal
        store.left = 10**9
        assert models.verify().findings == ()
        assert [models.load_artifact("digits", version) for version in (1, 2, 3)] == artifacts
        room += 1
    store.left = 10**9
    report = models.verify()
    assert report.findings == ()
    # What only reads, or tells what it finds, needs no room; a log that took its record has done what was asked.
    assert room == NEEDED[verb]
    assert len(models.list_versions("digits")) == {"register": 4, "delete": 2}.get(verb, 3)
    if verb == "import":
        assert models.load_artifact("letters", 1) == b"letters"


def test_a_file_where_a_registry_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    source = ModelRegistry(store=InMemoryModelStore())
    source.register("digits", b"weights")
    for work in (
        lambda: ModelRegistry(tmp_path / "file"),
        lambda: source.copy("digits", 1, to=tmp_path / "file"),
        lambda: source.export("digits", to=tmp_path / "file"),
        lambda: source.export("digits", to=tmp_path / "file" / "out.tar"),
    ):
        with pytest.raises(StoreError, match="file"):
            work()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_where_a_folder_of_the_registry_should_be_is_named(tmp_path: Path) -> None:
    models = ModelRegistry(tmp_path / "registry")
    models.register("digits", b"weights")
    (tmp_path / "registry" / "endpoints").write_text("?")
    (tmp_path / "registry" / "models" / "letters").write_text("?")
    with pytest.raises(StoreError, match="a file stands where a folder belongs"):
        models.register("letters", b"weights")
    report = models.verify()
    assert report.ok
    assert models.gc(dry_run=False).removed == ()
    assert models.rebuild().ok
    assert models.doctor().ok


def test_a_folder_where_a_file_of_the_registry_should_be_is_named_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    models = ModelRegistry(tmp_path / "registry")
    for _ in range(2):
        models.register("digits", b"weights")
    folder = tmp_path / "registry/models/digits"
    for file in ("versions/v1/artifact.bin", "versions/v1/status.json", "versions/v2/metadata.json"):
        (folder / file).unlink()
        (folder / file).mkdir()
    report = models.verify()
    assert [(finding.what, finding.file) for finding in report.findings] == [
        ("unreadable", str(folder / "versions/v1/artifact.bin")),
        ("unreadable", str(folder / "versions/v2/metadata.json")),
    ]
    with pytest.raises(StoreError, match="a folder for a file"):
        models.rebuild()


_SCRIPT = """
import os, sys
from pathlib import Path
from datetime import timedelta
from registry import ModelRegistry
from registry.errors import StoreError, StoreForbiddenError

place = Path(sys.argv[1])
{body}
"""


UNSHARE = shutil.which("unshare") or "unshare"


def _in_a_namespace(mount: str, body: str, place: Path) -> None:
    """Run Python where ``mount`` was mounted on ``place``: in a namespace of its own, so that no right is needed."""
    script = place.parent / "script.py"
    script.write_text(_SCRIPT.format(body=textwrap.dedent(body)))
    shell = f'{mount} && exec "$@"'
    support = Path(__file__).parents[1] / "support"
    ran = subprocess.run(
        [UNSHARE, "--user", "--map-root-user", "--mount", "sh", "-euc", shell, "sh", sys.executable, script, place],
        env={"PYTHONPATH": f"{support}:{support.parents[1]}", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if "unshare" in ran.stderr or "mount" in ran.stderr.partition("\n")[0]:
        pytest.skip(f"this system lets nobody mount anything: {ran.stderr.strip()}")
    assert (ran.returncode, ran.stdout) == (0, "done\n"), ran.stderr


def test_a_disk_that_is_really_full_loses_nothing(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    body = """
    models = ModelRegistry(place / "registry", actor="ada")
    models.register("digits", b"w" * 40_000)
    other = ModelRegistry(place.parent / "other", actor="ada")
    other.register("letters", b"l" * 100_000)
    filler = place / "filler"
    filler.write_bytes(b"x" * (os.statvfs(place).f_bavail * os.statvfs(place).f_frsize))

    verbs = {
        "register": lambda: models.register("digits", b"more"),
        "promote": lambda: models.promote("digits", 1, "staging"),
        "copy": lambda: other.copy("letters", 1, to=models),
        "export": lambda: other.export("letters", to=place / "out.tar"),
        "rebuild": lambda: models.rebuild(),
    }
    for name, run in verbs.items():
        try:
            run()
        except StoreError as error:
            assert "o space left on" in str(error), (name, str(error))
        else:
            raise AssertionError(name)
    report = models.doctor()
    assert [probe.name for probe in report.probes if probe.passed is False] == ["write"], report
    report = models.verify()
    assert report.ok and report.versions == 1, report.findings
    models.gc(dry_run=False, grace=timedelta(0))
    assert sorted(path.name for path in place.iterdir()) == ["filler", "registry"], list(place.iterdir())
    assert [str(path) for path in place.rglob(".tmp*")] == []

    filler.unlink()
    for run in verbs.values():
        run()
    assert models.verify().ok
    assert models.load_artifact("letters", 1) == b"l" * 100_000
    print("done")
    """
    _in_a_namespace(f'mount -t tmpfs -o size=512k none "{place}"', body, place)


def test_a_registry_on_a_disk_that_is_mounted_read_only_can_be_read_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "registry"
    models = ModelRegistry(place, actor="ada")
    models.register("digits", b"weights")
    models.export("digits", to=tmp_path / "exported")
    body = """
    models = ModelRegistry(place, actor="ada")
    assert models.verify().ok
    assert models.gc().removed == ()
    assert models.load_artifact("digits", 1) == b"weights"
    assert models.copy("digits", 1, to=place.parent / "other").version == "v1"
    report = models.doctor()
    assert {probe.name for probe in report.probes if probe.passed is False} == {"write"}, report
    assert "read-only" in report.probes[0].detail
    for run in (
        lambda: models.register("digits", b"more"),
        lambda: models.rebuild(),
        lambda: models.import_(place.parent / "exported") and models.register("letters", b"l"),
        lambda: models.delete_version("digits", 1),
    ):
        try:
            run()
        except StoreForbiddenError as error:
            assert "read-only" in str(error), str(error)
        else:
            raise AssertionError(run)
    assert models.load_artifact("digits", 1) == b"weights"
    print("done")
    """
    _in_a_namespace(f'mount --bind "{place}" "{place}" && mount -o remount,ro,bind "{place}"', body, place)
