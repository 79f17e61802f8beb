"""The grammar of names, held against a second description of it, and that what a refusal offers is accepted."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import InMemoryRegistry, ModelStage
from registry.errors import InvalidNameError
from registry.names import check_name

LETTERS, DIGITS = string.ascii_lowercase, string.digits
RESERVED = {"con", "prn", "aux", "nul", "latest", "models", "versions", "endpoints", "approvals", *ModelStage}
RESERVED |= {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
KINDS = st.sampled_from(["model", "alias", "endpoint"])


def is_reserved(name: str) -> bool:
    return name in RESERVED or (name[:1] == "v" and name[1:].isdigit())


def is_within_the_grammar(name: str) -> bool:
    """Return whether ``name`` is 1 to 63 letters and digits, a letter first, with single separators inside."""
    inside = all(char in LETTERS + DIGITS + "-_" for char in name)
    separate = not re.search("[-_]{2}", name) and name[-1:] not in {"-", "_"}
    return inside and separate and name[:1] in set(LETTERS) and 1 <= len(name) <= 63


@given(st.text(alphabet=LETTERS + DIGITS + "-_", max_size=70) | st.text(max_size=20), KINDS)
def test_a_name_is_accepted_where_both_descriptions_agree_that_it_is_one(name: str, kind: str) -> None:
    wanted = is_within_the_grammar(name) and not is_reserved(name)
    try:
        assert check_name(name, kind=kind) == name
    except InvalidNameError:
        assert not wanted
    else:
        assert wanted


@given(st.from_regex(r"[a-z](?:[a-z0-9]|[-_](?=[a-z0-9])){0,62}", fullmatch=True))
def test_what_is_accepted_is_one_part_of_a_path_everywhere(name: str) -> None:
    assert is_within_the_grammar(name)
    assert (Path("models") / name).parts == ("models", name)
    assert name == name.lower() == name.strip(". ")


@given(st.text(max_size=80) | st.sampled_from([*RESERVED, "v" + "1" * 62, "Latest", "CON", "x" * 80, "V2"]), KINDS)
def test_what_a_refusal_offers_is_accepted(name: str, kind: str) -> None:
    try:
        check_name(name, kind=kind)
    except InvalidNameError as error:
        offered = re.search(r" '([^']*)' would do\.$", str(error))
        if offered is not None:
            assert check_name(offered.group(1), kind=kind)


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("My Great  Model!", "'my-great-model' would do."),
        ("production", "'production-model' would do."),
        ("CON", "'con-model' would do."),
        ("v2", "'v2-model' would do."),
        ("x" * 70, f"'{'x' * 63}' would do."),
        ("123", "beginning with a letter."),
    ],
)
def test_a_refused_name_is_mended(name: str, mend: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_name(name)
    assert str(caught.value).endswith(mend)


def test_a_name_that_differs_only_in_its_separator_is_refused_and_makes_nothing() -> None:
    models = InMemoryRegistry()
    models.register("my-model")
    with pytest.raises(InvalidNameError, match="my-model"):
        models.register("my_model")
    assert models.list_models() == ["my-model"]
