"""What a model card says, and that nobody's words become a part of its form."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from registry import ModelRegistry
from registry.errors import IntegrityError
from registry.records import ModelVersion
from tasks.model_card import model_card
from tasks.publishing import files_link

SECTIONS = ["Metrics", "Parameters", "Lineage", "Files", "How to load it", "Approvals", "History"]


def test_a_card_tells_all_that_the_registry_knows_of_a_version(models: ModelRegistry) -> None:
    version = models.get_version("hand_digits", 1)
    assert version.artifact is not None

    card = model_card(models, version)

    assert card.startswith("# hand_digits:v1\n")
    assert re.findall(r"^## (.*)", card, flags=re.MULTILINE) == SECTIONS
    for line in (
        f"| stage | production since {version.stage_since:%Y-%m-%d %H:%M} UTC |",
        f"| registered | {version.created_at:%Y-%m-%d %H:%M} UTC by ada@example.com |",
        "| accuracy | 0.91 | sha256:da7a |",
        "| latency_ms | 2 | not said |",
        "| epochs | 30 |",
        "| sizes | \\[1, 2\\] |",
        "| code | 5f3a |",
        "| weights.bin | 2.0 kB | ",
        f"Digest of the artifact: `{version.artifact.digest}`",
        f"Place: `{version.artifact_path}`",
        "| approve | bob@example.com | asserted | ",
        " UTC | development | production | ada@example.com | good ",
    ):
        assert line in card, line


def test_the_lines_that_a_card_gives_load_the_model(models: ModelRegistry) -> None:
    program = re.search(r"```python\n(.*?)```", model_card(models, models.get_version("hand_digits", 2)), re.DOTALL)
    assert program is not None

    loaded = subprocess.run(
        [sys.executable, "-c", program.group(1) + "\nprint(len(model))"],
        check=True,
        capture_output=True,
        text=True,
    )

    assert loaded.stdout == "2000\n"


def test_words_of_people_make_no_heading_no_cell_no_link_and_no_html_in_a_card(models: ModelRegistry) -> None:
    card = model_card(models, models.get_version("hand_digits", 1))

    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(card)

    assert re.findall(r"<h\d>(.*?)</h\d>", html) == ["hand_digits:v1", *SECTIONS]
    for tag in ("<img", "<a ", "<strong"):
        assert tag not in html
    assert html.count("# Approved [go](http://x)") >= 6, "they are shown as they were written"
    cells = [len(re.findall(r"<t[hd]>", row)) for row in re.findall(r"<tr>.*?</tr>", html, re.DOTALL)]
    assert sorted(set(cells)) == [2, 3, 5], "each row has as many cells as the head of its table"


def test_a_card_of_changed_bytes_is_refused(models: ModelRegistry) -> None:
    version = models.get_version("hand_digits", 1)
    sidecar = Path(version.artifact_path.removeprefix("file://"), "metadata.json")
    sidecar.write_bytes(sidecar.read_bytes() + b" ")

    with pytest.raises(IntegrityError, match=r"metadata\.json is not what was recorded"):
        model_card(models, version)


def test_metadata_alone_has_a_card_too(models: ModelRegistry) -> None:
    models.register("numbers", metrics={"accuracy": 0.5})

    card = model_card(models, models.get_version("numbers", 1))

    assert "None: only metadata was registered." in card
    assert "## How to load it" not in card


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("gs://models/a b/models/x/v1", "https://console.cloud.google.com/storage/browser/models/a%20b/models/x/v1"),
        ("s3://models/r/v1", "https://s3.console.aws.amazon.com/s3/buckets/models?prefix=r%2Fv1/"),
        ("/data/registry/models/x/v1", None),
        ("az://models/r/v1", None),
    ],
)
def test_files_are_named_by_their_address_and_linked_where_a_browser_can_go(
    models: ModelRegistry, address: str, link: str | None
) -> None:
    version: ModelVersion = models.get_version("hand_digits", 1).model_copy(update={"artifact_path": address})

    markdown = files_link(version)

    assert markdown.startswith(f"`{address}`")
    assert re.findall(r"\]\(<(.*)>\)", markdown) == ([] if link is None else [link])
