"""What the tests of the house look at: the tree itself."""

from __future__ import annotations

from pathlib import Path

import pytest

PACKAGES = ("registry", "tasks", "flows", "deployments")
FOLDERS = (*PACKAGES, "configs", "tests", "docs", "benchmarks", ".ci")


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the root of the checkout."""
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def packages() -> tuple[str, ...]:
    """Return the names of the import packages, the topmost layer last."""
    return PACKAGES


@pytest.fixture(scope="session")
def sources(root: Path) -> tuple[Path, ...]:
    """Return every file that is part of the project; without git, so that an unpacked archive passes as well."""
    tops = [path for path in root.iterdir() if path.is_file()]
    nested = [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file()]
    return tuple(sorted(path for path in tops + nested if not _made(path.relative_to(root))))


def _made(path: Path) -> bool:
    return any(part == "__pycache__" or (part.endswith("_cache") and part.startswith(".")) for part in path.parts)


@pytest.fixture(scope="session")
def modules(sources: tuple[Path, ...], root: Path) -> tuple[Path, ...]:
    """Return the Python files that are no tests."""
    return tuple(path for path in sources if path.suffix == ".py" and path.relative_to(root).parts[0] != "tests")
