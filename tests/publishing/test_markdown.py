"""Words of people in Markdown, read by a Markdown reader as Prefect's UI has one: with HTML allowed."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from tasks.markdown import code, escaped, table, to_html, to_text

HOSTILE = [
    "a|b | c |",
    "one\ntwo\n\n# three",
    '<img src="http://x/"><script>alert(1)</script>',
    "[here](http://x/) ![p](http://x/) <http://x/> [a]: http://x/",
    "**bold** _soft_ __x__ `code` ~~gone~~ ```fence```",
    "&lt;b&gt; &amp; <b>",
    "\\| \\* \\\\|",
    "# heading",
    "> said",
    "- item",
    "+ item",
    "---",
    "===",
    "1. first",
    "2) second",
    "<!-- unseen -->",
    "```mermaid",
]


def read(markdown: str) -> str:
    """Return HTML as a reader makes it that lets HTML through."""
    made: str = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)
    return made


def as_shown(words: str) -> str:
    shown = " ".join(words.split())
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        shown = shown.replace(sign, entity)
    return shown


@pytest.mark.parametrize("words", HOSTILE)
def test_words_are_shown_as_they_are_on_one_line_wherever_they_stand(words: str) -> None:
    assert read(escaped(words)) == f"<p>{as_shown(words)}</p>\n"
    assert read(f"**{escaped(f'x {words} x')}**") == f"<p><strong>{as_shown(f'x {words} x')}</strong></p>\n"


@pytest.mark.parametrize("words", HOSTILE)
def test_a_cell_shows_its_words_and_makes_no_other_cell(words: str) -> None:
    html = read(table(("metric", words), [(words, "1")]))

    assert f"<th>metric</th>\n<th>{as_shown(words)}</th>\n" in html
    assert f"<td>{as_shown(words)}</td>\n<td>1</td>\n" in html
    assert (html.count("<th>"), html.count("<td>"), html.count("<tr>")) == (2, 2, 2)


def test_plain_words_need_no_signs() -> None:
    for words in ("f1_score >= 0.97 is required, found 0.5", "digits:v2", "-0.25", "12.5", "a-b"):
        assert escaped(words) == words


@pytest.mark.parametrize("words", HOSTILE)
def test_code_is_one_span_whatever_is_in_it(words: str) -> None:
    html = read(code(words))

    assert html.startswith("<p><code>")
    assert html.endswith("</code></p>\n")
    assert html.count("<") == 4


@pytest.mark.parametrize("words", HOSTILE)
def test_a_mail_shows_words_in_both_of_its_forms(words: str) -> None:
    assert to_html(escaped(words)) == f"<p>{as_shown(words)}</p>\n"
    assert to_text(escaped(words)) == " ".join(words.split())
