"""What a bare import brings along; what stands in `flows`."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"fastapi", "numpy", "onnx", "onnxruntime", "prefect", "rich", "torch", "typer"}


def imported_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after ``statement``."""
    program = f"import json, sys\n{statement}\nprint(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    return set(json.loads(run(program).stdout))


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own, and see it succeed."""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran


@pytest.mark.parametrize("statement", ["import registry", "from registry import ModelRegistry"])
def test_importing_the_registry_brings_nothing_heavy(statement: str) -> None:
    found = imported_by(statement)
    assert "registry" in found
    assert found & HEAVY == set()


def test_the_look_for_heavy_modules_would_see_one() -> None:
    assert imported_by("import registry, numpy") & HEAVY == {"numpy"}


def test_asking_the_command_line_for_help_starts_no_prefect_and_no_torch() -> None:
    program = (
        "import sys\nfrom deployments.cli import main\nsys.argv = ['modelway', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    ran = run(program)
    assert "run" in ran.stdout
    assert HEAVY & set(ran.stderr.split()) <= {"rich", "typer"}


def test_flows_define_no_classes(root: Path) -> None:
    # Prefect imports a flow's file a second time under another name: a class there would exist twice.
    classes = [
        f"{path.relative_to(root)}:{node.lineno} {node.name}"
        for path in sorted((root / "flows").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert classes == []
