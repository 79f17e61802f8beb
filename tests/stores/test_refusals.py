"""What a cloud answers is told as one of three things: not found, forbidden, unreachable; each with its mend."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from answering import answering, certificate_of_its_own
from emulators import AZURE_CONNECTION, Emulator

from registry import ModelStore
from registry.errors import (
    InvalidInputError,
    StoreError,
    StoreForbiddenError,
    StoreUnreachableError,
)
from registry.store import AlreadyExistsError, open_store

pytestmark = pytest.mark.heavy

CLOUDS = ("s3", "gs", "az")


def store_at(cloud: str, address: str, **options: Any) -> ModelStore:
    """Return a store of a cloud whose server is at ``address``."""
    known: dict[str, dict[str, Any]] = {
        "s3": {"key": "a", "secret": "b", "endpoint_url": address, "client_kwargs": {"region_name": "us-east-1"}},
        "gs": {"token": "anon", "endpoint_url": address},
        "az": {"connection_string": AZURE_CONNECTION.format(address=address)},
    }
    return open_store(f"{cloud}://models/x", storage_options={"deadline_s": 20, **known[cloud], **options})


def xml(code: str, more: str = "") -> str:
    """Return S3's form of an error."""
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said {code}</Message>{more}</Error>"


def said(status: int, message: str) -> str:
    """Return Google's form of an error."""
    return json.dumps({"error": {"code": status, "message": message}})


class Case(NamedTuple):
    """An answer, and how a read is told of it."""

    cloud: str
    status: int
    what: str
    error: type[Exception]
    message: str


