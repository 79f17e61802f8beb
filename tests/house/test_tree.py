"""Rules for all files: links that lead somewhere, nothing of one machine, rooms of a size to be read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)[^)]*\)")
MACHINE = re.compile(
    r"(?<![\w.:$}*-])/(?:home|Users|root|work|opt|mnt)/\w"  # somebody's home, or where something lies on one machine
    r"|\b(?:https?|file)://[^\s\"'<>)]*(?:pypi|pythonhosted|/simple\b|/whl\b)"  # a package index
)
MODULE_LINES = 320
BODY_LINES = 45


def test_every_relative_link_leads_to_a_file(sources: tuple[Path, ...], root: Path) -> None:
    pages = [path for path in sources if path.suffix == ".md"]
    links = [(page, link) for page in pages for link in LINK.findall(page.read_text(encoding="utf-8"))]
    dead = [f"{page.relative_to(root)}: {link}" for page, link in links if not (page.parent / link).exists()]
    assert pages
    assert dead == []


def test_a_link_is_told_from_an_address_and_an_anchor() -> None:
    assert LINK.findall("[a](b/c.md#d) [e](https://f.g) [h](#i) ![j](k.png)") == ["b/c.md", "k.png"]


def test_no_file_names_a_place_on_one_machine_or_a_package_index(sources: tuple[Path, ...], root: Path) -> None:
    named = [
        f"{path.relative_to(root)}: {found.group()}"
        for path in sources
        for found in MACHINE.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert named == []


def test_the_look_for_machines_would_see_one() -> None:
    for text in ("at /" + "home/ann/x", '"/' + 'opt/x"', "https:/" + "/pypi.org", "file:/" + "/srv/simple/torch"):
        assert MACHINE.search(text), text
    for text in ("models/opt/x", "https://example.com/home/ann", "${HOME}/root/x", "/tmp/x"):  # noqa: S108 - only read
        assert not MACHINE.search(text), text


def test_no_module_is_longer_than_an_afternoon(modules: tuple[Path, ...], root: Path) -> None:
    lines = {str(path.relative_to(root)): path.read_text(encoding="utf-8").count("\n") for path in modules}
    assert {name: count for name, count in lines.items() if count > MODULE_LINES} == {}


def test_no_function_is_longer_than_a_screen(modules: tuple[Path, ...], root: Path) -> None:
    bodies = {
        f"{path.relative_to(root)}:{node.lineno} {node.name}": _body_lines(node)
        for path in modules
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: count for name, count in bodies.items() if count > BODY_LINES} == {}


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring, which may have a line for each of many options."""
    first = function.body[1:2] if ast.get_docstring(function) else function.body[:1]
    return (function.end_lineno or 0) - first[0].lineno + 1 if first else 0
