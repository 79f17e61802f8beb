"""Markdown from words that people wrote: nothing in them becomes markup, a link, HTML or a cell of a table.

Prefect's UI renders HTML that stands in Markdown (only scripts are taken out), so a name could else show a picture from
anywhere, or headings and tables that nobody measured.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"([\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_FIRST = re.compile(r"^(#|>|[-+=](?![\w.])|\d+(?=[.)](?:\s|$)))")
_ESCAPE = re.compile(r"\\([^A-Za-z0-9\s])")


def escaped(words: object) -> str:
    """Return words as Markdown that shows them on one line as they are, wherever it stands."""
    # At the beginning of a line some signs make a heading, a list, a quotation or a rule.
    return _FIRST.sub(lambda found: f"{found[1]}\\" if found[1].isdigit() else f"\\{found[1]}", _inline(words))


def _inline(words: object) -> str:
    line = _MARKUP.sub(r"\\\1", " ".join(str(words).split()))
    return line.replace("&", "&amp;").replace("<", "&lt;")


def code(words: object) -> str:
    """Return words as Markdown that shows them on one line in a fixed width; not for cells of a table."""
    return "`" + " ".join(str(words).split()).replace("`", "'") + "`"


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; its cells are shown as they are."""
    lines = [[_inline(cell) for cell in head], ["---"] * len(head), *([_inline(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def to_html(markdown: str) -> str:
    """Return Markdown as HTML for a mail: HTML in it is shown and not rendered, and no picture is fetched."""
    from markdown_it import MarkdownIt

    made: str = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(markdown)
    return made.replace("<table>", '<table border="1" cellpadding="5" style="border-collapse: collapse">')


def to_text(markdown: str) -> str:
    """Return Markdown as a plain mail shows it: tables stay, what was escaped is as it was written."""
    return html.unescape(_ESCAPE.sub(r"\1", markdown))
