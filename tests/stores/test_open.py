"""What ``open_store`` takes and refuses, without asking anything of a storage."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from registry.errors import InvalidInputError, MissingExtraError
from registry.store import open_store


@pytest.mark.parametrize(
    ("package", "extra", "cloud"), [("s3fs", "s3", "s3"), ("gcsfs", "gcs", "gs"), ("adlfs", "azure", "az")]
)
def test_a_client_that_is_not_installed_names_the_extra(
    package: str, extra: str, cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(
        MissingExtraError, match=rf"{package}, which is not installed: pip install 'modelway\[{extra}\]'"
    ):
        open_store(f"{cloud}://models")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("ftp://models/x", "no store is at ftp://: a registry is kept at a path, file://, memory://, s3://"),
        ("https://models/x", "no store is at https://"),
        ("simplecache::s3://models", "is a chained URL"),
        ("s3://models/x::file:///etc", "is a chained URL"),
        ("s3://key:s3cret@models/x", "credentials or an account in it is refused.*s3://models and give credentials"),
        ("az://models@account.dfs.core.windows.net/x", "account in it is refused"),
        ("s3://", "is not s3://BUCKET/PREFIX"),
        ("gs://../x", "is not gs://BUCKET/PREFIX"),
        ("s3://models/x?endpoint_url=http://evil", "is not s3://BUCKET/PREFIX; options are not part of the URL"),
        ("s3://models/x#1", "is not s3://BUCKET/PREFIX"),
        ("s3://models/a/../../b", "is no storage key"),
    ],
)
def test_a_location_that_could_reach_elsewhere_is_refused(location: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        open_store(location)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("deadline_s", [0, -1, "soon", float("nan")])
def test_a_deadline_that_is_none_is_refused(deadline_s: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"deadline_s is .*: give a number of seconds above 0"):
        open_store("s3://models", storage_options={"deadline_s": deadline_s})


def test_what_is_shown_of_a_store_holds_no_secret() -> None:
    store = open_store("abfs://models/below/", storage_options={"account_name": "me", "account_key": "c2VjcmV0"})

    assert repr(store) == "RemoteModelStore('az://models/below')"
    assert store.address("a/b") == "az://models/below/a/b"
    assert store.local_path("a/b") is None
    assert store.parallel == 8