CASES = [
    Case("s3", 403, xml("AccessDenied"), StoreForbiddenError, r"s3://models/x/a: these credentials may not do this"),
    Case("s3", 400, xml("ExpiredToken"), StoreForbiddenError, "the credentials have expired; renew them"),
    Case("s3", 403, xml("InvalidAccessKeyId"), StoreForbiddenError, r"does not know these credentials. .*AWS_\*"),
    Case("s3", 403, xml("SignatureDoesNotMatch"), StoreForbiddenError, "does not know these credentials"),
    Case("s3", 403, xml("RequestTimeTooSkewed"), StoreForbiddenError, "this machine's clock is too far off"),
    Case("s3", 301, xml("PermanentRedirect"), StoreError, "lies in another region.*region_name"),
    Case(
        "s3",
        400,
        xml("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
        StoreError,
        "lies in another region.*the bucket is in eu-west-1",
    ),
    Case("s3", 404, xml("NoSuchBucket"), StoreError, "s3://models/x: there is no such bucket.*create it, or correct"),
    Case("s3", 404, xml("NoSuchKey"), FileNotFoundError, "s3://models/x/a"),
    Case("s3", 501, xml("NotImplemented"), StoreUnreachableError, "overloaded or out of order"),
    Case("s3", 418, xml("Teapot"), StoreError, "the storage refused .418 Teapot: said Teapot"),
    Case("s3", 503, xml("ServiceUnavailable"), StoreUnreachableError, "overloaded or out of order"),
    Case("gs", 401, said(401, "Login required"), StoreForbiddenError, "does not know these credentials.*gcloud"),
    Case(
        "gs", 403, said(403, "no storage.objects.get"), StoreForbiddenError, "may not do this.*no storage.objects.get"
    ),
    Case("gs", 404, said(404, "no such bucket"), StoreError, "gs://models/x: there is no such bucket"),
    Case("gs", 400, said(400, "invalid argument"), StoreError, "the storage refused .400: invalid argument"),
    Case("az", 403, "AuthenticationFailed", StoreForbiddenError, "does not know these credentials.*az login"),
    Case("az", 403, "AuthorizationPermissionMismatch", StoreForbiddenError, "these credentials may not do this"),
    Case("az", 404, "ContainerNotFound", StoreError, "there is no such container"),
    Case("az", 404, "BlobNotFound", FileNotFoundError, "az://models/x/a"),
    Case("az", 429, "TooManyRequests", StoreUnreachableError, "overloaded or out of order"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.cloud}-{case.status}-{case.what[:40]}")
def test_an_answer_is_told_as_what_it_is(case: Case) -> None:
    headers = {"x-ms-error-code": case.what} if case.cloud == "az" else {"x-amz-bucket-region": "eu-west-1"}
    with answering(case.status, "" if case.cloud == "az" else case.what, headers) as address:
        store = store_at(case.cloud, address)

        with pytest.raises(case.error, match=case.message) as caught:
            store.read("a")

        assert type(caught.value) is case.error
        if case.error is StoreUnreachableError:
            return  # the client repeats each of these for seconds
        if case.error is FileNotFoundError:
            assert store.read_many(["a", "b"]) == [None, None]
        else:
            with pytest.raises(case.error):
                store.read_many(["a", "b"])
            with pytest.raises(case.error):
                store.list("")
            with pytest.raises(case.error):
                store.create("a", b"x")


@pytest.mark.parametrize(
    ("cloud", "status", "body", "headers"),
    [
        ("s3", 412, xml("PreconditionFailed"), {}),  # as servers that name no Condition
        ("s3", 412, xml("PreconditionFailed", "<Condition>If-None-Match</Condition>"), {}),
        ("gs", 412, said(412, "conditionNotMet"), {}),
        ("az", 409, "", {"x-ms-error-code": "BlobAlreadyExists"}),
        ("az", 412, "", {"x-ms-error-code": "ConditionNotMet"}),
    ],
)
def test_every_way_of_saying_that_a_key_is_taken_is_understood(
    cloud: str, status: int, body: str, headers: dict[str, str]
) -> None:
    with (
        answering(status, body, headers) as address,
        pytest.raises(AlreadyExistsError, match=rf"{cloud}://models/x/a exists already and is never overwritten"),
    ):
        store_at(cloud, address).create("a", b"x")


@pytest.mark.parametrize(
    ("cloud", "body", "headers"),
    [
        ("s3", xml("ConditionalRequestConflict"), {}),
        ("gs", said(409, "conflict"), {}),
        ("az", "", {"x-ms-error-code": "LeaseAlreadyPresent"}),
    ],
)
def test_a_writer_in_the_way_is_not_taken_for_a_winner(cloud: str, body: str, headers: dict[str, str]) -> None:
    with answering(409, body, headers) as address, pytest.raises(StoreError, match="was in the way") as caught:
        store_at(cloud, address).create("a", b"x")
    assert not isinstance(caught.value, AlreadyExistsError)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_server_that_never_answers_is_given_up_at_the_deadline(cloud: str) -> None:
    with answering(None) as address:
        store = store_at(cloud, address, deadline_s=0.5)
        for ask in (
            lambda: store.read("a"),
            lambda: store.read_many(["a", "b"]),
            lambda: store.list(""),
            lambda: list(store.chunks("a")),
            lambda: store.upload("a", iter([b"x"])),
        ):
            with pytest.raises(StoreUnreachableError, match=r"did not answer within 0.5 s.*deadline_s"):
                ask()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_nobody_at_the_address_is_unreachable_and_not_an_empty_registry(cloud: str) -> None:
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        store = store_at(cloud, f"http://127.0.0.1:{taken.getsockname()[1]}", deadline_s=4)

        with pytest.raises(StoreUnreachableError, match=r"cannot be reached: .*Connect call failed|did not answer"):
            store.read_many(["a"])


@pytest.mark.parametrize("cloud", ["s3", "az"])  # gcsfs tries for 34 s before it says why
def test_a_name_that_does_not_resolve_is_told_so(cloud: str) -> None:
    with pytest.raises(StoreUnreachableError, match="its name cannot be resolved"):
        store_at(cloud, "http://no-such-host.invalid").read("a")


@pytest.mark.parametrize("cloud", ["s3", "az"])
def test_a_certificate_that_is_not_trusted_is_told_so(cloud: str, tmp_path: Path) -> None:
    certificate = certificate_of_its_own(tmp_path / "certificate.pem")
    with (
        answering(200, certificate=certificate) as address,
        pytest.raises(StoreUnreachableError, match="the TLS connection failed"),
    ):
        store_at(cloud, address).read("a")


def test_no_credentials_at_all_is_forbidden_and_says_where_they_come_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))

    with pytest.raises(StoreForbiddenError, match=r"no usable credentials .*\. Credentials come from storage_options"):
        open_store("s3://models", storage_options={"endpoint_url": "http://127.0.0.1:9"}).read("a")
    with pytest.raises(StoreForbiddenError, match=r"could not be set up.*gcloud auth"):
        open_store("gs://models", storage_options={"token": "google_default"}).read("a")
    with pytest.raises(StoreForbiddenError, match=r"no usable credentials.*az login"):
        open_store("az://models", storage_options={"account_name": "a", "account_key": "x"}).read("a")


def test_options_that_the_client_cannot_use_are_told_without_their_values() -> None:
    with pytest.raises(InvalidInputError, match=r"s3fs does not take these storage_options.*no_such_option"):
        open_store("s3://models", storage_options={"no_such_option": 1, "anon": True}).read("a")
    for cloud, options in (
        ("gs", {"token": "a-secret-that-is-no-file"}),
        ("az", {"connection_string": "a-secret-that-is-no-file"}),
    ):
        store = open_store(f"{cloud}://models", storage_options=options)
        with pytest.raises(InvalidInputError, match=r"could not be set up.*Check storage_options") as caught:
            store.read_many(["a"])  # a missing key file is not a missing key
        assert "a-secret" not in str(caught.value)


@pytest.mark.parametrize("cloud", ["s3", "gcs", "azure"])
def test_a_missing_bucket_is_no_empty_registry(cloud: str, request: pytest.FixtureRequest) -> None:
    server: Emulator = request.getfixturevalue(cloud)
    store = open_store(f"{server.url}-not-there/x", storage_options=server.options)

    for ask in (
        lambda: store.read("a"),
        lambda: store.read_many(["a"]),
        lambda: store.list(""),
        lambda: store.create("a", b""),
        lambda: store.modified("a"),
        lambda: list(store.chunks("a")),
        lambda: store.upload("a", iter([bytes(9 << 20)])),
    ):
        with pytest.raises(StoreError, match=r"-not-there/x: there is no such (bucket|container)"):
            ask()
