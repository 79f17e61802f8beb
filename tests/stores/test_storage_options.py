"""Where the options of a bucket's client come from, and that what is wrong with them is told without a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry import RegistryConfig
from registry.config import configured_storage_options
from registry.errors import InvalidInputError

VARIABLE = "MODELWAY_STORAGE_OPTIONS"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of the test, with no options in the environment."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_options_come_from_the_environment_else_from_the_nearest_project(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert configured_storage_options() == {}

    (folder / "pyproject.toml").write_text(
        '[tool.modelway.storage_options]\nendpoint_url = "https://minio"\ndeadline_s = 5\n'
    )
    (folder / "below").mkdir()
    assert configured_storage_options(folder / "below") == {"endpoint_url": "https://minio", "deadline_s": 5}

    monkeypatch.setenv(VARIABLE, '{"profile": "models"}')
    assert configured_storage_options() == {"profile": "models"}


def test_a_config_adds_its_project_and_what_it_says_itself_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, '{"token": "anon", "deadline_s": 5}')
    config = RegistryConfig(project_id="research", bucket_name="models", storage_options={"deadline_s": 9})

    assert config.location == "gs://models"
    assert config.client_options == {"token": "anon", "project": "research", "deadline_s": 9}


@pytest.mark.parametrize("text", ["s3cret", '["s3cret"]', '"s3cret"', '{"key": s3cret}'])
def test_options_that_are_no_json_object_are_refused_without_showing_them(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, text)

    with pytest.raises(InvalidInputError, match=VARIABLE) as caught:
        configured_storage_options()
    assert "s3cret" not in str(caught.value)


def test_options_in_a_project_that_are_no_table_are_refused(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.modelway]\nstorage_options = "s3cret"\n')

    with pytest.raises(
        InvalidInputError, match=r"storage_options in .*pyproject\.toml must hold names and values"
    ) as caught:
        configured_storage_options()
    assert "s3cret" not in str(caught.value)


def test_a_printed_config_holds_no_secret() -> None:
    assert "s3cret" not in repr(RegistryConfig(url="s3://models", storage_options={"secret": "s3cret"}))
