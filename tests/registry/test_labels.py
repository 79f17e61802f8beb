"""Version labels: which are one, which comes after which, what follows the greatest, and that a model keeps its way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import InMemoryRegistry, ModelRegistry, RegistryConfig
from registry.errors import InvalidInputError, InvalidVersionError, VersionExistsError
from registry.store import InMemoryModelStore
from registry.versions import (
    Bump,
    Strategy,
    canonical,
    label_of,
    near_labels,
    next_number,
    next_semantic,
    precedence,
    strategy_of,
)

numbers = st.integers(0, 20)
parts = st.one_of(st.integers(0, 20).map(str), st.from_regex(r"[a-zA-Z-][0-9a-zA-Z-]{0,4}", fullmatch=True))
suffixes = st.lists(parts, max_size=3).map(".".join)


@st.composite
def semantic_labels(draw: st.DrawFn) -> str:
    """Draw a semantic version without build metadata."""
    core = ".".join(str(draw(numbers)) for _ in range(3))
    return f"{core}-{suffix}" if (suffix := draw(suffixes)) else core


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, "1"), (1, "v1"), ("v1", "V1"), ("1.0.0", "v1.0.0"), ("1.0.0+cpu", "1.0.0+gpu"), ("v1.0.0+cpu", "1.0.0")],
)
def test_labels_that_nothing_orders_are_one_version(one: int | str, other: int | str) -> None:
    assert canonical(one) == canonical(other)
    assert precedence(one) == precedence(other)


@pytest.mark.parametrize(("one", "other"), [(1, "1.0.0"), ("1.0.0", "1.0.0-rc.1"), ("1.0.0-rc.1", "1.0.0-RC.1")])
def test_labels_that_are_two_versions(one: int | str, other: int | str) -> None:
    assert canonical(one) != canonical(other)


@given(semantic_labels())
def test_every_semantic_version_is_a_label_and_is_kept_as_it_was_given(label: str) -> None:
    assert canonical(label) == canonical(f"v{label}") == canonical(f"{label}+build.7") == label
    assert label_of(f" v{label}+build.7 ") == f"v{label}+build.7"
    assert strategy_of(label) is Strategy.SEMANTIC


@given(st.integers(1, 999_999_999))
def test_every_number_from_1_is_a_label(number: int) -> None:
    assert canonical(number) == canonical(str(number)) == canonical(f"v{number}") == str(number)
    assert label_of(number) == f"v{number}"
    assert strategy_of(number) is Strategy.AUTOMATIC


@given(st.text(max_size=12))
def test_anything_else_is_refused_by_name(text: str) -> None:
    try:
        key = canonical(text)
    except InvalidVersionError as error:
        assert repr(text) in str(error)  # noqa: PT017 - most texts are refused, some drawn ones are versions
    else:
        assert canonical(key) == key
        assert key in text


@pytest.mark.parametrize(
    "version", ["1٣.0.0", "1.0.0-" + "a" * 60, "9" * 5000 + ".0.0", "1.0.0-01", "1.0.0-", "1.0.0+"]
)
def test_what_looks_like_a_version_and_is_none_is_refused(version: str) -> None:
    with pytest.raises(InvalidVersionError, match="is no version: use a whole number") as caught:
        canonical(version)
    assert len(str(caught.value)) < 300


def test_the_order_is_that_of_the_specification() -> None:
    ordered = [
        "0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
        "1.0.0-rc.1", "1.0.0", "1.9.0", "1.10.0", "2.0.0-rc.1", "2.0.0",
    ]  # fmt: skip
    assert sorted(ordered[7:] + ordered[:7], key=precedence) == ordered
    assert [precedence(label) for label in ("9", "v10")] == sorted(precedence(label) for label in (10, 9))


@pytest.mark.parametrize(
    ("taken", "major", "minor", "patch"),
    [
        ([], "1.0.0", "1.0.0", "1.0.0"),
        (["1.2.3"], "2.0.0", "1.3.0", "1.2.4"),
        (["1.9.0", "1.10.0", "1.10.0-rc.1"], "2.0.0", "1.11.0", "1.10.1"),
        # A pre-release is on its way to the release that the bump asks for.
        (["1.9.0", "2.0.0-rc.1"], "2.0.0", "2.0.0", "2.0.0"),
        (["1.3.0-rc.1"], "2.0.0", "1.3.0", "1.3.0"),
        (["1.3.1-rc.1"], "2.0.0", "1.4.0", "1.3.1"),
        (["1.0.0"], "2.0.0", "1.1.0", "1.0.1"),
    ],
)
def test_a_bump_counts_up_the_greatest(taken: list[str], major: str, minor: str, patch: str) -> None:
    assert [next_semantic(taken, bump) for bump in (Bump.MAJOR, Bump.MINOR, Bump.PATCH)] == [major, minor, patch]


@given(st.lists(semantic_labels(), min_size=1), st.sampled_from(Bump))
def test_what_follows_is_greater_than_all_that_are_taken(taken: list[str], bump: Bump) -> None:
    following = next_semantic(taken, bump)
    assert all(precedence(following) > precedence(label) for label in taken)
    assert canonical(following) == following


@given(st.lists(st.integers(1, 10_000).map(str)))
def test_the_next_number_is_one_more_than_the_greatest(taken: list[str]) -> None:
    assert canonical(next_number(taken)) == str(max(map(int, taken), default=0) + 1)


@pytest.mark.parametrize(
    ("asked", "known", "meant"),
    [
        ("1", ["1.0.0", "1.1.0", "2.0.0"], ("1.1.0", "1.0.0")),
        ("v1", ["v1.0.0", "v10.0.0"], ("v1.0.0",)),
        ("1.2.1", ["0.9.0", "1.2.0"], ("1.2.0",)),
        ("v12", ["v1", "v7"], ("v1",)),
        ("v9", ["v1", "v2"], ()),
        ("champion", [], ()),
    ],
)
def test_a_label_that_is_not_there_has_neighbours(asked: str, known: list[str], meant: tuple[str, ...]) -> None:
    assert near_labels(asked, known) == meant


def labels(models: ModelRegistry, name: str = "digits") -> list[str]:
    """Return the labels of a model, in order of registration."""
    return [version.version for version in models.list_versions(name)]


def test_the_first_version_fixes_how_a_model_numbers_the_others() -> None:
    models = InMemoryRegistry()
    models.register("digits")
    with pytest.raises(InvalidVersionError, match=r"digits has automatic versions \(1, 2, 3\), and '1.0.0' is none"):
        models.register("digits", version="1.0.0")
    with pytest.raises(InvalidInputError, match="digits has automatic version numbers, and bump is for semantic"):
        models.register("digits", bump="minor")
    assert labels(models) == ["v1"]
    models.register("letters", version="0.1.0")
    with pytest.raises(InvalidVersionError, match=r"letters has semantic versions \(1.2.0\), and 2 is none"):
        models.register("letters", version=2)
    assert labels(models, "letters") == ["0.1.0"]


def test_versions_of_one_precedence_are_one_and_the_second_is_refused() -> None:
    models = InMemoryRegistry()
    models.register("digits", version="1.0.0+cpu")
    for taken in ("1.0.0+gpu", "1.0.0", "v1.0.0"):
        with pytest.raises(VersionExistsError, match=r"digits:1.0.0\+cpu is registered already"):
            models.register("digits", version=taken)
        assert models.get_version("digits", taken).version == "1.0.0+cpu"
    assert labels(models) == ["1.0.0+cpu"]


def test_latest_is_by_registration_and_the_next_one_by_precedence() -> None:
    models = InMemoryRegistry()
    for label in ("2.0.0", "1.4.1"):
        models.register("digits", version=label)
    latest = models.get_model("digits").latest_version
    assert latest is not None
    assert latest.version == "1.4.1"
    assert models.register("digits", bump="patch").version == "2.0.1"
    assert models.register("digits").version == "2.0.2"
    assert [version.ordinal for version in models.list_versions("digits")] == [1, 2, 3, 4]


def test_a_registry_may_begin_every_model_with_semantic_versions() -> None:
    models = ModelRegistry(store=InMemoryModelStore(), config=RegistryConfig.model_validate({"versioning": "semantic"}))
    assert [models.register("digits", bump=bump).version for bump in (None, "minor", "major")] == [
        "1.0.0", "1.1.0", "2.0.0",
    ]  # fmt: skip
