"""Each import contract is broken on purpose, and seen to be caught."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


class Offence(NamedTuple):
    """An import that the contract of this name forbids."""

    contract: str
    importer: str
    imported: str


def offences() -> list[Offence]:
    """Return, for each contract, an offence of each module that it binds."""
    with PYPROJECT.open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    return [offence for contract in contracts for offence in _offences_against(contract)]


def _offences_against(contract: dict[str, Any]) -> list[Offence]:
    name = contract["name"]
    if contract["type"] == "layers":
        return [Offence(name, lower, upper) for upper, lower in itertools.combinations(contract["layers"], 2)]
    forbidden, ignored = contract["forbidden_modules"], contract.get("ignore_imports", [])
    pairs = zip(contract["source_modules"], itertools.cycle(forbidden), strict=False)
    return [Offence(name, *pair) for pair in pairs if " -> ".join(pair) not in ignored]


def file_of(module: str, tree: Path) -> Path:
    """Return the file of a module or package in a copy of the tree."""
    path = tree.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over a copy of the tree."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-cache"], cwd=tree, capture_output=True, text=True, check=False, env={"COLUMNS": "200"}
    )


@pytest.fixture
def tree(tmp_path: Path, root: Path, packages: tuple[str, ...]) -> Path:
    """Return a copy of the packages and of the contracts."""
    for package in packages:
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PYPROJECT, tmp_path)
    return tmp_path


def test_the_tree_as_it_is_keeps_every_contract(tree: Path) -> None:
    linted = lint_imports(tree)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert " 0 broken." in linted.stdout


@pytest.mark.parametrize("offence", offences(), ids=lambda offence: f"{offence.importer} imports {offence.imported}")
def test_an_import_against_a_contract_is_caught_even_inside_a_function(tree: Path, offence: Offence) -> None:
    planted = f"\n\ndef _planted() -> None:\n    import {offence.imported}\n"
    with file_of(offence.importer, tree).open("a", encoding="utf-8") as file:
        file.write(planted)
    linted = lint_imports(tree)
    assert linted.returncode != 0
    assert f"{offence.contract} BROKEN" in linted.stdout
    assert f"{offence.importer} -> {offence.imported}" in linted.stdout
